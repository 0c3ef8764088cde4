//! The edge's commands: configuration that is refused with its line, secrets that are shown once, files
//! that are nobody else's.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use serde_json::Value;
use tests::http::{Ask, Version};
use tests::net::install_provider;
use tests::process;
use tests::wait;
use tests::world::{World, edge_command};

/// An unsafe or contradictory configuration is refused with the line at fault, exit 3, by `config check`
/// and by `serve` alike.
#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("edge.yml");
    for (text, line) in [
        ("# one\nlisten: 0.0.0.0:443\n", 2),
        ("listen: 127.0.0.1:0\nunknown_key: 1\n", 2),
        (
            "listen: 127.0.0.1:0\nsession_life: 1h\nsession_idle: 2h\n",
            3,
        ),
        ("listen: 127.0.0.1:0\n\ntrusted_proxies: ['0.0.0.0/0']\n", 3),
        ("domain: localhost\n", 1),
        ("listen: nonsense\n", 1),
        (
            "listen: 127.0.0.1:0\ncertificate: {cert: /nowhere/c.pem, key: /nowhere/k.pem}\n",
            2,
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        for command in [&["config", "check"][..], &["serve"][..]] {
            let mut edge = edge_command(dir.path());
            edge.args(command)
                .arg("--config")
                .arg(&file)
                .arg("--data-dir")
                .arg(dir.path().join("data"));
            let output = process::run(edge, b"").await;
            assert_eq!(
                output.code,
                Some(3),
                "{command:?} {text:?}: {}",
                output.all()
            );
            assert!(
                output.all().contains(&format!("edge.yml:{line}")),
                "{command:?} {text:?}: {}",
                output.all()
            );
        }
    }
    std::fs::write(&file, "listen: 127.0.0.1:0\nsession_life: 8h\n").unwrap();
    let mut edge = edge_command(dir.path());
    edge.args(["config", "check", "--config"]).arg(&file);
    let output = process::run(edge, b"").await;
    assert_eq!(output.code, Some(0), "{}", output.all());
}

/// Commands that need a running edge say so, exit 4; wrong words are usage, exit 2.
#[tokio::test(flavor = "multi_thread")]
async fn no_edge_no_command() {
    let dir = tempfile::tempdir().unwrap();
    for command in [
        &["status"][..],
        &["authtoken", "list"],
        &["api-key", "create"],
        &["provider", "list"],
        &["operator", "link"],
    ] {
        let mut edge = edge_command(dir.path());
        edge.args(command).arg("--data-dir").arg(dir.path());
        let output = process::run(edge, b"").await;
        assert_eq!(output.code, Some(4), "{command:?}: {}", output.all());
        assert!(
            output.all().contains("edge serve"),
            "the next step is named: {}",
            output.all()
        );
    }
    let mut edge = edge_command(dir.path());
    edge.arg("nonsense");
    assert_eq!(process::run(edge, b"").await.code, Some(2));
}

/// Secrets are shown once: lists carry none of them.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_once() {
    let world = World::with_login().await;
    let dev = world.dev.as_ref().unwrap();
    for command in [
        &["authtoken", "list"][..],
        &["api-key", "list"],
        &["provider", "list"],
        &["status"],
    ] {
        for json in [&[][..], &["--json"]] {
            let output = world.edge.cli(&[command, json].concat()).await;
            assert_eq!(output.code, Some(0), "{command:?}: {}", output.all());
            for secret in [world.authtoken.as_str(), &world.api.key, &dev.client_secret] {
                assert!(!output.all().contains(secret), "{command:?} shows a secret");
            }
        }
    }
    let keys = world.edge.cli(&["api-key", "list", "--json"]).await.json();
    tests::http::assert_keys(&keys[0], &["id", "description", "created_at", "revoked_at"]);
    let providers = world.edge.cli(&["provider", "list", "--json"]).await.json();
    let row = providers
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "dev")
        .unwrap();
    assert_eq!(row["issuer"], dev.issuer.as_str());
    assert_eq!(
        row["redirect_uri"],
        format!("{}/callback/dev", world.net.url("auth"))
    );
}

