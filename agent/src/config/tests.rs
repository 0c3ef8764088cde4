//! What files, flags and the environment become, and what is refused where.

use std::os::unix::fs::PermissionsExt as _;

use proto::authtoken::TokenSecret;
use proto::id::AuthtokenId;

use super::*;

fn token(byte: u8) -> String {
    Authtoken {
        id: AuthtokenId::from_bytes([byte; 20]),
        secret: TokenSecret::new([byte; 32]),
        addrs: vec!["127.0.0.1:4443".to_owned()],
        server_name: "connect.lumen.localhost".to_owned(),
        link_ca_key: [byte; 32],
    }
    .to_text()
}

fn read(text: &str) -> file::FileConfig {
    file::read(text).unwrap_or_else(|wrong| panic!("{wrong:?} in\n{text}"))
}

fn given(wanted: Wanted) -> Given {
    Given {
        file: None,
        wanted,
        connect_urls: Vec::new(),
        ca: None,
        link: None,
        is_fail_fast: false,
    }
}

fn endpoint(upstream: &str) -> EndpointConfig {
    EndpointConfig {
        name: None,
        upstream: upstream.to_owned(),
        place: None,
        url: None,
        pooling: false,
        login: None,
        speak: SpeakConfig::default(),
        door: DoorConfig::default(),
    }
}

#[test]
fn version_3_is_read() {
    let config = read(
        "version: 3
agent:
  authtoken: t
  connect_url: edge.example.com:443
  connect_cas: /etc/ca.pem
  web_addr: false
  log_level: debug
endpoints:
  - name: web
    url: https://app.example.com
    pooling_enabled: true
    upstream:
      url: 8080
      protocol: http1
    oauth:
      provider: google
      allow_emails: [ada@example.test]
      allow_domains: example.test
  - name: api
    url:
    upstream: {url: 'http://localhost:3000'}
",
    );
    assert_eq!(config.authtoken.unwrap().expose(), "t");
    assert_eq!(config.connect_urls[0].0, "edge.example.com:443");
    assert_eq!(config.ca.unwrap().0, "/etc/ca.pem");
    let web = &config.endpoints[0];
    assert_eq!(web.upstream, "8080");
    assert_eq!(web.place.as_deref(), Some("13:12"));
    assert_eq!(web.url.as_deref(), Some("https://app.example.com"));
    assert!(web.pooling);
    let login = web.login.as_ref().unwrap();
    assert_eq!(login.provider, "google");
    assert_eq!(login.allow_emails, ["ada@example.test"]);
    assert_eq!(login.allow_domains, ["example.test"]);
    assert_eq!(config.endpoints[1].url, None);
}

#[test]
fn version_2_is_read() {
    let config = read(
        "version: \"2\"
authtoken: t
server_addr: edge.example.com:443
region: eu
console_ui: true
tunnels:
  web:
    proto: http
    addr: 8080
    subdomain: app
    schemes: [https]
    inspect: false
    oauth: {provider: google, allow_domains: [example.test]}
",
    );
    assert_eq!(config.authtoken.unwrap().expose(), "t");
    let web = &config.endpoints[0];
    assert_eq!(web.name.as_deref(), Some("web"));
    assert_eq!(web.upstream, "8080");
    assert_eq!(web.url.as_deref(), Some("app"));
    assert_eq!(web.login.as_ref().unwrap().allow_domains, ["example.test"]);
}

#[test]
fn how_the_local_app_is_spoken_to_is_read_by_either_name() {
    let wanted = SpeakConfig {
        protocol: UpstreamProtocol::Http2,
        host_header: HostHeader::Fixed("app.internal".to_owned()),
        tls_verify: false,
        ca: Some("/etc/app.pem".into()),
    };
    for text in [
        "tunnels:
  web:
    addr: https://localhost:8443
    app_protocol: http2
    host_header: app.internal
    upstream_tls_verify: false
    upstream_tls_verify_cas: /etc/app.pem
",
        "endpoints:
  - name: web
    upstream: {url: 'https://localhost:8443', protocol: http2}
    host_header: app.internal
    verify_upstream_tls: false
    upstream_ca: /etc/app.pem
",
        "endpoints:
  - name: web
    upstream: {url: 'https://localhost:8443'}
    upstream_protocol: http2
    host_header: app.internal
    upstream_tls_verify: false
    upstream_ca: /etc/app.pem
",
    ] {
        assert_eq!(read(text).endpoints[0].speak, wanted, "{text}");
    }
    let plain = "endpoints:\n  - name: web\n    upstream: {url: 1}\n    host_header: rewrite\n";
    let speak = &read(plain).endpoints[0].speak;
    assert_eq!(speak.host_header, HostHeader::Rewrite);
    assert!(
        speak.tls_verify,
        "an app is checked unless somebody says no"
    );
}

