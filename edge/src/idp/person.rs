//! From claims to a person: bounded, printable, and nothing believed that the provider did not say.

use serde_json::{Map, Value};

use super::IdpError;

/// What a document (ID token or user-info) says of a person, beside their subject.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Profile {
    pub(super) email: Option<String>,
    pub(super) email_verified: bool,
    pub(super) name: Option<String>,
    pub(super) username: Option<String>,
}

impl Profile {
    pub(super) fn of(claims: &Map<String, Value>) -> Self {
        let email = claims
            .get("email")
            .and_then(Value::as_str)
            .filter(|email| is_email(email));
        Self {
            email: email.map(str::to_owned),
            // The boolean and nothing else: some providers send the text "false".
            email_verified: email.is_some()
                && claims.get("email_verified") == Some(&Value::Bool(true)),
            name: claims.get("name").and_then(Value::as_str).and_then(clean),
            username: claims
                .get("preferred_username")
                .and_then(Value::as_str)
                .and_then(clean),
        }
    }

    /// Completes this with what another document says. Address and verification stay a pair.
    pub(super) fn or(self, other: Self) -> Self {
        let (email, email_verified) = if self.email.is_some() {
            (self.email, self.email_verified)
        } else {
            (other.email, other.email_verified)
        };
        Self {
            email,
            email_verified,
            name: self.name.or(other.name),
            username: self.username.or(other.username),
        }
    }
}

/// Who the claims are about (OIDC Core §2: at most 255 characters, compared exactly).
pub(super) fn subject(claims: &Map<String, Value>) -> Result<&str, IdpError> {
    claims
        .get("sub")
        .and_then(Value::as_str)
        .filter(|sub| (1..=SUBJECT_BYTES_MAX).contains(&sub.len()) && !sub.contains(is_unprintable))
        .ok_or_else(|| IdpError::answer("its subject is missing or malformed"))
}

/// An address that can be compared with a rule: one `@`, no spaces, nothing unprintable.
fn is_email(email: &str) -> bool {
    email.len() <= EMAIL_BYTES_MAX
        && !email.contains(|c: char| is_unprintable(c) || c.is_whitespace())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@')
        })
}

/// A text for people: unprintable characters dropped, cut to a bound.
fn clean(text: &str) -> Option<String> {
    let mut kept = String::new();
    for c in text.chars().filter(|&c| !is_unprintable(c)) {
        if kept.len() + c.len_utf8() > NAME_BYTES_MAX {
            break;
        }
        kept.push(c);
    }
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// Controls, and what makes a text look like another: directions, joiners, byte order marks.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// RFC 5321 §4.5.3.1.
const EMAIL_BYTES_MAX: usize = 254;
const SUBJECT_BYTES_MAX: usize = 255;
const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn profile(claims: &Value) -> Profile {
        Profile::of(claims.as_object().unwrap())
    }

    /// Only the boolean true verifies an address.
    #[test]
    fn verified_is_the_boolean_true() {
        for (said, verified) in [
            (json!(true), true),
            (json!(false), false),
            (json!("true"), false),
            (json!("false"), false),
            (json!(1), false),
            (json!(null), false),
            (json!([true]), false),
        ] {
            let profile = profile(&json!({"email": "ada@example.test", "email_verified": said}));
            assert_eq!(profile.email_verified, verified, "{said}");
            assert_eq!(profile.email.as_deref(), Some("ada@example.test"));
        }
        assert!(!profile(&json!({"email": "ada@example.test"})).email_verified);
        assert!(!profile(&json!({"email_verified": true})).email_verified);
    }

    /// An address that a rule could misread is none.
    #[test]
    fn malformed_addresses_are_dropped() {
        let long = format!("{}@example.test", "a".repeat(250));
        for email in [
            "x@evil.test@example.test",
            "@example.test",
            "ada@",
            "ada",
            "",
            "a da@example.test",
            "ada@example.test\n",
            "ada\u{0}@example.test",
            "ada@example.test\u{200b}",
            "\u{202e}ada@example.test",
            long.as_str(),
        ] {
            let profile = profile(&json!({"email": email, "email_verified": true}));
            assert_eq!(
                (profile.email, profile.email_verified),
                (None, false),
                "{email:?}"
            );
        }
    }

    #[test]
    fn names_are_bounded_and_printable() {
        let said = json!({"name": " Ada\u{7}\u{202e} Lovelace\r\n", "preferred_username": "é".repeat(400)});
        let profile = profile(&said);
        assert_eq!(profile.name.as_deref(), Some("Ada Lovelace"));
        assert_eq!(profile.username.unwrap().len(), NAME_BYTES_MAX);
    }

    #[test]
    fn subjects_are_texts() {
        for sub in [
            json!(1),
            json!(""),
            json!(null),
            json!("a\n"),
            json!("x".repeat(256)),
        ] {
            subject(json!({"sub": sub}).as_object().unwrap()).unwrap_err();
        }
        subject(
            json!({"sub": "10769150350006150715113082367"})
                .as_object()
                .unwrap(),
        )
        .unwrap();
    }

    /// An address never takes the verification of another document.
    #[test]
    fn address_and_verification_are_a_pair() {
        let token = profile(&json!({"email": "mal@example.test"}));
        let info =
            profile(&json!({"email": "ada@example.test", "email_verified": true, "name": "Ada"}));
        let both = token.or(info);
        assert_eq!(both.email.as_deref(), Some("mal@example.test"));
        assert!(!both.email_verified);
        assert_eq!(both.name.as_deref(), Some("Ada"));
    }
}
