//! Authtokens and API keys: text round trips, and each wrong text has its code.

use std::borrow::ToOwned as _;
use std::format;
use std::string::{String, ToString as _};
use std::vec;
use std::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::{id, secret};
use crate::authtoken::{
    API_KEY_PREFIX, AUTHTOKEN_PREFIX, Authtoken, TokenSecret, api_key_text, parse_api_key,
};
use crate::code::Code;
use crate::limits;

fn authtoken() -> Authtoken {
    Authtoken {
        id: id(1),
        secret: secret(),
        addrs: vec!["127.0.0.1:8443".to_owned(), "[::1]:8443".to_owned()],
        server_name: "connect.quiet.localhost".to_owned(),
        link_ca_key: [7; 32],
    }
}

/// One paste sets a machine up: the text gives back what the edge put in.
#[test]
fn an_authtoken_round_trips() {
    let token = authtoken();
    let text = token.to_text();
    assert_eq!(Authtoken::parse(&text), Ok(token.clone()));
    assert_eq!(
        Authtoken::parse(&format!("  {text}\r\n")),
        Ok(token.clone())
    );
    let rest = text.strip_prefix(AUTHTOKEN_PREFIX).unwrap();
    assert!(rest.starts_with(&token.id.ksuid()), "{text}");
}

/// The text is made of characters that a shell and a URL leave alone, so that it pastes anywhere.
#[test]
fn an_authtoken_pastes_anywhere() {
    let text = authtoken().to_text();
    assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    );
}

/// Every authtoken that fits the limits fits its text.
#[test]
fn the_longest_authtoken_parses() {
    let label = "a".repeat(63);
    let label = label.as_str();
    let host = [label, label, label, "a".repeat(61).as_str()].join(".");
    assert_eq!(host.len(), limits::HOST_BYTES_MAX);
    let token = Authtoken {
        addrs: vec![format!("{host}:65535"); limits::AUTHTOKEN_ADDRS_MAX],
        server_name: host,
        ..authtoken()
    };
    assert_eq!(Authtoken::parse(&token.to_text()), Ok(token));
}

