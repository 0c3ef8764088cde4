//! stub
pub(crate) fn parse_email_rule(t: &str) -> Option<String> {
    Some(t.into())
}
pub(crate) fn parse_domain_rule(t: &str) -> Option<String> {
    Some(t.into())
}
