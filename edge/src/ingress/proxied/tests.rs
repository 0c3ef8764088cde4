//! PROXY headers: those of the specification, cut anywhere, and what is none.

use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::ingress::listener::Admission;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(rest: &[u8]) -> Vec<u8> {
    [SIGNATURE, rest].concat()
}

fn ends(client: &str, edge: &str) -> Ends {
    Ends {
        client: client.parse().unwrap(),
        edge: edge.parse().unwrap(),
    }
}

/// Whole headers, as the specification writes them.
fn good() -> Vec<(Vec<u8>, Option<Ends>)> {
    let v4 = ends("203.0.113.7:1000", "198.51.100.2:443");
    let v6 = ends("[2001:db8::7]:1000", "[2001:db8::2]:443");
    let mut long_v4 = vec![
        0x21, 0x11, 0, 12, 203, 0, 113, 7, 198, 51, 100, 2, 3, 0xe8, 1, 0xbb,
    ];
    let short_v4 = long_v4.clone();
    // With a type-length-value behind the addresses.
    long_v4[3] = 12 + 7;
    long_v4.extend([0x04, 0, 4, 1, 2, 3, 4]);
    let mut v6_bytes = vec![0x21, 0x21, 0, 36];
    for ip in ["2001:db8::7", "2001:db8::2"] {
        v6_bytes.extend(ip.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    v6_bytes.extend([3, 0xe8, 1, 0xbb]);
    vec![
        (
            b"PROXY TCP4 203.0.113.7 198.51.100.2 1000 443\r\n".to_vec(),
            Some(v4),
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::2 1000 443\r\n".to_vec(),
            Some(v6),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(&short_v4), Some(v4)),
        (v2(&long_v4), Some(v4)),
        (v2(&v6_bytes), Some(v6)),
        (v2(&[0x20, 0, 0, 0]), None),
        (v2(&[0x21, 0, 0, 0]), None),
        // The longest that is read.
        (v2(&[&[0x20, 0, 2, 8][..], &[0; 520]].concat()), None),
    ]
}

/// Read whole, they take exactly themselves; cut anywhere, they are waited for.
#[test]
fn headers() {
    for (header, expected) in good() {
        let shown = String::from_utf8_lossy(&header).into_owned();
        for at in 0..header.len() {
            let parsed = parse(&header[..at]);
            assert!(
                matches!(parsed, Ok(None)),
                "{shown:?} cut at {at}: {parsed:?}"
            );
        }
        let followed = [header.as_slice(), &[22, 3, 1]].concat();
        for bytes in [&header, &followed] {
            let (length, ends) = parse(bytes).unwrap().unwrap();
            assert_eq!((length, ends), (header.len(), expected), "{shown:?}");
        }
    }
}

/// What is none is known for none, and nothing grows beyond its bound.
#[test]
fn no_headers() {
    for wrong in [
        &b"\x16\x03\x01"[..],
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4 203.0.113.7 198.51.100.2 1000 443\r\n",
        b"PROXY\tTCP4 203.0.113.7 198.51.100.2 1000 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.2 1000\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.2 1000 443 more\r\n",
        b"PROXY TCP4 203.0.113.700 198.51.100.2 1000 443\r\n",
        b"PROXY TCP4 203.0.113.7 198.51.100.2 1000 65536\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::2 1000 443\r\n",
        b"PROXY UDP4 203.0.113.7 198.51.100.2 1000 443\r\n",
        b"PROXY \xff\xfe\r\n",
        &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        &v2(&[0x11, 0x11, 0, 0]),
        &v2(&[0x2f, 0x11, 0, 0]),
        &v2(&[0x21, 0x11, 0, 4, 0, 0, 0, 0]),
        &v2(&[0x21, 0x12, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        &v2(&[0x21, 0x11, 2, 9]),
        &v2(&[0x21, 0x11, 255, 255]),
    ] {
        let parsed = parse(wrong);
        assert!(
            matches!(parsed, Err(NotProxied::Wrong)),
            "{:?}: {parsed:?}",
            String::from_utf8_lossy(wrong)
        );
    }
}

/// From anybody else nothing is read; from a listed proxy the header is, and no byte behind it.
#[tokio::test]
async fn only_from_listed_proxies() {
    let proxies = Proxies::new(vec!["192.0.2.0/24".parse().unwrap()]);
    let admission = Admission::new(10, 10, proxies.clone());
    let told = b"PROXY TCP4 203.0.113.7 198.51.100.2 1000 443\r\nrest";
    let identify = async |peer: &str, bytes: &'static [u8]| {
        let (mut client, mut edge) = tokio::io::duplex(1024);
        client.write_all(bytes).await.unwrap();
        drop(client);
        let seen = ends(peer, "192.0.2.9:443");
        let place = Arc::clone(&admission).enter(seen.client.ip()).unwrap();
        let mut received = BytesMut::new();
        let outcome = proxies
            .identify(&mut edge, &mut received, seen, place)
            .await;
        (outcome.map(|found| found.unwrap().0), received)
    };
    let (found, received) = identify("192.0.2.1:5", told).await;
    let expected = ends("203.0.113.7:1000", "198.51.100.2:443");
    assert_eq!(found.unwrap(), expected);
    assert_eq!(&received[..], b"rest");
    let (found, _) = identify("[::ffff:192.0.2.1]:5", told).await;
    assert_eq!(found.unwrap(), expected, "IPv4 within IPv6 is IPv4");
    let (found, received) = identify("203.0.113.9:5", told).await;
    assert_eq!(found.unwrap(), ends("203.0.113.9:5", "192.0.2.9:443"));
    assert!(received.is_empty());
    let (found, _) = identify("192.0.2.1:5", b"PROXY TCP4 203").await;
    assert!(matches!(found, Err(NotProxied::Ended)));
}

proptest! {
    /// Whatever comes, nothing panics, and what is not refused by then is within its bound.
    #[test]
    fn anything_at_all(
        which in 0_usize..9,
        at in 0_usize..60,
        noise in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let _ = parse(&noise);
        let (mut header, _) = good().swap_remove(which);
        let end = (at + noise.len()).min(header.len());
        header.splice(at.min(end)..end, noise);
        if let Ok(None) = parse(&header) {
            prop_assert!(header.len() < HEADER_BYTES_MAX);
        }
    }
}
