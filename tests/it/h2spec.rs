//! The edge's HTTP/2 by the cases of h2spec, which nobody here wrote.

use std::path::PathBuf;
use std::process::Stdio;

use tests::require;
use tests::wait;
use tests::world::World;
use tokio::process::Command;

/// Cases that come out otherwise, with the reason. Every other case passes.
const EXPECTED: &[(&str, &str)] = &[];

/// An endpoint without a login, through a real edge and agent: every case passes, or is on the list.
#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_or_is_listed() {
    let Some(h2spec) = program() else {
        require::missing("h2spec", "h2spec::every_case_passes_or_is_listed");
        return;
    };
    let Some(unshare) = require::program("unshare", "h2spec::every_case_passes_or_is_listed")
    else {
        return;
    };
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let host = world.net.host("app");
    // The name must be the one in TLS and in `:authority`, and resolve: a file of hosts of its own.
    let hosts = world.dir.path().join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 {host}\n")).unwrap();
    let report = world.dir.path().join("h2spec.xml");
    let script = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;
    let mut command = Command::new(unshare);
    command
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(&hosts)
        .arg(h2spec)
        .args([
            "--host",
            &host,
            "--port",
            &world.net.addr.port().to_string(),
        ])
        .args([
            "--tls",
            "--insecure",
            "--strict",
            "--path",
            "/big?n=100",
            "--timeout",
            "5",
        ])
        .arg("--junit-report")
        .arg(&report)
        .env("GODEBUG", "netdns=go")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ran = tokio::time::timeout(5 * wait::DEADLINE, command.output()).await;
    let ran = ran.expect("h2spec ends").expect("h2spec runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    let report = std::fs::read_to_string(&report)
        .unwrap_or_else(|error| panic!("{error}: {said}{}", String::from_utf8_lossy(&ran.stderr)));
    let (mut passed, mut unexpected) = (0, Vec::new());
    for (name, has_failed) in cases(&report) {
        let is_listed = EXPECTED.iter().any(|(listed, _)| *listed == name);
        if has_failed != is_listed {
            unexpected.push(name);
        } else if !has_failed {
            passed += 1;
        }
    }
    assert!(
        unexpected.is_empty(),
        "not as listed: {unexpected:#?}\n{said}"
    );
    // Fewer would mean that it was not asked.
    assert!(passed >= CASES_MIN, "{passed} cases passed: {said}");
}

/// Name and outcome of each case in a JUnit report, one a line.
fn cases(report: &str) -> Vec<(String, bool)> {
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        rest.split('"').next().map(str::to_owned)
    };
    let mut cases = Vec::new();
    for line in report.lines().map(str::trim) {
        if line.starts_with("<testcase") {
            let package = attribute(line, " package").unwrap_or_default();
            let name = attribute(line, "classname").unwrap_or_default();
            cases.push((format!("{package}: {name}"), false));
        }
        if line.contains("<failure") || line.contains("<error") || line.contains("<skipped") {
            cases.last_mut().expect("a case").1 = true;
        }
    }
    cases
}

/// In the path, or where `cargo xtask test` puts it.
fn program() -> Option<PathBuf> {
    let built = require::package_dir().join("../target/tools/h2spec");
    require::find("h2spec").or_else(|| built.is_file().then_some(built))
}

/// What version 2.2 has: generic, HTTP/2 and HPACK, with the strict ones.
const CASES_MIN: usize = 146;