#[test]
fn nothing_is_a_configuration_too() {
    for text in ["", "# a comment\n", "version: 3\n", "agent:\n"] {
        assert_eq!(read(text).endpoints, [], "{text:?}");
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    let table: &[(&str, u64, &str)] = &[
        (
            "agnet:\n",
            1,
            "\"agnet\" is not a key of the file; it knows: version, agent",
        ),
        ("version: 4\n", 1, "versions 2 and 3"),
        ("authtoken: x\n", 1, "belongs under agent: in version 3"),
        (
            "agent:\n  authtokn: x\n",
            2,
            "it knows: authtoken, connect_url",
        ),
        ("agent: x\n", 1, "mapping"),
        ("agent:\n  authtoken: [a]\n", 2, "single value"),
        (
            "agent:\n  socks5_proxy: socks5://p\n",
            2,
            "does not work yet",
        ),
        ("agent:\n  link: udp\n", 2, "auto, quic or tls"),
        ("agent:\n  connect_cas: host\n", 2, "pin"),
        (
            "version: 2\nagent:\n  authtoken: x\n",
            2,
            "not a key of version 2",
        ),
        ("endpoints:\n  web: 1\n", 2, "must be a list"),
        ("endpoints:\n  - upstream: {url: 1}\n", 2, "no name"),
        ("endpoints:\n  - name: web\n", 2, "no local app"),
        (
            "endpoints:\n  - name: web\n    upstream: {url: 1, protocol: http3}\n",
            3,
            "http1 or http2",
        ),
        (
            "endpoints:\n  - name: web\n    upstream: {url: 1}\n    traffic_policy: x\n",
            4,
            "does not work yet",
        ),
        (
            "endpoints:\n  - name: web\n    upstream: {url: 1}\n    bindings: [internal]\n",
            4,
            "does not work yet",
        ),
        (
            "endpoints:\n  - name: a\n    upstream: {url: 1}\n  - name: a\n    upstream: {url: 2}\n",
            4,
            "two endpoints",
        ),
        ("tunnels:\n  web: {proto: udp, addr: 22}\n", 2, "udp"),
        (
            "tunnels:\n  web: {addr: 22, basic_auth: [a]}\n",
            2,
            "does not work yet",
        ),
        (
            "tunnels:\n  web: {addr: 22, schemes: [http]}\n",
            2,
            "does not work yet",
        ),
        (
            "tunnels:\n  web: {addr: 22, oauth: {}}\n",
            2,
            "needs a provider",
        ),
        (
            "tunnels:\n  web: {addr: 22, oauth: {provider: g, scopes: [x]}}\n",
            2,
            "does not work yet",
        ),
        ("a: 1\na: 2\n", 2, "occurs twice"),
        ("agent: [\n", 1, "not readable as YAML"),
        ("a: 1\n---\nb: 2\n", 3, "not readable as YAML"),
    ];
    for (text, line, part) in table {
        let wrong = file::read(text).expect_err(text);
        assert_eq!(wrong.place.line, *line, "{text}{wrong:?}");
        assert!(wrong.why.contains(part), "{text}{wrong:?}");
    }
}

#[test]
fn a_token_in_the_wrong_place_is_not_quoted() {
    let secret = token(7);
    let texts = [
        secret.clone(),
        format!("authtoken {secret}"),
        format!("{secret}: x\n"),
        format!("agent:\n  {secret}: x\n"),
        format!("agent:\n  authtoken: {secret}\n  authtoken: {secret}\n"),
        format!("agent:\n  authtoken: \"{secret}\n"),
        format!("agent: {secret}\n"),
    ];
    for text in texts {
        let wrong = file::read(&text).expect_err(&text);
        assert!(!wrong.why.contains("sp_at_"), "{wrong:?}");
    }
}

#[test]
fn the_authtoken_never_shows() {
    let secret = token(7);
    let environment = Environment {
        authtoken: Some(SecretText::new(secret)),
        ..Environment::default()
    };
    let given = given(Wanted::This(Box::new(endpoint("8080"))));
    let config = Config::load(given, &environment).unwrap();
    for shown in [
        format!("{environment:?}"),
        format!("{config:?}"),
        format!("{:?}", config.authtoken().unwrap()),
    ] {
        let secret = TokenSecret::new([7; 32]).to_text();
        assert!(!shown.contains(&secret), "{shown}");
    }
}

#[test]
fn the_authtoken_is_chosen_in_order() {
    let (ours, file, ngrok) = (&*token(1), &*token(2), &*token(3));
    let table = [
        [Some(ours), Some(file), Some(ngrok), Some(ours)],
        [None, Some(file), Some(ngrok), Some(ngrok)],
        [None, Some(file), Some("2abc_of_ngrok"), Some(file)],
        [None, Some(file), None, Some(file)],
        [None, None, Some("2abc_of_ngrok"), Some("2abc_of_ngrok")],
        [None, None, None, None],
    ];
    for [ours, file, ngrok, expected] in table {
        let secret = |text: Option<&str>| text.map(|text| SecretText::new(text.to_owned()));
        let environment = Environment {
            authtoken: secret(ours),
            ngrok_authtoken: secret(ngrok),
            ..Environment::default()
        };
        let chosen = choose_authtoken(&environment, secret(file));
        let chosen = chosen.map(|(token, _)| token.expose().to_owned());
        assert_eq!(chosen.as_deref(), expected);
    }
}

#[test]
fn each_kind_of_missing_authtoken_has_its_code() {
    let key = "sp_ak_000000000000000000000000000_x";
    let table = [
        (None, Code::AuthtokenMissing),
        (Some("rubbish"), Code::AuthtokenMalformed),
        (Some(key), Code::AuthtokenIsApiKey),
    ];
    for (text, code) in table {
        let environment = Environment {
            authtoken: text.map(|text| SecretText::new(text.to_owned())),
            ..Environment::default()
        };
        let given = given(Wanted::This(Box::new(endpoint("8080"))));
        let config = Config::load(given, &environment).unwrap();
        let error = config.authtoken().unwrap_err();
        assert_eq!(error.code, code);
        assert!(!error.next_step.is_empty());
        assert!(!error.message.contains("rubbish"));
    }
}

#[test]
fn the_file_is_found_in_order() {
    let environment = Environment {
        file: Some("/env.yml".into()),
        config_home: Some("/xdg".into()),
        home: Some("/home/ada".into()),
        ..Environment::default()
    };
    let path = |flag: Option<&str>, environment: &Environment| {
        path_of(flag.map(Path::new), environment).map(|path| path.display().to_string())
    };
    assert_eq!(path(Some("/a.yml"), &environment).unwrap(), "/a.yml");
    assert_eq!(path(None, &environment).unwrap(), "/env.yml");
    let environment = Environment {
        file: None,
        ..environment
    };
    assert_eq!(
        path(None, &environment).unwrap(),
        "/xdg/sallyport/agent.yml"
    );
    let environment = Environment {
        config_home: None,
        ..environment
    };
    assert_eq!(
        path(None, &environment).unwrap(),
        "/home/ada/.config/sallyport/agent.yml"
    );
    assert_eq!(path(None, &Environment::default()), None);
}

#[test]
fn a_named_file_must_exist() {
    let given = Given {
        file: Some("/nonexistent/agent.yml".into()),
        ..given(Wanted::This(Box::new(endpoint("8080"))))
    };
    let error = Config::load(given, &Environment::default()).unwrap_err();
    assert_eq!(error.code, Code::ConfigInvalid);
    assert!(error.message.contains("/nonexistent/agent.yml"));
}

#[test]
fn edges_are_named_in_several_ways() {
    let table = [
        ("127.0.0.1:4443", Some("127.0.0.1:4443")),
        ("edge.example.com", Some("edge.example.com:443")),
        (
            "https://edge.example.com:8443/",
            Some("edge.example.com:8443"),
        ),
        ("[::1]:4443", Some("[::1]:4443")),
        ("edge.example.com:0", None),
        ("edge.example.com/path", None),
        ("http://edge", None),
        ("", None),
        ("a b", None),
    ];
    for (text, expected) in table {
        assert_eq!(connect_addr(text, None).ok().as_deref(), expected, "{text}");
    }
}

#[test]
fn an_authtoken_is_added_and_the_rest_stays() {
    let table = [
        ("", "version: 3\nagent:\n  authtoken: T\n"),
        (
            "# mine\nversion: 3\n",
            "# mine\nversion: 3\nagent:\n  authtoken: T\n",
        ),
        (
            "agent:\n  authtoken: old # was it\n  log: false\n",
            "agent:\n  authtoken: T\n  log: false\n",
        ),
        (
            "agent:\n    # home\n    log: false\nendpoints:\n  - name: a\n    upstream: {url: 1}\n",
            "agent:\n    # home\n    authtoken: T\n    log: false\nendpoints:\n  - name: a\n    upstream: {url: 1}\n",
        ),
        (
            "agent:\nversion: 3\n",
            "agent:\n  authtoken: T\nversion: 3\n",
        ),
        ("version: 2\nlog: x", "version: 2\nlog: x\nauthtoken: T\n"),
        (
            "version: 2\nauthtoken:\nlog: x\n",
            "version: 2\nauthtoken: T\nlog: x\n",
        ),
    ];
    let (folder, token) = (tempfile::tempdir().unwrap(), token(5));
    for (at, (before, after)) in table.into_iter().enumerate() {
        let path = folder.path().join(format!("new/{at}/agent.yml"));
        if !before.is_empty() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, before).unwrap();
        }
        add_authtoken(
            &SecretText::new(format!(" {token}\n")),
            Some(&path),
            &Environment::default(),
        )
        .unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert_eq!(written.replace(&token, "T"), after);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let checked = check(Some(&path), &Environment::default()).unwrap();
        assert!(!checked.is_exposed);
        assert!(checked.authtoken.unwrap().starts_with("cr_"));
    }
}

