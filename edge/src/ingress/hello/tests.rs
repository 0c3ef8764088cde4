//! Hellos in every cut, and everything that is none.

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::AsyncWriteExt as _;

use super::*;

/// A client's first flight, which a post-quantum key share makes longer than one packet.
fn hello(name: &str, alpn_bytes: usize) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![vec![b'x'; 200]; alpn_bytes / 201];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// Reads what comes in pieces of so many bytes, then the end.
async fn read_in(bytes: &[u8], piece: usize) -> (Result<Accepted, HelloError>, BytesMut) {
    let (mut client, mut edge) = tokio::io::duplex(piece);
    let bytes = bytes.to_vec();
    let write = tokio::spawn(async move {
        // The reader may have had enough.
        let _ = client.write_all(&bytes).await;
    });
    let mut received = BytesMut::new();
    let outcome = read(&mut edge, &mut received).await;
    drop(edge);
    write.await.unwrap();
    (outcome, received)
}

/// A hello is heard in whatever pieces it comes, also when it does not fit a packet, and every byte of it
/// is kept for whoever it is for.
#[tokio::test]
async fn in_any_pieces() {
    for alpn_bytes in [0, 4000, 10_000] {
        let hello = hello("app.otter.localhost", alpn_bytes);
        assert!(hello.len() > 1400, "{} bytes", hello.len());
        for piece in [1, 2, 7, 1000, hello.len() - 1, hello.len(), 65_536] {
            let (outcome, received) = read_in(&hello, piece).await;
            let accepted = outcome.unwrap_or_else(|error| panic!("{piece}: {error}"));
            let name = accepted.client_hello().server_name().map(str::to_owned);
            assert_eq!(name.as_deref(), Some("app.otter.localhost"));
            assert!(received == hello, "{piece}: kept whole");
        }
    }
}

/// What was read before is a part of it; what follows in the same read is kept behind it.
#[tokio::test]
async fn beginning_and_rest_are_kept() {
    let hello = hello("app.otter.localhost", 0);
    let (first, second) = hello.split_at(100);
    let (mut client, mut edge) = tokio::io::duplex(65_536);
    client.write_all(second).await.unwrap();
    client.write_all(&[23, 3, 3, 0, 1, 9]).await.unwrap();
    let mut received = BytesMut::from(first);
    read(&mut edge, &mut received).await.unwrap();
    assert!(received == [hello.as_slice(), &[23, 3, 3, 0, 1, 9]].concat());
}

/// Every beginning of a hello that then ends is an end, never a hello and never a wait.
#[tokio::test]
async fn cut_anywhere() {
    let hello = hello("app.otter.localhost", 0);
    for at in (0..hello.len()).step_by(13) {
        let (outcome, _) = read_in(&hello[..at], 65_536).await;
        assert!(matches!(outcome, Err(HelloError::Ended)), "cut at {at}");
    }
}

/// A hello is bounded, however it is framed, and what is none is told by an alert.
#[tokio::test]
async fn bounded_and_refused() {
    let record = |length: u16| [&[22, 3, 1][..], &length.to_be_bytes()].concat();
    let long = [record(16_384), vec![1, 0, 0xf0, 0], vec![0; 60_000]].concat();
    let (outcome, received) = read_in(&long, 1000).await;
    assert!(
        matches!(outcome, Err(HelloError::TooLong | HelloError::Wrong { .. })),
        "{outcome:?}"
    );
    assert!(received.len() <= HELLO_BYTES_MAX);
    for wrong in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[23, 3, 3, 0, 1, 0],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
    ] {
        let (outcome, _) = read_in(wrong, 65_536).await;
        let Err(HelloError::Wrong { alert, .. }) = outcome else {
            panic!("{wrong:?}: {outcome:?}");
        };
        assert!(alert.is_empty() || alert[0] == 21, "{alert:?}");
    }
}

/// Our own alerts are what TLS says they are.
#[test]
fn alerts() {
    assert_eq!(Alert::AccessDenied.record(), [21, 3, 3, 0, 2, 2, 49]);
    assert_eq!(Alert::UnrecognizedName.record(), [21, 3, 3, 0, 2, 2, 112]);
}

proptest! {
    /// Nothing that comes makes it panic or keep more than its bound.
    #[test]
    fn anything_at_all(
        at in 0_usize..1500,
        noise in proptest::collection::vec(any::<u8>(), 0..600),
        piece in 1_usize..3000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut bytes = hello("app.otter.localhost", 0);
            let end = (at + noise.len()).min(bytes.len());
            bytes.splice(at.min(end)..end, noise.iter().copied());
            for bytes in [bytes.as_slice(), noise.as_slice()] {
                let (_, received) = read_in(bytes, piece).await;
                assert!(received.len() <= HELLO_BYTES_MAX);
            }
        });
    }
}