/// Nothing that the edge writes can be read by others; its socket is a socket, 0600; the process list
/// shows no secret.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_nobody_elses() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    world.signed_in("ada", &agent.url).await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.edge.data_dir), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&world.edge.data_dir).unwrap() {
        let path = entry.unwrap().path();
        let is_public = path
            .extension()
            .is_some_and(|ending| ending == "pem" || ending == "crt");
        if !is_public && path.is_file() || path.file_name().is_some_and(|name| name == "edge.sock")
        {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        names.push(path);
    }
    let socket = world.edge.data_dir.join("edge.sock");
    assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
    let command_line =
        std::fs::read(format!("/proc/{}/cmdline", world.edge.process.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&command_line).contains(&world.api.key));
    // Values in the store are sealed: what identifies a person is not in the file.
    let store = names
        .iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "redb"))
        .expect("the store");
    let bytes = std::fs::read(store).unwrap();
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    let cookie_secret = "ada@example.test";
    assert!(
        !holds(cookie_secret),
        "an e-mail address stands in the store"
    );
    assert!(!holds(&world.api.key), "an API key stands in the store");
    assert!(
        !holds(&world.dev.as_ref().unwrap().client_secret),
        "a client secret stands in the store"
    );
}

/// Two edges never share a data folder: the second says who holds it and leaves the first alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_has_one_edge() {
    let world = World::start().await;
    let _agent = world.agent("app", &[]).await;
    let mut second = edge_command(world.dir.path());
    second
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&world.edge.data_dir);
    let output = process::run(second, b"").await;
    assert!(matches!(output.code, Some(1 | 3)), "{}", output.all());
    assert!(
        output.all().contains(world.edge.data_dir.to_str().unwrap()),
        "it names the folder: {}",
        output.all()
    );
    assert_eq!(
        Ask::get(&world.net, "app", "/")
            .send(&world.net, Version::H1)
            .await
            .status,
        200
    );
    assert_eq!(
        world.edge.cli(&["status"]).await.code,
        Some(0),
        "the first edge's socket is still its own"
    );
}

/// An edge that was killed leaves a socket behind; the next start takes the folder over.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_edge_leaves_nothing_in_the_way() {
    let mut world = World::start().await;
    world.kill_edge().await;
    assert_eq!(world.edge.cli(&["status"]).await.code, Some(0));
}

/// With nothing configured there is a domain of its own on loopback, and the next three commands are said.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_configured() {
    let dir = tempfile::tempdir().unwrap();
    let mut edge = edge_command(dir.path());
    edge.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(dir.path().join("data"));
    let mut process = process::Process::start(edge, "edge", dir.path());
    process
        .event("the third step", |line| {
            line.as_str()
                .is_some_and(|line| line.contains("edge operator link"))
        })
        .await;
    let said: Vec<String> = process
        .events
        .all()
        .iter()
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect();
    let said = said.join("\n");
    for wanted in [
        "edge provider add",
        "edge authtoken create",
        ".localhost",
        "127.0.0.1",
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert_eq!(process.terminate().await.code(), Some(0));
}

/// Providers are added, listed and removed while the edge runs; one that cannot be discovered is refused.
#[tokio::test(flavor = "multi_thread")]
async fn providers_come_and_go() {
    let world = World::with_login().await;
    let refused = world
        .edge
        .cli_with(
            &[
                "provider",
                "add",
                "nowhere",
                "--issuer",
                "http://127.0.0.1:1",
                "--client-id",
                "x",
                "--client-secret-file",
                "-",
            ],
            b"s",
        )
        .await;
    assert_eq!(refused.code, Some(5), "{}", refused.all());
    let insecure = world
        .edge
        .cli_with(
            &[
                "provider",
                "add",
                "insecure",
                "--issuer",
                "http://idp.example.test",
                "--client-id",
                "x",
                "--client-secret-file",
                "-",
            ],
            b"s",
        )
        .await;
    assert!(
        matches!(insecure.code, Some(2 | 5)),
        "an issuer beyond loopback speaks https: {}",
        insecure.all()
    );
    let agent = world.login_agent("app").await;
    world.signed_in("ada", &agent.url).await;
    assert_eq!(
        world.edge.cli(&["provider", "remove", "dev"]).await.code,
        Some(0)
    );
    let list = world.edge.cli(&["provider", "list", "--json"]).await.json();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .all(|row| row["name"] != "dev"),
        "{list}"
    );
    let page = world.user("lin").visit(&agent.url).await;
    assert_eq!(page.reply.status, 503, "{}", page.reply.text());
    assert_eq!(page.reply.code(), "SP_2019");
}