#[test]
fn a_file_that_cannot_be_edited_safely_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.yml");
    let secret = SecretText::new(token(5));
    for before in [
        "agent: {log: false}\n",
        "{}\n",
        "agent:\n  authtoken: |\n    old\n",
        "agent:\n  nonsense: 1\n",
    ] {
        fs::write(&path, before).unwrap();
        let error = add_authtoken(&secret, Some(&path), &Environment::default());
        let error = error.expect_err(before);
        assert_eq!(error.code, Code::ConfigInvalid);
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }
    let rubbish = SecretText::new("rubbish".to_owned());
    let error = add_authtoken(&rubbish, Some(&path), &Environment::default()).unwrap_err();
    assert_eq!(error.code, Code::AuthtokenMalformed);
}

#[test]
fn endpoints_are_started_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.yml");
    fs::write(
        &path,
        "endpoints:\n  - {name: a, upstream: {url: 1}}\n  - {name: b, upstream: {url: 2}}\n",
    )
    .unwrap();
    let load = |wanted| {
        let given = Given {
            file: Some(path.clone()),
            ..given(wanted)
        };
        Config::load(given, &Environment::default())
    };
    let names = |config: Config| {
        let endpoints = config.endpoints.into_iter();
        endpoints
            .filter_map(|endpoint| endpoint.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(load(Wanted::All).unwrap()), ["a", "b"]);
    assert_eq!(
        names(load(Wanted::Named(vec!["b".to_owned()])).unwrap()),
        ["b"]
    );
    let error = load(Wanted::Named(vec!["c".to_owned()])).unwrap_err();
    assert_eq!(error.next_step, "choose one of these: a, b");
}

