//! Bytes and frames: golden JSON, every split, and everything that is wrong.

use std::format;
use std::string::String;
use std::vec::Vec;

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;

use super::{sample, samples};
use crate::code::Code;
use crate::codec::{FrameError, decode, decode_within, encode};
use crate::frame::Frame;
use crate::limits::{FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX};

/// A released version's frames never change: a difference here breaks agents in the field.
const GOLDEN: &str = include_str!("golden/v1.jsonl");

#[test]
fn frames_are_as_released() {
    let lines: Vec<&str> = GOLDEN.lines().collect();
    assert_eq!(lines.len(), samples().len());
    for (frame, line) in samples().iter().zip(lines) {
        let mut buffer = BytesMut::new();
        encode(frame, &mut buffer).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&buffer[4..]),
            line,
            "{}",
            frame.name()
        );
        assert_eq!(json(line), Ok(Some(frame.clone())));
        assert!(line.contains(&format!(r#""type":"{}""#, frame.name())));
    }
}

/// Frames arrive in any pieces, and none is told before it is whole.
#[test]
fn every_split_decodes() {
    let mut stream = BytesMut::new();
    for frame in samples() {
        encode(&frame, &mut stream).unwrap();
    }
    for piece in [1, 2, 3, 5, 7, 64, 1000, stream.len()] {
        let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
        for bytes in stream.chunks(piece) {
            buffer.put_slice(bytes);
            while let Some(frame) = decode(&mut buffer).unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, samples(), "pieces of {piece}");
        assert!(buffer.is_empty());
    }
    for frame in samples() {
        let mut whole = BytesMut::new();
        encode(&frame, &mut whole).unwrap();
        for at in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..at]);
            assert_eq!(
                decode(&mut buffer),
                Ok(None),
                "{} cut at {at}",
                frame.name()
            );
            assert_eq!(buffer.len(), at, "nothing is taken early");
            buffer.put_slice(&whole[at..]);
            assert_eq!(decode(&mut buffer), Ok(Some(frame.clone())));
        }
    }
}

/// The length is judged before the frame is there, and nothing is reserved for it.
#[test]
fn a_long_frame_is_refused_by_its_length() {
    for (length, bytes_max) in [
        (FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX),
        (u32::MAX as usize, FRAME_BYTES_MAX),
        (HANDSHAKE_FRAME_BYTES_MAX + 1, HANDSHAKE_FRAME_BYTES_MAX),
        (1, 0),
    ] {
        let mut buffer = BytesMut::from(&u32::try_from(length).unwrap().to_be_bytes()[..]);
        let error = FrameError::TooLong {
            bytes: length,
            bytes_max,
        };
        assert_eq!(decode_within(&mut buffer, bytes_max), Err(error));
    }
    let claim = u32::try_from(FRAME_BYTES_MAX).unwrap().to_be_bytes();
    let mut buffer = BytesMut::from(&claim[..]);
    assert_eq!(decode(&mut buffer), Ok(None));
    assert!(buffer.capacity() < 1024);
}

/// A frame that does not fit leaves the buffer as it was.
#[test]
fn a_long_frame_is_not_sent() {
    let long = Frame::Drain {
        edges: std::vec!["a".repeat(FRAME_BYTES_MAX)],
    };
    let mut buffer = BytesMut::from(&b"before"[..]);
    assert!(matches!(
        encode(&long, &mut buffer),
        Err(FrameError::TooLong { .. })
    ));
    assert_eq!(&buffer[..], b"before");
}

/// Later versions add fields and types; both are ignored, whatever they hold.
#[test]
fn what_is_unknown_is_ignored() {
    for text in [
        r#"{"type":"probe","token":7,"later":{"a":[1,2,{"b":null}]}}"#,
        r#"{"later":1,"token":7,"type":"probe"}"#,
        " {\"type\" : \"probe\",\n\"token\":7} ",
    ] {
        assert_eq!(json(text), Ok(Some(Frame::Probe { token: 7 })), "{text}");
    }
    for text in [
        r#"{"type":"later"}"#,
        r#"{"type":"later","token":[{"type":"probe"}],"n":1e300}"#,
        r#"{"type":""}"#,
    ] {
        assert_eq!(json(text), Ok(Some(Frame::Unknown)), "{text}");
    }
    // Optional fields may be missing, a code may be newer than we are.
    let text = r#"{"type":"close","code":"SP_9999"}"#;
    let close = Frame::Close {
        code: Code::Internal,
        message: String::new(),
        retry: false,
    };
    assert_eq!(json(text), Ok(Some(close)));
    let bind = r#"{"type":"bind","request":1,"generation":2,"upstream":"x"}"#;
    assert!(matches!(json(bind), Ok(Some(Frame::Bind(_)))));
}

