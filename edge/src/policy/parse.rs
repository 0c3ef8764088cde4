//! Addresses and domains of allow rules, and of the people that they are compared with.

use proto::limits::ALLOW_ENTRY_BYTES_MAX;

/// Gives a whole e-mail address in lower case, or nothing when it is none: exactly one `@`, ASCII,
/// no wildcard.
pub(crate) fn parse_email_rule(text: &str) -> Option<String> {
    let (local, domain) = text.split_once('@')?;
    let is_address = text.len() <= ALLOW_ENTRY_BYTES_MAX && is_local(local) && is_domain(domain);
    is_address.then(|| text.to_ascii_lowercase())
}

/// Gives a whole mail domain in lower case, or nothing when it is none. Names outside ASCII are
/// written in their `xn--` form.
pub(crate) fn parse_domain_rule(text: &str) -> Option<String> {
    let is_whole = text.len() <= ALLOW_ENTRY_BYTES_MAX && is_domain(text);
    is_whole.then(|| text.to_ascii_lowercase())
}

/// The unquoted form of RFC 5322 §3.2.3, less `*`: a quoted local part may hold another `@`.
fn is_local(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LOCAL_BYTES_MAX
        && text.split('.').all(|atom| !atom.is_empty())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'+-/=?^_`{|}~.".contains(&byte))
}

/// Two labels or more, each of letters, digits and inner hyphens (RFC 1123 §2.1).
fn is_domain(text: &str) -> bool {
    text.contains('.') && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// RFC 5321 §4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;
/// RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    /// An allow rule is one whole address, or it is refused.
    #[test]
    fn email_rules() {
        let fine = [
            ("Ada@Example.TEST", "ada@example.test"),
            ("a.b+c@x-y.example", "a.b+c@x-y.example"),
            ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ];
        for (text, expected) in fine {
            assert_eq!(parse_email_rule(text).as_deref(), Some(expected));
        }
        for wrong in [
            "",
            "@",
            "ada",
            "@example.test",
            "ada@",
            "ada@test",
            "x@evil.tld@company.com",
            "\"x@evil.tld\"@company.com",
            "*@example.test",
            "ada@*.example.test",
            "ada@example..test",
            ".ada@example.test",
            "ada @example.test",
            " ada@example.test",
            "ada@example.test\n",
            "ada@ex\u{0430}mple.test",
            "\u{212a}im@example.test",
            "ada@-example.test",
            "a,b@example.test",
        ] {
            assert_eq!(parse_email_rule(wrong), None, "{wrong}");
        }
        let long = format!("{}@example.test", "a".repeat(65));
        assert_eq!(parse_email_rule(&long), None);
    }

    /// A domain rule is one whole domain, or it is refused.
    #[test]
    fn domain_rules() {
        assert_eq!(
            parse_domain_rule("Example.TEST").as_deref(),
            Some("example.test")
        );
        for wrong in [
            "",
            "test",
            "@example.test",
            ".example.test",
            "example.test.",
            "*.example.test",
            "exa mple.test",
            "b\u{fc}cher.example",
            "example.test/",
            "example.test:443",
        ] {
            assert_eq!(parse_domain_rule(wrong), None, "{wrong}");
        }
    }
}