/// A later edge may say more; an older agent still reads it.
#[test]
fn unknown_fields_of_an_authtoken_are_ignored() {
    let (token, json) = split(&authtoken().to_text());
    let json = json.replacen('{', r#"{"later":[1],"#, 1);
    assert_eq!(Authtoken::parse(&join(&token, &json)), Ok(authtoken()));
}

/// Each mix-up has its own sentence, and nothing else passes.
#[test]
fn wrong_texts_have_their_code() {
    let good = authtoken().to_text();
    let (token, json) = split(&good);
    let key = api_key_text(id(9), &secret());
    for text in [
        &key,
        API_KEY_PREFIX,
        &id::<crate::id::ApiKey>(9).to_string(),
    ] {
        assert_eq!(
            Authtoken::parse(text),
            Err(Code::AuthtokenIsApiKey),
            "{text}"
        );
    }
    let with_json = |from: &str, to: &str| {
        assert!(json.contains(from), "{json}");
        join(&token, &json.replace(from, to))
    };
    let malformed: Vec<String> = vec![
        String::new(),
        " ".to_owned(),
        AUTHTOKEN_PREFIX.to_owned(),
        token.clone(),
        format!("{token}."),
        format!("{token}.e30"),
        format!("{good}."),
        format!("{good}="),
        good.replace("sp_at_", ""),
        good.replace("sp_at_", "SP_AT_"),
        good.replace("sp_at_", "sp_at_cr_"),
        good.replacen("sp_at_", "sp_at_0", 1),
        good.replacen('.', "A.", 1),
        good.replacen('.', " .", 1),
        good.replacen('.', "+.", 1),
        good.get(..good.len() - 5).unwrap().to_owned(),
        "2bUD1oIN2hOtC1IiUiSFCTpxnNe_2Y2rQFw9JQkgJcwmBVQHr".to_owned(),
        id::<crate::id::Authtoken>(1).to_string(),
        with_json("127.0.0.1:8443", "127.0.0.1"),
        with_json("127.0.0.1:8443", "127.0.0.1:0"),
        with_json("127.0.0.1:8443", "127.0.0.1:+80"),
        with_json("127.0.0.1:8443", "127.0.0.1:65536"),
        with_json("127.0.0.1:8443", ":443"),
        with_json("127.0.0.1:8443", "a b:443"),
        with_json("127.0.0.1:8443", "a/b:443"),
        with_json("127.0.0.1:8443", "a@b:443"),
        with_json("127.0.0.1:8443", "::1:443"),
        with_json("[::1]:8443", "[::g]:8443"),
        with_json("connect.quiet.localhost", ""),
        with_json("connect.quiet.localhost", "connect..localhost"),
        with_json("connect.quiet.localhost", "connect.localhost:1"),
        with_json(r#"["127.0.0.1:8443","[::1]:8443"]"#, "[]"),
        with_json(
            r#""[::1]:8443""#,
            &vec![r#""a:1""#; limits::AUTHTOKEN_ADDRS_MAX].join(","),
        ),
        with_json(r#""ca":"BwcH"#, r#""ca":"wcH"#),
        with_json(r#""ca""#, r#""cb""#),
        join(&token, "[]"),
        join(
            &token,
            &format!("{json}{}", " ".repeat(limits::AUTHTOKEN_BYTES_MAX)),
        ),
    ];
    for text in malformed {
        assert_eq!(
            Authtoken::parse(&text),
            Err(Code::AuthtokenMalformed),
            "{text}"
        );
    }
}

/// An API key round trips, and an authtoken in its place is called by its name.
#[test]
fn api_keys() {
    let text = api_key_text(id(9), &secret());
    assert_eq!(parse_api_key(&text), Ok((id(9), secret())));
    assert_eq!(parse_api_key(&format!("{text}\n")), Ok((id(9), secret())));
    assert_eq!(
        parse_api_key(&authtoken().to_text()),
        Err(Code::ApiKeyIsAuthtoken)
    );
    for wrong in [
        "",
        API_KEY_PREFIX,
        text.get(..text.len() - 1).unwrap(),
        &format!("{text}A"),
        &text.replace("sp_ak_", "ak_"),
        &format!("{text}.e30"),
    ] {
        assert_eq!(parse_api_key(wrong), Err(Code::ApiKeyInvalid), "{wrong}");
    }
}

/// No secret is printed by `Debug`, of the token or of what holds it.
#[test]
fn secrets_are_masked() {
    let printed = format!("{:?} {:?}", authtoken(), secret());
    assert!(!printed.contains(&secret().to_text()), "{printed}");
    assert!(!printed.contains("165"), "{printed}"); // 0xa5
    assert!(printed.contains('…'), "{printed}");
}

/// Equality looks at all bytes.
#[test]
fn secrets_compare() {
    for at in 0..32 {
        let mut bytes = *secret().expose();
        bytes[at] ^= 1;
        assert_ne!(TokenSecret::new(bytes), secret());
    }
    assert_eq!(TokenSecret::parse(&secret().to_text()), Some(secret()));
}

proptest! {
    /// No text makes parsing panic; what parses has one text only.
    #[test]
    fn any_text(text in "(sp_at_|sp_ak_)?[0-9A-Za-z_.-]{0,80}|\\PC{0,40}") {
        if let Ok(token) = Authtoken::parse(&text) {
            prop_assert_eq!(Authtoken::parse(&token.to_text()), Ok(token));
        }
        if let Ok((id, secret)) = parse_api_key(&text) {
            prop_assert_eq!(api_key_text(id, &secret), text.trim());
        }
    }

    /// What an edge can put in comes out again.
    #[test]
    fn any_authtoken(secret: [u8; 32], random: [u8; 14], key: [u8; 32], ip: core::net::Ipv6Addr, port in 1_u16..) {
        let token = Authtoken {
            id: crate::id::AuthtokenId::new(1_795_000_000_000, random),
            secret: TokenSecret::new(secret),
            addrs: vec![core::net::SocketAddr::new(ip.into(), port).to_string()],
            link_ca_key: key,
            ..authtoken()
        };
        prop_assert_eq!(Authtoken::parse(&token.to_text()), Ok(token));
    }
}

fn split(text: &str) -> (String, String) {
    let (token, pinned) = text.split_once('.').unwrap();
    let json = URL_SAFE_NO_PAD.decode(pinned).unwrap();
    (token.to_owned(), String::from_utf8(json).unwrap())
}

fn join(token: &str, json: &str) -> String {
    format!("{token}.{}", URL_SAFE_NO_PAD.encode(json))
}
