//! A login rule against what a provider said of a person.

use crate::model::endpoint::LoginRule;
use crate::model::user::Claims;
use crate::policy::parse_email_rule;

/// What a rule says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    Allow,
    NotAllowed,
    /// The rule asks for an address, and this one is not proven. Said whether or not the address is
    /// on a list: otherwise anyone could ask the lists by signing in with made-up addresses.
    EmailUnverified,
}

/// Decides whether a rule lets a person in. Without lists anyone who signed in passes.
pub(crate) fn evaluate(rule: &LoginRule, claims: &Claims) -> Decision {
    if rule.allow_emails.is_empty() && rule.allow_domains.is_empty() {
        return Decision::Allow;
    }
    let Some(email) = claims.email.as_deref().and_then(parse_email_rule) else {
        return Decision::NotAllowed;
    };
    if !claims.email_verified {
        return Decision::EmailUnverified;
    }
    let is_listed = rule.allow_emails.contains(&email);
    let domain = email.split_once('@').map(|(_, domain)| domain);
    if is_listed
        || rule
            .allow_domains
            .iter()
            .any(|own| Some(own.as_str()) == domain)
    {
        Decision::Allow
    } else {
        Decision::NotAllowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn check(emails: &[&str], domains: &[&str], email: Option<&str>, verified: bool) -> Decision {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let rule = LoginRule {
            provider: "dev".to_owned(),
            allow_emails: own(emails),
            allow_domains: own(domains),
            session_life: Duration::from_secs(1),
            idle_limit: None,
        };
        let claims = Claims {
            issuer: "https://idp.example".to_owned(),
            subject: "1".to_owned(),
            email: email.map(str::to_owned),
            email_verified: verified,
            name: None,
            username: None,
        };
        evaluate(&rule, &claims)
    }

    /// Lists name whole addresses and whole domains, and take proven addresses only.
    #[test]
    fn decisions() {
        use Decision::{Allow, EmailUnverified, NotAllowed};
        let ada = Some("ada@example.test");
        let table = [
            (check(&[], &[], None, false), Allow),
            (check(&["ada@example.test"], &[], ada, true), Allow),
            (
                check(&["ada@example.test"], &[], Some("ADA@Example.test"), true),
                Allow,
            ),
            (check(&["lin@example.test"], &[], ada, true), NotAllowed),
            (check(&[], &["example.test"], ada, true), Allow),
            (check(&["x@y.test"], &["example.test"], ada, true), Allow),
            (check(&[], &["ample.test"], ada, true), NotAllowed),
            (
                check(&[], &["example.test"], Some("ada@sub.example.test"), true),
                NotAllowed,
            ),
            (
                check(&[], &["example.test"], Some("ada@badexample.test"), true),
                NotAllowed,
            ),
            (check(&[], &["example.test"], None, true), NotAllowed),
            // d12: several `@` make no address.
            (
                check(&[], &["company.com"], Some("x@evil.tld@company.com"), true),
                NotAllowed,
            ),
            (
                check(
                    &["x@evil.tld@company.com"],
                    &[],
                    Some("x@evil.tld@company.com"),
                    true,
                ),
                NotAllowed,
            ),
            // d13: unverified, listed or not.
            (check(&[], &["example.test"], ada, false), EmailUnverified),
            (
                check(&["ada@example.test"], &[], ada, false),
                EmailUnverified,
            ),
            (
                check(&["lin@example.test"], &[], ada, false),
                EmailUnverified,
            ),
        ];
        for (number, (got, expected)) in table.into_iter().enumerate() {
            assert_eq!(got, expected, "row {number}");
        }
    }
}
