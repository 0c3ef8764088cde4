//! The operator's files: checked when opened, and followed while they change.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::cert::files::Watch;

/// A self-signed pair for some names, in files.
fn write_pair(dir: &Path, names: &[&str]) -> (PathBuf, PathBuf) {
    let (cert, key) = pair(names);
    let paths = (dir.join("tls.crt"), dir.join("tls.key"));
    put(&paths.0, &cert);
    put(&paths.1, &key);
    paths
}

/// Puts another file in the place of one: what was written within one tick of the file system's
/// clock would otherwise look the same.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn pair(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let cert = CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (cert.pem(), key.serialize_pem())
}

/// A certificate covers what clients would take it for.
#[test]
fn covers_what_clients_accept() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = write_pair(dir.path(), &["example.test", "*.example.test"]);
    let files = FileCert::open(&cert, &key).unwrap();
    for name in ["example.test", "auth.example.test", "API.example.test"] {
        assert!(files.covers(name), "{name}");
    }
    for name in [
        "a.b.example.test",
        "example.org",
        "xexample.test",
        "",
        "*.example.test",
        "a b",
        "127.0.0.1",
    ] {
        assert!(!files.covers(name), "{name}");
    }
}

/// Every refusal names the file and what is wrong.
#[test]
fn unusable_files_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = write_pair(dir.path(), &["example.test"]);
    let other = dir.path().join("other.key");
    std::fs::write(&other, pair(&["example.test"]).1).unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let garbage = dir.path().join("garbage.pem");
    std::fs::write(
        &garbage,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let large = dir.path().join("large.pem");
    std::fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
    let missing = dir.path().join("missing.pem");
    for (cert, key, text) in [
        (&cert, &other, "does not belong to"),
        (&missing, &key, "missing.pem cannot be read"),
        (&cert, &missing, "missing.pem cannot be read"),
        (&empty, &key, "empty.pem holds no certificate"),
        (&cert, &empty, "empty.pem holds no private key"),
        (&key, &cert, "tls.key holds no certificate"),
        (&garbage, &key, "garbage.pem cannot be used"),
        (&large, &key, "large.pem cannot be used"),
    ] {
        let error = FileCert::open(cert, key).unwrap_err().to_string();
        assert!(error.contains(text), "{error:?} lacks {text:?}");
    }
}

/// Any name, or none, gets the operator's certificate.
#[test]
fn the_files_are_the_default() {
    let world = World::new();
    let (cert, key) = write_pair(world.dir.path(), &["example.test", "127.0.0.1"]);
    let files = Arc::new(FileCert::open(&cert, &key).unwrap());
    let server = world.server(Web::Files(files));
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&cert).unwrap())
        .unwrap();
    // An address sends no server name.
    shake(&server, trusting(roots.clone()), "127.0.0.1").unwrap();
    shake(&server, trusting(roots.clone()), "example.test").unwrap();
    let error = shake(&server, trusting(roots), "other.test").unwrap_err();
    assert!(
        matches!(error, rustls::Error::InvalidCertificate(_)),
        "{error}"
    );
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// New files are picked up, half-written and bad ones are not, and the old certificate stays.
#[test]
fn changed_files_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = write_pair(dir.path(), &["one.test"]);
    let files = FileCert::open(&cert, &key).unwrap();
    let mut watch = Watch::new();
    // A change is read once it has been seen twice.
    let mut settle = || (0..2).for_each(|_| files.look(&mut watch));
    settle();
    assert!(files.covers("one.test"));

    write_pair(dir.path(), &["two.test"]);
    settle();
    assert!(files.covers("two.test"));

    let (three, three_key) = pair(&["three.test"]);
    put(&cert, &three);
    settle();
    assert!(
        files.covers("two.test"),
        "a certificate without its key is not used"
    );
    put(&key, &three_key);
    settle();
    assert!(files.covers("three.test"));

    std::fs::remove_file(&cert).unwrap();
    settle();
    assert!(files.covers("three.test"));
    write_pair(dir.path(), &["four.test"]);
    settle();
    assert!(files.covers("four.test"));
}

/// Kubernetes swaps a link to a folder; the files' own paths never change.
#[tokio::test]
async fn swapped_links_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let version = |number: &str, name: &str| {
        let folder = dir.path().join(number);
        std::fs::create_dir(&folder).unwrap();
        write_pair(&folder, &[name]);
        let link = dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(number, &link).unwrap();
        std::fs::rename(&link, dir.path().join("..data")).unwrap();
    };
    version("..1", "one.test");
    for name in ["tls.crt", "tls.key"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), dir.path().join(name)).unwrap();
    }
    let files =
        Arc::new(FileCert::open(&dir.path().join("tls.crt"), &dir.path().join("tls.key")).unwrap());
    let task = tokio::spawn(Arc::clone(&files).follow_every(Duration::from_millis(5)));
    assert!(files.covers("one.test"));
    version("..2", "two.test");
    until("the new folder serves", || files.covers("two.test")).await;
    task.abort();
}
