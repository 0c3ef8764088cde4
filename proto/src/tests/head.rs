//! The head and the ack as bytes: golden, cut at every length, and random.

use std::borrow::ToOwned as _;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use bytes::BytesMut;
use proptest::prelude::*;

use super::id;
use crate::code::Code;
use crate::head::{Ack, HEAD_BYTES_MAX, HeadError, ProxyAddrs, StreamHead, StreamKind};
use crate::id::EndpointId;
use crate::limits::ACK_MESSAGE_BYTES_MAX;

fn heads() -> Vec<StreamHead> {
    let plain = StreamHead::new(StreamKind::Http, EndpointId::from_bytes([0xee; 20]), 0x0102);
    let v4 = ProxyAddrs::V4 {
        source: "192.0.2.1:1000".parse().unwrap(),
        destination: "198.51.100.2:443".parse().unwrap(),
    };
    let v6 = ProxyAddrs::V6 {
        source: "[2001:db8::1]:1000".parse().unwrap(),
        destination: "[2001:db8::2]:443".parse().unwrap(),
    };
    vec![
        plain,
        StreamHead {
            kind: StreamKind::Probe,
            ..plain
        },
        StreamHead {
            relayed: true,
            generation: u64::MAX,
            ..plain
        },
        StreamHead {
            proxy: Some(v4),
            ..plain
        },
        StreamHead {
            proxy: Some(v6),
            relayed: true,
            ..plain
        },
        StreamHead {
            kind: StreamKind::Raw,
            ..plain
        },
    ]
}

/// Addresses of one family travel as that family; IPv4 within IPv6 is IPv4.
#[test]
fn addresses_have_one_family() {
    let of = |from: &str, to: &str| ProxyAddrs::new(from.parse().unwrap(), to.parse().unwrap());
    let v4 = of("192.0.2.1:1000", "198.51.100.2:443");
    assert!(matches!(v4, ProxyAddrs::V4 { source, .. } if source.port() == 1000));
    assert_eq!(
        of("[::ffff:192.0.2.1]:1000", "[::ffff:198.51.100.2]:443"),
        v4
    );
    let mixed = of("192.0.2.1:1000", "[2001:db8::2]:443");
    let ProxyAddrs::V6 {
        source,
        destination,
    } = mixed
    else {
        panic!("{mixed:?}");
    };
    assert_eq!(source, "[::ffff:192.0.2.1]:1000".parse().unwrap());
    assert_eq!(destination, "[2001:db8::2]:443".parse().unwrap());
}

fn acks() -> Vec<Ack> {
    let refuse = |code, message: &str| Ack::Refuse {
        code,
        message: message.to_owned(),
    };
    vec![
        Ack::Accept,
        refuse(Code::UpstreamUnreachable, "connection refused"),
        refuse(Code::UpstreamTimeout, ""),
        refuse(Code::StreamRefused, &"ä".repeat(ACK_MESSAGE_BYTES_MAX / 2)),
    ]
}

/// The layout is fixed: version 1 reads these bytes for ever.
#[test]
fn heads_are_as_released() {
    let common = format!("{}{}", "ee".repeat(20), "0000000000000102");
    let golden = [
        format!("010100{common}00"),
        format!("010200{common}00"),
        format!("010101{}{}00", "ee".repeat(20), "ff".repeat(8)),
        format!("010100{common}0cc0000201c633640203e801bb"),
        format!(
            "010101{common}2420010db8{z}000120010db8{z}000203e801bb",
            z = "0".repeat(20)
        ),
        format!("010300{common}00"),
    ];
    for (head, golden) in heads().iter().zip(golden) {
        assert_eq!(hex(&head.encode()), golden, "{head:?}");
        assert!(head.encode().len() <= HEAD_BYTES_MAX);
    }
    assert_eq!(heads()[4].encode().len(), HEAD_BYTES_MAX);
    assert_eq!(hex(&acks()[0].encode()), "00");
    assert_eq!(hex(&acks()[2].encode()), "010fa20000");
}

/// Whole, they round trip and leave what follows; cut, they wait and take nothing.
#[test]
fn every_cut_waits() {
    for head in heads() {
        check_cuts(&head.encode(), &head, StreamHead::decode);
    }
    for ack in acks() {
        check_cuts(&ack.encode(), &ack, Ack::decode);
    }
}

fn check_cuts<T: PartialEq + core::fmt::Debug>(
    bytes: &[u8],
    expected: &T,
    decode: fn(&mut BytesMut) -> Result<Option<T>, HeadError>,
) {
    for at in 0..bytes.len() {
        let mut buffer = BytesMut::from(&bytes[..at]);
        assert_eq!(decode(&mut buffer), Ok(None), "{expected:?} cut at {at}");
        assert_eq!(buffer.len(), at);
    }
    let mut buffer = BytesMut::from(bytes);
    buffer.extend_from_slice(b"GET / HTTP/1.1");
    assert_eq!(decode(&mut buffer).unwrap().as_ref(), Some(expected));
    assert_eq!(&buffer[..], b"GET / HTTP/1.1");
}

