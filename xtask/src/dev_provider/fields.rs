//! Query strings and form bodies, where a field that occurs twice is refused instead of guessed about.

use url::form_urlencoded;

/// The fields of one request.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pairs: Vec<(String, String)>,
}

impl Fields {
    /// Decodes them; gives the name of a field that occurs twice.
    pub(super) fn parse(encoded: &[u8]) -> Result<Self, String> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(encoded).into_owned() {
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(name);
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// A field's value; an empty one counts as absent (RFC 6749 §3.1).
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Whether a space-separated field holds a word.
    pub(super) fn has_word(&self, name: &str, word: &str) -> bool {
        self.value(name)
            .is_some_and(|value| value.split(' ').any(|one| one == word))
    }
}