/// What is no frame is refused, and the error does not repeat it: it may hold a secret.
#[test]
fn what_is_malformed_is_refused() {
    let deep = format!(r#"{{"type":"probe","token":1,"x":{}"#, "[".repeat(100_000));
    let secret = super::secret().to_text();
    for text in [
        "",
        " ",
        "{}",
        "[]",
        "null",
        "7",
        "\"probe\"",
        "{",
        r#"{"type":"probe"}"#,
        r#"{"type":"probe","token":-1}"#,
        r#"{"type":"probe","token":"7"}"#,
        r#"{"type":"probe","token":18446744073709551616}"#,
        r#"{"type":"probe","token":7}}"#,
        r#"{"type":"probe","token":7}{"type":"probe","token":7}"#,
        r#"{"type":"probe","token":7,"token":8}"#,
        r#"{"type":"probe","type":"probe","token":7}"#,
        r#"{"type":7}"#,
        r#"{"token":7}"#,
        r#"{"type":"unbind","endpoint":"app_user_000000000000000000000000000"}"#,
        r#"{"type":"close","code":"nonsense"}"#,
        r#"{"type":"hello","proto_min":1,"proto_max":1,"features":null}"#,
        &format!(r#"{{"type":"authenticate","authtoken":"{secret}","secret":"{secret}"}}"#),
        &deep,
    ] {
        let error = json(text).expect_err(text);
        assert_eq!(error, FrameError::Malformed);
        assert!(!format!("{error:?} {error}").contains(&secret));
    }
    let mut buffer = framed(b"{\"type\":\"probe\",\"token\":7,\"x\":\"\xff\"}");
    assert_eq!(decode(&mut buffer), Err(FrameError::Malformed));
    for frame in samples() {
        let mut whole = BytesMut::new();
        encode(&frame, &mut whole).unwrap();
        for at in 4..whole.len() {
            let mut buffer = framed(&whole[4..at]);
            assert_eq!(
                decode(&mut buffer),
                Err(FrameError::Malformed),
                "{} cut",
                frame.name()
            );
        }
    }
}

/// The secret travels but is never printed.
#[test]
fn debug_shows_no_secret() {
    let frame = sample("authenticate");
    let printed = format!("{frame:?}");
    assert!(!printed.contains(&super::secret().to_text()), "{printed}");
    assert!(!printed.contains("165"), "{printed}"); // 0xa5
}

proptest! {
    /// Any bytes: no panic, and nothing taken unless a frame came of it.
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        for mut buffer in [BytesMut::from(&bytes[..]), framed(&bytes)] {
            let before = buffer.clone();
            if !matches!(decode(&mut buffer), Ok(Some(_))) {
                prop_assert_eq!(buffer, before);
            }
        }
    }

    /// One byte of a good frame changed: no panic.
    #[test]
    fn any_change(frame in 0..14_usize, at: prop::sample::Index, to: u8) {
        let mut buffer = BytesMut::new();
        encode(&samples()[frame], &mut buffer).unwrap();
        let at = at.index(buffer.len());
        buffer[at] = to;
        let _ = decode(&mut buffer);
    }

    /// Texts of any characters come out as they went in.
    #[test]
    fn any_text(message in "\\PC*", retry: bool) {
        let frame = Frame::Close { code: Code::Internal, message, retry };
        let mut buffer = BytesMut::new();
        encode(&frame, &mut buffer).unwrap();
        prop_assert_eq!(decode(&mut buffer), Ok(Some(frame)));
    }
}

fn framed(bytes: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    buffer.put_u32(u32::try_from(bytes.len()).unwrap());
    buffer.put_slice(bytes);
    buffer
}

fn json(text: &str) -> Result<Option<Frame>, FrameError> {
    decode(&mut framed(text.as_bytes()))
}
