//! What a test needs beside the product: present, or a sentence why it was skipped. Where everything is
//! required, a missing component is a failure.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The program, or `None` after saying that `test` is skipped.
pub fn program(name: &str, test: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        missing(name, test);
    }
    found
}

/// The program, if it is on the path.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Says that `what` is missing. Panics where everything is required.
pub fn missing(what: &str, test: &str) {
    assert!(
        !everything_is_required(),
        "{test} needs {what}, and everything is required in this run"
    );
    eprintln!("skipped: {test} needs {what}");
    note(&format!("{test}: {what} is missing"));
}

/// Whether this run's agents may take QUIC. Where it was asked for another link, says that `test` is
/// skipped: it is about what QUIC alone can do, or about a UDP path.
pub fn quic(test: &str) -> bool {
    let link = std::env::var("SALLYPORT_LINK").unwrap_or_default();
    if link != "tls" {
        return true;
    }
    eprintln!("skipped: {test} is about QUIC alone, and this run is over TLS");
    note(&format!("{test}: about QUIC alone, {NOT_ON_THIS_LINK}"));
    false
}

/// The runner's summary counts these lines.
fn note(line: &str) {
    let note = artefacts().join("skipped.txt");
    let mut note = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(note)
        .expect("the note of what was skipped");
    // In one piece: tests run beside each other.
    note.write_all(format!("{line}\n").as_bytes())
        .expect("noted");
}

/// Whether a missing component fails the run.
pub fn everything_is_required() -> bool {
    ["SALLYPORT_REQUIRE_ALL", "CI"]
        .into_iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0"))
}

/// One of the product's binaries: where `SALLYPORT_BIN_DIR` says, else beside the test's own folder.
pub fn binary(name: &str) -> PathBuf {
    let folder = std::env::var_os("SALLYPORT_BIN_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let own = std::env::current_exe().expect("a test knows where it is");
            own.parent()
                .and_then(Path::parent)
                .expect("target/<profile>/deps")
                .to_owned()
        });
    let file = folder.join(name);
    assert!(
        file.is_file(),
        "{} is not built: cargo build --workspace --bins",
        file.display()
    );
    file
}

/// This package's folder.
pub fn package_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Where screenshots and other things to look at go.
pub fn artefacts() -> PathBuf {
    let folder = std::env::var_os("SALLYPORT_ARTEFACTS")
        .map(PathBuf::from)
        .unwrap_or_else(|| package_dir().join("../artefacts"));
    std::fs::create_dir_all(&folder).expect("the artefacts' folder can be made");
    folder
}

/// How the note of a test ends that somebody left out by choosing a link. The runner knows it.
const NOT_ON_THIS_LINK: &str = "not on this link";