/// Flag, environment, file; a proxy that is named rules QUIC out; nothing of its URL is shown.
#[test]
fn links_and_proxies_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.yml");
    let load = |text: &str, flag: Option<LinkChoice>, environment: Environment| {
        fs::write(&path, format!("version: 3\nagent:\n{text}")).unwrap();
        let given = Given {
            file: Some(path.clone()),
            link: flag,
            ..given(Wanted::This(Box::new(endpoint("8080"))))
        };
        Config::load(given, &environment)
    };
    let variable = |link: &str| Environment {
        link: Some(link.to_owned()),
        ..Environment::default()
    };
    let none = Environment::default;
    let link = |text: &str, flag, environment| load(text, flag, environment).unwrap().link;
    assert_eq!(link("  log: false\n", None, none()), LinkChoice::Auto);
    assert_eq!(link("  link: tls\n", None, none()), LinkChoice::Tls);
    assert_eq!(
        link("  link: tls\n", None, variable("quic")),
        LinkChoice::Quic
    );
    let flag = Some(LinkChoice::Auto);
    assert_eq!(
        link("  link: tls\n", flag, variable("quic")),
        LinkChoice::Auto
    );
    assert_eq!(
        load("  link: tls\n", None, variable("udp"))
            .unwrap_err()
            .code,
        Code::ConfigInvalid
    );

    let proxy = "  proxy_url: http://ada:s3cret@proxy.test:3128\n";
    let config = load(proxy, None, none()).unwrap();
    assert!(config.proxies.is_explicit());
    assert!(!format!("{config:?}").contains("s3cret"));
    for (text, flag, environment) in [
        (proxy, Some(LinkChoice::Quic), none()),
        ("  proxy_url: https://ada:s3cret@proxy.test\n", None, none()),
        ("  http_proxy: ada:s3cret@:1\n", None, none()),
        (
            "  log: false\n",
            None,
            Environment {
                https_proxy: Some(SecretText::new("socks5://ada:s3cret@p".to_owned())),
                ..none()
            },
        ),
    ] {
        let error = load(text, flag, environment).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid);
        let shown = format!("{error:?}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
