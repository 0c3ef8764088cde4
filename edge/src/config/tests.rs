//! What is accepted, and what is refused at which line.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn load(folder: &Path, text: &str) -> Result<Settings, String> {
    let file = folder.join("edge.yml");
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    Settings::load(
        Some(&file),
        Overrides {
            data_dir: Some(folder.join("data")),
            ..Overrides::default()
        },
        KeyEnvironment::default(),
    )
    .map_err(|error| error.to_string())
}

/// Without any configuration the edge runs on loopback with a word of its own and keeps its key.
#[test]
fn nothing_configured_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let overrides = Overrides {
        data_dir: Some(data_dir.clone()),
        ..Overrides::default()
    };
    let settings = Settings::load(None, overrides, KeyEnvironment::default()).unwrap();
    assert!(settings.listen.ip().is_loopback());
    assert_eq!(settings.session_life, Duration::from_hours(24));
    assert_eq!(settings.session_idle, Some(Duration::from_hours(4)));
    let first = settings.prepare().unwrap();
    let again = settings.prepare().unwrap();
    assert!(first.domain.ends_with(".localhost"));
    assert_eq!(first.domain, again.domain);
    assert_eq!(first.cluster_key.to_text(), again.cluster_key.to_text());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir), 0o700);
    assert_eq!(mode(&data_dir.join("cluster.key")), 0o600);
    assert!(!format!("{settings:?}{first:?}").contains(first.cluster_key.to_text().expose()));
}

/// A public edge with all that it needs.
#[test]
fn a_public_edge() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let text = "listen: 0.0.0.0:443\ndomain: Tunnel.Example.com\nadvertise: ['connect.example.com:443']\n\
                certificate:\n  cert: cert.pem\n  key: key.pem\nsession_life: 8h\nsession_idle: off\n";
    let settings = load(folder.path(), text).unwrap();
    assert_eq!(settings.domain(), Some("tunnel.example.com"));
    assert_eq!(
        settings.certificate.unwrap().cert,
        folder.path().join("cert.pem")
    );
    assert_eq!(settings.session_idle, None);
}

/// Everything unsafe or contradictory is refused, with the line at fault.
#[test]
fn refusals_name_the_line() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cert.pem", "key.pem"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let certificate = "certificate: {cert: cert.pem, key: key.pem}\n";
    for (text, line, words) in [
        ("\nlisten: 0.0.0.0:443\n".to_owned(), 2, "domain"),
        (
            "listen: 0.0.0.0:443\ndomain: demo.localhost\n".to_owned() + certificate,
            2,
            ".localhost",
        ),
        (
            "domain: example.com\nlisten: '[::]:443'\n".to_owned(),
            2,
            "certificate",
        ),
        ("domain: localhost\n".to_owned(), 1, "*.localhost"),
        ("domain: 'a_b.example'\n".to_owned(), 1, "no domain"),
        ("domain: example\n".to_owned(), 1, "two labels"),
        ("domain: 192.0.2.1\n".to_owned(), 1, "two labels"),
        ("listen: localhost\n".to_owned(), 1, "ADDRESS:PORT"),
        (
            "session_life: 1h\nsession_idle: 2h\n".to_owned(),
            2,
            "session_life",
        ),
        ("session_life: 24\n".to_owned(), 1, "duration"),
        ("header_timeout: 0s\n".to_owned(), 1, "possible"),
        ("workers: 0\n".to_owned(), 1, "cores"),
        ("public_port: 0\n".to_owned(), 1, "0"),
        ("connections_per_address: 0\n".to_owned(), 1, "0"),
        ("advertise: [nowhere]\n".to_owned(), 1, "HOST:PORT"),
        ("geoip: nowhere.mmdb\n".to_owned(), 1, "nowhere.mmdb"),
        (
            "certificate:\n  cert: cert.pem\n  key: absent.pem\n".to_owned(),
            3,
            "absent.pem",
        ),
        (
            "certificate: {cert: key.pem, key: key.pem}\n".to_owned(),
            1,
            "same file",
        ),
        ("certificate: {cert: cert.pem}\n".to_owned(), 1, "key"),
        // Trusting forwarding headers from anywhere is not on offer.
        (
            "listen: 127.0.0.1:1\ntrusted_proxies: 0.0.0.0/0\n".to_owned(),
            2,
            "trusted_proxies",
        ),
        ("workers: many\n".to_owned(), 1, "whole number"),
        (
            "workers: 1\nworkers: 2\n".to_owned(),
            2,
            "`workers` occurs twice",
        ),
        ("workers 1\n".to_owned(), 1, "keys with values"),
        ("  workers: 1\n listen: x\n".to_owned(), 2, "indentation"),
        (certificate.to_owned(), 1, "set domain"),
    ] {
        let error = load(folder.path(), &text).expect_err(&text);
        assert!(
            error.contains(&format!("edge.yml:{line}:")),
            "{text} gives {error}"
        );
        assert!(error.contains(words), "{text} gives {error}");
    }
}