/// A backup is a store that another edge can start from.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_can_be_started_from() {
    let world = World::with_login().await;
    let agent = world.login_agent("app").await;
    world.signed_in("ada", &agent.url).await;
    let file = world.dir.path().join("backup.redb");
    let output = world.edge.cli(&["backup", file.to_str().unwrap()]).await;
    assert_eq!(output.code, Some(0), "{}", output.all());
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = world.edge.cli(&["backup", file.to_str().unwrap()]).await;
    assert_ne!(again.code, Some(0), "a backup never writes over a file");

    let restored = world.dir.path().join("restored");
    std::fs::create_dir(&restored).unwrap();
    std::fs::set_permissions(&restored, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(&world.edge.data_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.extension().is_none_or(|ending| ending != "redb") {
            std::fs::copy(&path, restored.join(path.file_name().unwrap())).unwrap();
        }
    }
    let store = std::fs::read_dir(&world.edge.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "redb"))
        .unwrap();
    std::fs::copy(&file, restored.join(store.file_name().unwrap())).unwrap();
    let second = World::builder().data_dir(&restored).start().await;
    assert_eq!(second.net.domain, world.net.domain);
    let api = tests::api::Api::new(&second.net, &world.api.key);
    assert_eq!(
        api.user("ada@example.test").await["email"],
        "ada@example.test"
    );
    assert_eq!(api.sessions().await.len(), 1);
}

/// Certificate files are picked up again when they change, without a restart; a broken pair changes
/// nothing.
#[tokio::test(flavor = "multi_thread")]
async fn certificate_files_are_picked_up() {
    install_provider();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key, ca) = (
        dir.path().join("cert.pem"),
        dir.path().join("key.pem"),
        dir.path().join("ca.pem"),
    );
    let authority = Authority::new();
    std::fs::write(&ca, authority.cert.pem()).unwrap();
    authority.issue(&cert, &key, 1);
    let config = format!(
        "domain: tunnel.example.test\ncertificate:\n  cert: {}\n  key: {}\n",
        cert.display(),
        key.display()
    );
    let world = World::builder().config(&config).ca_file(&ca).start().await;
    assert!(world.ready["ca_file"].is_null(), "{}", world.ready);
    let _agent = world.agent("app", &[]).await;
    assert_eq!(
        Ask::get(&world.net, "app", "/")
            .send(&world.net, Version::H1)
            .await
            .status,
        200
    );
    assert_eq!(serial(&world).await, 1);
    std::fs::write(&key, "nonsense").unwrap();
    assert_eq!(serial(&world).await, 1);
    authority.issue(&cert, &key, 2);
    wait::until("the new certificate", || async {
        (serial(&world).await == 2).then_some(())
    })
    .await;
    assert_eq!(
        Ask::get(&world.net, "app", "/")
            .send(&world.net, Version::H2)
            .await
            .status,
        200
    );
}

/// `completion` and `man` write what shells and readers take; `status --json` is one object.
#[tokio::test(flavor = "multi_thread")]
async fn small_commands() {
    let world = World::start().await;
    for (command, wanted) in [
        (&["completion", "bash"][..], "complete"),
        (&["man"][..], ".TH"),
    ] {
        let mut edge = edge_command(world.dir.path());
        edge.args(command);
        let output = process::run(edge, b"").await;
        assert!(
            output.code == Some(0) && output.stdout.contains(wanted),
            "{command:?}"
        );
    }
    let status = world.edge.cli(&["status", "--json"]).await.json();
    assert!(status.is_object(), "{status}");
    assert_ne!(status, Value::Null);
}

/// A CA of the test's own, which signs for the domain and everything one label below.
struct Authority {
    cert: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Test CA");
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            cert,
            issuer: rcgen::Issuer::new(params, key),
        }
    }

    fn issue(&self, cert: &std::path::Path, key: &std::path::Path, serial: u64) {
        let names = vec![
            "tunnel.example.test".to_owned(),
            "*.tunnel.example.test".to_owned(),
        ];
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.serial_number = Some(serial.into());
        let own = rcgen::KeyPair::generate().unwrap();
        let signed = params.signed_by(&own, &self.issuer).unwrap();
        std::fs::write(cert, signed.pem()).unwrap();
        std::fs::write(key, own.serialize_pem()).unwrap();
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// The serial number of the certificate that is served now.
async fn serial(world: &World) -> u64 {
    let io = world
        .net
        .connect_h1(&world.net.host("app"))
        .await
        .expect("a handshake");
    let (_, session) = io.get_ref();
    let certificate = &session.peer_certificates().unwrap()[0];
    // DER: the serial is the first INTEGER after the version, [0] EXPLICIT.
    let at = certificate
        .windows(5)
        .position(|five| five == [0xa0, 3, 2, 1, 2])
        .unwrap()
        + 5;
    assert_eq!(certificate[at], 2);
    certificate[at + 2..at + 2 + usize::from(certificate[at + 1])]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
