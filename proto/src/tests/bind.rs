//! What a bind may say, and that whatever may be said fits a frame.

use std::borrow::ToOwned as _;
use std::string::String;
use std::vec;
use std::vec::Vec;

use bytes::BytesMut;

use super::{bind, full_bind};
use crate::bind::{BindRequest, UpstreamProtocol};
use crate::code::Code;
use crate::frame::Frame;
use crate::{codec, limits};

/// Each wrong part has its own code.
#[test]
fn each_part_is_checked() {
    let check = |change: fn(&mut BindRequest), expected: Result<(), Code>| {
        let mut request = full_bind(1);
        change(&mut request);
        let outcome = request.check();
        assert_eq!(
            outcome.clone().map_err(|(code, _)| code),
            expected,
            "{outcome:?}"
        );
    };
    check(|_| {}, Ok(()));
    check(|r| *r = bind(1), Ok(()));
    check(|r| r.url = None, Ok(()));
    check(
        |r| r.url = Some("ä".repeat(limits::URL_BYTES_MAX / 2)),
        Ok(()),
    );
    check(|r| r.url = Some(String::new()), Err(Code::UrlNotServed));
    check(
        |r| r.url = Some("a".repeat(limits::URL_BYTES_MAX + 1)),
        Err(Code::UrlNotServed),
    );
    check(
        |r| r.url = Some("app\u{1b}[2J".to_owned()),
        Err(Code::UrlNotServed),
    );
    check(|r| r.upstream = String::new(), Err(Code::UpstreamInvalid));
    check(
        |r| r.upstream = "a\nb".to_owned(),
        Err(Code::UpstreamInvalid),
    );
    check(
        |r| r.upstream = "a".repeat(limits::UPSTREAM_BYTES_MAX + 1),
        Err(Code::UpstreamInvalid),
    );
    check(
        |r| r.upstream_protocol = UpstreamProtocol::Unknown,
        Err(Code::UpstreamInvalid),
    );
    for host in ["app.internal", "app.internal:8443", "[::1]:8443"] {
        let mut request = bind(1);
        request.host_header = Some(host.to_owned());
        assert_eq!(request.check(), Ok(()), "{host}");
    }
    for host in [
        "",
        "a b",
        "ada@app",
        "app/x",
        "app\r\nx: y",
        "ä",
        &"a".repeat(500),
    ] {
        let mut request = bind(1);
        request.host_header = Some(host.to_owned());
        let code = request.check().map_err(|(code, _)| code);
        assert_eq!(code, Err(Code::UpstreamInvalid), "{host:?}");
    }
    check(
        |r| login(r).provider = String::new(),
        Err(Code::UnknownProvider),
    );
    check(
        |r| login(r).provider = "a".repeat(limits::PROVIDER_BYTES_MAX + 1),
        Err(Code::UnknownProvider),
    );
    check(|r| login(r).allow_emails = Vec::new(), Ok(()));
    for (entry, is_good) in [
        ("ada@example.test", true),
        ("", false),
        ("a b", false),
        ("a\u{a0}b", false),
        ("a\0b", false),
        ("a\"b", false),
        ("a\\b", false),
    ] {
        let mut request = full_bind(1);
        login(&mut request).allow_domains.push(entry.to_owned());
        assert_eq!(request.check().is_ok(), is_good, "{entry:?}");
    }
    check(
        |r| login(r).allow_emails = vec!["a".repeat(limits::ALLOW_ENTRY_BYTES_MAX + 1)],
        Err(Code::AllowRuleInvalid),
    );
    check(
        |r| login(r).allow_domains = vec!["a".to_owned(); limits::ALLOW_ENTRIES_MAX + 1],
        Err(Code::AllowRuleInvalid),
    );
    check(
        |r| {
            let full = vec!["a".repeat(limits::ALLOW_ENTRY_BYTES_MAX); limits::ALLOW_ENTRIES_MAX];
            login(r).allow_domains.clone_from(&full);
            login(r).allow_emails = full;
        },
        Err(Code::AllowRuleInvalid),
    );
}

/// The largest bind that passes its check travels.
#[test]
fn the_largest_bind_fits_a_frame() {
    let mut request = full_bind(u32::MAX);
    request.generation = u64::MAX;
    request.url = Some("\"".repeat(limits::URL_BYTES_MAX));
    request.upstream = "\\".repeat(limits::UPSTREAM_BYTES_MAX);
    let entry = limits::ALLOW_BYTES_MAX / (2 * limits::ALLOW_ENTRIES_MAX);
    let full = vec!["a".repeat(entry); limits::ALLOW_ENTRIES_MAX];
    login(&mut request).allow_emails.clone_from(&full);
    login(&mut request).allow_domains = full;
    assert_eq!(request.check(), Ok(()));
    let frame = Frame::Bind(request);
    let mut buffer = BytesMut::new();
    codec::encode(&frame, &mut buffer).unwrap();
    assert_eq!(codec::decode(&mut buffer), Ok(Some(frame)));
}

/// What one side says cannot move the other's cursor, nor break a character.
#[test]
fn texts_are_clipped_between_characters() {
    for (text, bytes_max, expected) in [
        ("", 3, ""),
        ("abc", 3, "abc"),
        ("abcd", 3, "abc"),
        ("aää", 3, "aä"),
        ("aää", 4, "aä"),
        ("a\u{1b}[2J\nb", 9, "a [2J b"),
        ("\u{9b}x", 9, " x"),
    ] {
        assert_eq!(limits::clip(text, bytes_max), expected, "{text:?}");
        assert!(
            limits::is_text(&limits::clip(text, bytes_max), bytes_max),
            "{text:?}"
        );
    }
}

fn login(request: &mut BindRequest) -> &mut crate::bind::LoginOptions {
    request.login.as_mut().expect("set by full_bind")
}
