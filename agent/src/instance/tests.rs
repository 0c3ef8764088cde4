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
    first.next_generation().unwrap();
    let later = first.generation();
    assert!(later > before);
    let again = Instance::take(folder.path(), &app()).unwrap();
    assert_eq!(again.id(), id);
    assert!(again.generation() > later);
}

#[test]
fn a_clock_that_went_back_does_not_lower_the_generation() {
    let folder = tempfile::tempdir().unwrap();
    let mut instance = Instance::take(folder.path(), &app()).unwrap();
    instance.generation = unix_ms() + 1_000_000_000;
    instance.write().unwrap();
    let ahead = instance.generation();
    let mut again = Instance::take(folder.path(), &app()).unwrap();
    assert_eq!(again.generation(), ahead + 1);
    again.next_generation().unwrap();
    assert_eq!(again.generation(), ahead + 2);
}

#[test]
fn a_newer_run_has_it_and_the_older_does_not_fight() {
    let folder = tempfile::tempdir().unwrap();
    let mut older = Instance::take(folder.path(), &app()).unwrap();
    let mut newer = Instance::take(folder.path(), &app()).unwrap();
    assert_eq!(older.id(), newer.id());
    for _ in 0..3 {
        assert!(matches!(older.next_generation(), Err(NotKept::Superseded)));
        newer.next_generation().unwrap();
    }
}

#[test]
fn other_wishes_are_another_identity() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Instance::take(folder.path(), &app()).unwrap();
    let other = Instance::take(folder.path(), &["http://localhost:3000".to_owned()]).unwrap();
    assert_ne!(first.id(), other.id());
    first.next_generation().unwrap();
}

#[test]
fn a_lock_that_stays_held_is_not_waited_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut instance = Instance::take(folder.path(), &app()).unwrap();
    let before = instance.generation();
    let _held = lock(instance.kept.as_ref().unwrap()).unwrap();
    assert!(matches!(instance.next_generation(), Err(NotKept::Io(_))));
    assert!(instance.generation() > before);
}

#[test]
fn files_are_private_and_rubbish_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let instance = Instance::take(folder.path(), &app()).unwrap();
    let path = instance.kept.as_ref().unwrap().with_extension("json");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::write(&path, b"{\"instance\":").unwrap();
    let again = Instance::take(folder.path(), &app()).unwrap();
    assert_ne!(again.id(), instance.id());
}

#[test]
fn the_order_of_wishes_does_not_matter() {
    let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
    assert_eq!(name_of(&[a.clone(), b.clone()]), name_of(&[b, a]));
}