/// A wrong byte is known for wrong when it arrives, not when the head would be whole.
#[test]
fn wrong_heads_are_refused_at_once() {
    let good = heads()[0].encode();
    for (at, byte, expected) in [
        (0, 0, HeadError::Version(0)),
        (0, 2, HeadError::Version(2)),
        (0, b'G', HeadError::Version(b'G')),
        (1, 0, HeadError::Kind(0)),
        (1, 4, HeadError::Kind(4)),
        (2, 2, HeadError::Flags(2)),
        (2, 0x81, HeadError::Flags(0x81)),
        (31, 1, HeadError::Proxy(1)),
        (31, 13, HeadError::Proxy(13)),
        (31, 255, HeadError::Proxy(255)),
    ] {
        let mut buffer = BytesMut::from(&good[..=at]);
        buffer[at] = byte;
        assert_eq!(
            StreamHead::decode(&mut buffer),
            Err(expected),
            "byte {at} = {byte}"
        );
    }
    for (bytes, expected) in [
        (&b"\x02"[..], HeadError::Ack(2)),
        (b"\x01\x0f\xa2\x02\x01", HeadError::MessageTooLong(513)),
        (b"\x01\x0f\xa2\xff\xff", HeadError::MessageTooLong(65535)),
        (b"\x01\x0f\xa2\x00\x01\xff", HeadError::MessageNotText),
    ] {
        assert_eq!(
            Ack::decode(&mut BytesMut::from(bytes)),
            Err(expected),
            "{bytes:?}"
        );
    }
}

/// A newer agent's code is still a refusal; a long message is cut between characters.
#[test]
fn acks_are_lenient_and_bounded() {
    let mut buffer = BytesMut::from(&b"\x01\xff\xff\x00\x01x"[..]);
    let refused = Ack::Refuse {
        code: Code::StreamRefused,
        message: "x".to_owned(),
    };
    assert_eq!(Ack::decode(&mut buffer), Ok(Some(refused)));
    let long = Ack::Refuse {
        code: Code::Internal,
        message: "aä".repeat(ACK_MESSAGE_BYTES_MAX),
    };
    let Ok(Some(Ack::Refuse { message, .. })) =
        Ack::decode(&mut BytesMut::from(&long.encode()[..]))
    else {
        panic!("a long refusal is a refusal");
    };
    assert_eq!(message, "aä".repeat(170) + "aä".get(..1).unwrap());
}

proptest! {
    /// Any bytes: no panic, nothing taken unless something came of it, and one form only.
    #[test]
    fn any_bytes(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..96),
        start in prop::sample::select(vec![&b""[..], b"\x01", b"\x01\x01\x00", b"\x01\x02\x01"]),
    ) {
        bytes.splice(..start.len().min(bytes.len()), start.iter().copied());
        let mut buffer = BytesMut::from(&bytes[..]);
        match StreamHead::decode(&mut buffer) {
            Ok(Some(head)) => prop_assert_eq!(&[&head.encode()[..], &buffer].concat(), &bytes),
            Ok(None) => prop_assert!(buffer == bytes && bytes.len() < HEAD_BYTES_MAX),
            Err(_) => prop_assert_eq!(&buffer[..], &bytes),
        }
        let mut buffer = BytesMut::from(&bytes[..]);
        if !matches!(Ack::decode(&mut buffer), Ok(Some(_))) {
            prop_assert_eq!(&buffer[..], &bytes);
        }
    }

    /// Any head round trips.
    #[test]
    fn any_head(endpoint: [u8; 20], generation: u64, relayed: bool, source: std::net::SocketAddrV4, destination: std::net::SocketAddrV4) {
        let head = StreamHead {
            relayed,
            proxy: Some(ProxyAddrs::V4 { source, destination }),
            ..StreamHead::new(StreamKind::Http, EndpointId::from_bytes(endpoint), generation)
        };
        prop_assert_eq!(StreamHead::decode(&mut BytesMut::from(&head.encode()[..])), Ok(Some(head)));
    }
}

/// `new` is what an edge sends for its own clients.
#[test]
fn a_new_head_is_not_relayed() {
    let head = StreamHead::new(StreamKind::Probe, id(5), 3);
    assert_eq!(
        (head.kind, head.endpoint, head.generation),
        (StreamKind::Probe, id(5), 3)
    );
    assert!(!head.relayed && head.proxy.is_none());
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}