/// A certificate that cannot serve the domain is a mistake of the configuration, at its line.
#[test]
fn certificates_must_serve_the_domain() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["*.example.test".to_owned()]).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("cert.pem", &made.cert.pem());
    write("key.pem", &made.signing_key.serialize_pem());
    write(
        "other.pem",
        &rcgen::KeyPair::generate().unwrap().serialize_pem(),
    );
    let open = |domain: &str, key: &str| {
        let text = format!("domain: {domain}\ncertificate:\n  cert: cert.pem\n  key: {key}\n");
        let opened = load(folder.path(), &text).unwrap().open_certificate(domain);
        opened.map_err(|error| error.to_string())
    };
    assert!(open("example.test", "key.pem").unwrap().is_some());
    let elsewhere = open("elsewhere.test", "key.pem").unwrap_err();
    assert!(
        elsewhere.contains("edge.yml:3: ") && elsewhere.contains("auth.elsewhere.test"),
        "{elsewhere}"
    );
    let mismatch = open("example.test", "other.pem").unwrap_err();
    assert!(mismatch.contains("edge.yml:3: "), "{mismatch}");
}

/// A cluster key in two places leaves open which one counts; a malformed one is no key.
#[test]
fn cluster_keys() {
    let folder = tempfile::tempdir().unwrap();
    let key = ClusterKey::generate().to_text();
    let file = folder.path().join("key");
    std::fs::write(&file, key.expose()).unwrap();
    let load = |key: Option<&str>, file: Option<&Path>| {
        let environment = KeyEnvironment {
            key: key.map(|text| Secret::new(text.to_owned())),
            file: file.map(Path::to_owned),
        };
        let overrides = Overrides {
            data_dir: Some(folder.path().join("data")),
            ..Overrides::default()
        };
        Settings::load(None, overrides, environment).and_then(|settings| settings.prepare())
    };
    assert_eq!(
        load(Some(key.expose()), None)
            .unwrap()
            .cluster_key
            .to_text(),
        key
    );
    assert_eq!(load(None, Some(&file)).unwrap().cluster_key.to_text(), key);
    let both = load(Some(key.expose()), Some(&file))
        .unwrap_err()
        .to_string();
    assert!(
        both.contains(ENV_KEY) && !both.contains(key.expose()),
        "{both}"
    );
    let wrong = load(Some("too short"), None).unwrap_err().to_string();
    assert!(
        wrong.contains(ENV_KEY) && !wrong.contains("too short"),
        "{wrong}"
    );
}

/// A folder with somebody's things in it that others may enter is neither used nor changed.
#[test]
fn open_folders_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let prepare = |path: &Path| {
        let overrides = Overrides {
            data_dir: Some(path.to_owned()),
            ..Overrides::default()
        };
        Settings::load(None, overrides, KeyEnvironment::default())
            .unwrap()
            .prepare()
    };
    let used = folder.path().join("used");
    std::fs::create_dir(&used).unwrap();
    std::fs::write(used.join("diary"), "").unwrap();
    open(&used);
    assert!(
        prepare(&used)
            .unwrap_err()
            .next_step()
            .contains("chmod 700")
    );
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    open(&empty);
    prepare(&empty).unwrap();
    assert_eq!(
        std::fs::metadata(&empty).unwrap().permissions().mode() & 0o777,
        0o700
    );
}
