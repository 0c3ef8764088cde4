//! Identities that stay, differ, and only rise.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn app() -> Vec<String> {
    vec!["http://localhost:8080".to_owned()]
}

#[test]
fn an_identity_stays_and_its_generation_rises() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Instance::take(folder.path(), &app()).unwrap();
    let (id, before) = (first.id(), first.generation());
    let after = first.next_generation().unwrap();
    assert!(after > before);
    drop(first);
    let again = Instance::take(folder.path(), &app()).unwrap();
    assert_eq!(again.id(), id);
    assert!(again.generation() > after);
}

#[test]
fn a_clock_that_went_back_does_not_lower_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::take(folder.path(), &app()).unwrap();
    let path = instance.kept.as_ref().unwrap().path.clone();
    let ahead = unix_ms() + 1_000_000_000;
    let record = Record {
        instance: instance.id(),
        generation: ahead,
    };
    drop(instance);
    fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    let again = Instance::take(folder.path(), &app()).unwrap();
    assert_eq!(again.generation(), ahead + 1);
}

#[test]
fn two_at_a_time_are_two() {
    let folder = tempfile::tempdir().unwrap();
    let first = Instance::take(folder.path(), &app()).unwrap();
    let second = Instance::take(folder.path(), &app()).unwrap();
    let other = Instance::take(folder.path(), &["http://localhost:3000".to_owned()]).unwrap();
    assert_ne!(first.id(), second.id());
    assert_ne!(first.id(), other.id());
    let id = first.id();
    drop(first);
    assert_eq!(Instance::take(folder.path(), &app()).unwrap().id(), id);
}

#[test]
fn files_are_private_and_rubbish_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::take(folder.path(), &app()).unwrap();
    let path = instance.kept.as_ref().unwrap().path.clone();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let id = instance.id();
    drop(instance);
    fs::write(&path, b"{\"instance\":").unwrap();
    let again = Instance::take(folder.path(), &app()).unwrap();
    assert_ne!(again.id(), id);
}

#[test]
fn the_order_of_upstreams_does_not_matter() {
    let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
    assert_eq!(name_of(&[a.clone(), b.clone()]), name_of(&[b, a]));
}
