//! The development CA: what it covers, how it is kept, and what it cannot be used for.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, Issuer, KeyPair};
use x509_parser::extensions::GeneralName;

use super::*;

/// Browsers that trust it open the domain and every name one label below it.
#[test]
fn names_of_the_domain_are_issued() {
    let world = World::new();
    let server = world.dev_server();
    for name in [
        DOMAIN,
        "auth.quay.localhost",
        "quiet-otter.quay.localhost",
        "API.quay.localhost",
    ] {
        let chain = shake(&server, world.browser(), name).unwrap();
        assert_eq!(
            shake(&server, world.browser(), name).unwrap(),
            chain,
            "{name} is kept"
        );
    }
    for name in [
        "quay.localhost.example",
        "a.b.quay.localhost",
        "xquay.localhost",
        "localhost",
        "a_b.quay.localhost",
        "127.0.0.1",
    ] {
        let error = shake(&server, world.browser(), name).unwrap_err();
        assert!(
            matches!(error, rustls::Error::General(_)),
            "no certificate, an alert: {error}"
        );
    }
}

/// What Chromium asks of a leaf: the name as subjectAltName, server authentication, at most 397 days.
#[test]
fn leaves_are_acceptable_to_browsers() {
    let world = World::new();
    let chain = shake(&world.dev_server(), world.browser(), "app.quay.localhost").unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(
        names.as_slice(),
        [GeneralName::DNSName("app.quay.localhost")]
    );
    assert!(
        leaf.extended_key_usage()
            .unwrap()
            .unwrap()
            .value
            .server_auth
    );
    let validity = leaf.validity();
    assert!(validity.not_after.timestamp() - validity.not_before.timestamp() <= 397 * 86_400);
    assert!(validity.is_valid());
    assert!(
        leaf.basic_constraints()
            .unwrap()
            .is_none_or(|constraints| !constraints.value.ca)
    );
}

/// Files: the certificate for all to read, the key for nobody else; kept over restarts.
#[test]
fn the_ca_is_kept() {
    let world = World::new();
    let mode = |name: &str| {
        std::fs::metadata(world.dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("dev-ca.key"), 0o600);
    assert_eq!(mode("dev-ca.pem") & 0o600, 0o600);
    let made = std::fs::read(world.dev_ca.certificate_file()).unwrap();
    let again = DevCa::open(world.dir.path(), "QUAY.localhost").unwrap();
    assert_eq!(std::fs::read(again.certificate_file()).unwrap(), made);
    let server = world.server(Web::Dev(Arc::new(again)));
    shake(&server, world.browser(), "app.quay.localhost").unwrap();

    // For another domain it is made anew.
    DevCa::open(world.dir.path(), "pier.localhost").unwrap();
    assert_ne!(
        std::fs::read(world.dev_ca.certificate_file()).unwrap(),
        made
    );
    // And where key and certificate are not a pair.
    let other = tempfile::tempdir().unwrap();
    DevCa::open(other.path(), "pier.localhost").unwrap();
    let key = world.dir.path().join("dev-ca.key");
    std::fs::copy(other.path().join("dev-ca.key"), &key).unwrap();
    let mended = Arc::new(DevCa::open(world.dir.path(), "pier.localhost").unwrap());
    shake(
        &world.server(Web::Dev(mended)),
        world.browser(),
        "app.pier.localhost",
    )
    .unwrap();

    std::fs::write(&key, "no key").unwrap();
    let error = DevCa::open(world.dir.path(), "pier.localhost")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("dev-ca.key") && error.contains("remove it"),
        "{error}"
    );
}

/// Whoever steals its key can impersonate the development domain and nothing else.
#[test]
fn the_ca_is_constrained_to_its_domain() {
    let world = World::new();
    let ca = CertificateDer::from_pem_file(world.dir.path().join("dev-ca.pem")).unwrap();
    let key = std::fs::read_to_string(world.dir.path().join("dev-ca.key")).unwrap();
    let thief = Issuer::from_ca_cert_der(&ca, KeyPair::from_pem(&key).unwrap()).unwrap();
    for (name, believed) in [
        ("app.quay.localhost", true),
        ("bank.example", false),
        ("127.0.0.1", false),
    ] {
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&leaf_key, &thief)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        std::fs::write(&cert, leaf.pem()).unwrap();
        std::fs::write(&key, leaf_key.serialize_pem()).unwrap();
        let files = Arc::new(FileCert::open(&cert, &key).unwrap());
        let outcome = shake(&world.server(Web::Files(files)), world.browser(), name);
        assert_eq!(outcome.is_ok(), believed, "{name}: {outcome:?}");
    }
}
