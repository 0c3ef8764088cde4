//! The command line as people type it.

use super::*;

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn endpoint(line: &str) -> EndpointConfig {
    let cli = parse(line);
    let http = match cli.command {
        None => cli.http,
        Some(Command::Http(http)) => http,
        other => panic!("{other:?}"),
    };
    let Wanted::This(endpoint) = http.wanted() else {
        panic!("{line} starts by name");
    };
    *endpoint
}

#[test]
fn the_definition_holds() {
    command().debug_assert();
}

#[test]
fn a_bare_port_is_http() {
    assert_eq!(endpoint("agent 8080"), endpoint("agent http 8080"));
    let flags = "--oauth=google --oauth-allow-domain a.test,b.test --oauth-allow-domain c.test \
                 --oauth-allow-email ada@a.test --url my-app --pooling";
    let short = endpoint(&format!("agent 8080 {flags}"));
    assert_eq!(short, endpoint(&format!("agent http {flags} 8080")));
    let login = short.login.unwrap();
    assert_eq!(login.allow_domains, ["a.test", "b.test", "c.test"]);
    assert_eq!(login.allow_emails, ["ada@a.test"]);
    assert!(short.pooling);
}

#[test]
fn the_local_app_is_checked_unless_somebody_says_no() {
    let speak = |line: &str| endpoint(line).speak;
    assert_eq!(speak("agent 8080"), SpeakConfig::default());
    for line in [
        "agent https://localhost:8443 --upstream-tls-verify",
        "agent https://localhost:8443 --upstream-tls-verify=true",
    ] {
        assert!(speak(line).tls_verify, "{line}");
    }
    let all = "agent --upstream-tls-verify=false --upstream-protocol http2 --host-header rewrite \
               --upstream-ca a.pem https://localhost:8443";
    let wanted = SpeakConfig {
        protocol: UpstreamProtocol::Http2,
        host_header: HostHeader::Rewrite,
        tls_verify: false,
        ca: Some("a.pem".into()),
    };
    assert_eq!(speak(all), wanted);
}

#[test]
fn a_name_with_a_hyphen_is_the_edges_to_judge() {
    assert_eq!(
        endpoint("agent 8080 --url -no-").url.as_deref(),
        Some("-no-")
    );
}

#[test]
fn wrong_usage_is_refused() {
    for line in [
        "agent 8080 --oauth-allow-email ada@a.test",
        "agent http",
        "agent 8080 9090",
        "agent start",
        "agent start web --all",
        "agent config add-authtoken",
        "agent 8080 --authtoken t",
        "agent 8080 http 9090",
        "agent 8080 --upstream-protocol http3",
        "agent 8080 --upstream-tls-verify=perhaps",
    ] {
        let error = Cli::try_parse_from(line.split_whitespace()).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn the_log_is_off_unless_asked_for() {
    let log = |line: &str| parse(line).http.run.log().map(str::to_owned);
    assert_eq!(log("agent 8080"), None);
    assert_eq!(log("agent 8080 --log false"), None);
    assert_eq!(log("agent 8080 --log debug"), Some("debug".to_owned()));
}
