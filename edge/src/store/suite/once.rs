//! One-time values and things seen once.

use futures_util::future::join_all;

use super::lab::Lab;
use crate::store::OnceKind;

/// Fifty takers at the same moment: one has it.
pub(super) async fn a_value_is_taken_exactly_once(lab: &mut Lab) {
    let store = lab.store();
    for round in 0..4_u8 {
        let (key, until, now) = ([round; 32], lab.at(600), lab.at(1));
        let value = vec![round; 100];
        store
            .put_once(OnceKind::Login, key, value.clone(), until)
            .await
            .unwrap();
        let takers = (0..50).map(|_| store.take_once(OnceKind::Login, key, now));
        let taken: Vec<_> = join_all(takers)
            .await
            .into_iter()
            .filter_map(Result::unwrap)
            .collect();
        assert_eq!(taken, [value]);
    }
    lab.reopen().await;
    let again = lab.store().take_once(OnceKind::Login, [0; 32], lab.at(1));
    assert_eq!(again.await.unwrap(), None, "taken is taken");
}

pub(super) async fn kinds_are_apart(lab: &mut Lab) {
    let (store, key, until, now) = (lab.store(), [5; 32], lab.at(600), lab.at(1));
    let kinds = [OnceKind::Login, OnceKind::HandOver, OnceKind::OperatorLink];
    for (number, kind) in kinds.into_iter().enumerate() {
        let value = number.to_string().into_bytes();
        store.put_once(kind, key, value, until).await.unwrap();
    }
    for (number, kind) in kinds.into_iter().enumerate() {
        let value = number.to_string().into_bytes();
        assert_eq!(store.take_once(kind, key, now).await.unwrap(), Some(value));
        assert_eq!(store.take_once(kind, key, now).await.unwrap(), None);
    }
}

/// An expired value is absent, swept or not; a value put again lives as long as the new one says.
pub(super) async fn values_expire(lab: &mut Lab) {
    let (store, kind) = (lab.store(), OnceKind::HandOver);
    let put = async |key: u8, until| {
        let put = store.put_once(kind, [key; 32], vec![key], lab.at(until));
        put.await.unwrap();
    };
    for key in 0..4 {
        put(key, 30).await;
    }
    put(3, 90).await;
    let take = async |key: u8, now| {
        let taken = store.take_once(kind, [key; 32], lab.at(now));
        taken.await.unwrap()
    };
    assert_eq!(take(0, 29).await, Some(vec![0]));
    assert_eq!(take(1, 30).await, None);
    assert_eq!(store.sweep(lab.at(31)).await.unwrap(), 1);
    assert_eq!(take(2, 0).await, None);
    assert_eq!(take(3, 89).await, Some(vec![3]));
    assert_eq!(store.sweep(lab.at(91)).await.unwrap(), 0);
}

pub(super) async fn a_thing_is_seen_once(lab: &mut Lab) {
    let store = lab.store();
    let (now, until) = (lab.at(0), lab.at(60));
    let seen = (0..50).map(|_| store.seen_once([1; 32], now, until));
    let first = join_all(seen)
        .await
        .into_iter()
        .filter(|first| *first.as_ref().unwrap())
        .count();
    assert_eq!(first, 1);
    assert!(store.seen_once([2; 32], now, until).await.unwrap());
    lab.reopen().await;
    let store = lab.store();
    let late = lab.at(59);
    assert!(!store.seen_once([1; 32], late, lab.at(120)).await.unwrap());
    assert!(store.seen_once([1; 32], until, lab.at(120)).await.unwrap());
    assert!(
        !store
            .seen_once([1; 32], lab.at(90), lab.at(99))
            .await
            .unwrap()
    );
    while store.sweep(lab.at(121)).await.unwrap() > 0 {}
    assert!(
        store
            .seen_once([1; 32], lab.at(0), lab.at(1))
            .await
            .unwrap()
    );
}
