//! Query parameters of the paths that the edge answers itself: counted, bounded, each name once.

use proto::code::Code;
use url::form_urlencoded;

/// Parameters by name.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// `DuplicateParameter` when a name occurs twice in any spelling, `CallbackMalformed` when there
    /// is too much of it.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Code> {
        let text = text.unwrap_or_default();
        if text.len() > QUERY_BYTES_MAX {
            return Err(Code::CallbackMalformed);
        }
        let mut read: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            if read.iter().any(|(known, _)| *known == name) {
                return Err(Code::DuplicateParameter);
            }
            if read.len() == PARAMETERS_MAX {
                return Err(Code::CallbackMalformed);
            }
            read.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(read))
    }

    pub(super) fn find(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A ticket of 4 KiB, or a provider's answer with a long code, and as much again.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Providers add a handful of their own (`scope`, `session_state`, `authuser`, `prompt`, `hd`).
const PARAMETERS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// d11: a parameter that occurs twice is no parameter.
    #[test]
    fn once_or_refused() {
        let query = Query::parse(Some("state=a%20b&code=x&flag")).ok().unwrap();
        assert_eq!(query.find("state"), Some("a b"));
        assert_eq!(query.find("flag"), Some(""));
        assert_eq!(query.find("iss"), None);
        for twice in ["state=a&state=b", "code=a&x=1&code=a", "state=a&st%61te=b"] {
            assert_eq!(
                Query::parse(Some(twice)).err(),
                Some(Code::DuplicateParameter),
                "{twice}"
            );
        }
        let many: Vec<String> = (0..33).map(|number| format!("p{number}=1")).collect();
        assert_eq!(
            Query::parse(Some(&many.join("&"))).err(),
            Some(Code::CallbackMalformed)
        );
        let long = "a".repeat(QUERY_BYTES_MAX + 1);
        assert_eq!(
            Query::parse(Some(&long)).err(),
            Some(Code::CallbackMalformed)
        );
        assert!(Query::parse(None).is_ok());
    }
}
