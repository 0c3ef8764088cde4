//! Names without a resolver, and the order of attempts.

use std::cell::RefCell;

use super::*;

#[tokio::test]
async fn loopback_names_need_no_resolver() {
    for name in ["localhost", "LOCALHOST", "localhost.", "a.b.localhost"] {
        let addrs = resolve(name, 80).await.unwrap();
        assert!(addrs.iter().all(|addr| addr.ip().is_loopback()), "{name}");
    }
    assert!(!is_localhost("localhost.example.com"));
    assert!(!is_localhost("notlocalhost"));
    assert_eq!(
        resolve("::1", 80).await.unwrap(),
        ["[::1]:80".parse().unwrap()]
    );
}

fn addrs(count: u16) -> Vec<SocketAddr> {
    (1..=count)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .collect()
}

#[tokio::test]
async fn a_failure_starts_the_next_at_once() {
    let begun = tokio::time::Instant::now();
    let winner = race(&addrs(3), STAGGER, |addr| async move {
        if addr.port() == 3 { Ok(3) } else { Err(()) }
    })
    .await;
    assert_eq!(winner, Ok(3));
    assert!(begun.elapsed() < STAGGER);
}

#[tokio::test]
async fn silence_starts_the_next_after_the_stagger() {
    let begun = tokio::time::Instant::now();
    let tried = RefCell::new(Vec::new());
    let winner: Result<u16, Vec<()>> = race(&addrs(3), STAGGER, |addr| {
        tried.borrow_mut().push(addr.port());
        async move {
            if addr.port() == 2 {
                Ok(2)
            } else {
                std::future::pending().await
            }
        }
    })
    .await;
    assert_eq!(winner, Ok(2));
    assert!(begun.elapsed() >= STAGGER);
    assert_eq!(*tried.borrow(), [1, 2]);
}

#[tokio::test]
async fn all_failures_are_told() {
    let outcome: Result<(), _> =
        race(&addrs(3), STAGGER, |addr| async move { Err(addr.port()) }).await;
    assert_eq!(outcome, Err(vec![1, 2, 3]));
    let outcome: Result<(), Vec<()>> = race(&[], STAGGER, |_| async { Ok(()) }).await;
    assert_eq!(outcome, Err(vec![]));
}
