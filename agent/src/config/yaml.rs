//! YAML as a tree in which everything knows its line, so that an error can point at it.
//!
//! Knows no keys. What the file says may be secret: errors never quote it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Place;

/// One value. Numbers and booleans are kept as text: what they mean is the reader's business.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Node {
    Null,
    Scalar(String),
    List(Vec<Placed<Self>>),
    Map(Vec<(Placed<String>, Placed<Self>)>),
}

/// Something and where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// The keys and values of a mapping, in order.
pub(super) type Entries = Vec<(Placed<String>, Placed<Node>)>;

/// A file that cannot be used: where and why.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    pub(super) place: Place,
    pub(super) why: String,
}

/// Parses one document.
pub(super) fn parse(text: &str) -> Result<Placed<Node>, Wrong> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options)
        .map(Placed::from)
        .map_err(|error| Wrong {
            place: error.location().map_or_else(Place::default, |at| Place {
                line: at.line(),
                column: at.column(),
            }),
            why: describe(&error),
        })
}

/// The kinds of trouble that people make. Anything else is just not readable: the parser's own words
/// may quote the text.
fn describe(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser has eighty kinds of error and adds more"
    )]
    match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } if key.len() <= 40 => {
            format!("the key {key:?} occurs twice")
        }
        Error::DuplicateMappingKey { .. } => "a key occurs twice".to_owned(),
        _ => "this is not readable as YAML; check indentation, colons and quotes".to_owned(),
    }
}

impl<T> From<Spanned<T>> for Placed<T> {
    fn from(spanned: Spanned<T>) -> Self {
        let place = Place {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
        };
        Self {
            value: spanned.value,
            place,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Node>>()? {
            list.push(item.into());
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Spanned<String>, Spanned<Node>>()? {
            entries.push((key.into(), value.into()));
        }
        Ok(Node::Map(entries))
    }
}

impl Wrong {
    pub(super) const fn at(place: Place, why: String) -> Self {
        Self { place, why }
    }
}

pub(super) fn map(node: Placed<Node>, what: &str) -> Result<Entries, Wrong> {
    match node.value {
        Node::Map(entries) => Ok(entries),
        Node::Null => Ok(Vec::new()),
        Node::Scalar(_) | Node::List(_) => Err(Wrong::at(
            node.place,
            format!("{what} must be a mapping of keys to values"),
        )),
    }
}

pub(super) fn list(node: Placed<Node>, what: &str) -> Result<Vec<Placed<Node>>, Wrong> {
    match node.value {
        Node::List(items) => Ok(items),
        Node::Null => Ok(Vec::new()),
        Node::Scalar(_) | Node::Map(_) => {
            Err(Wrong::at(node.place, format!("{what} must be a list")))
        }
    }
}

pub(super) fn scalar(node: Placed<Node>, what: &str) -> Result<Placed<String>, Wrong> {
    match node.value {
        Node::Scalar(value) => Ok(Placed {
            value,
            place: node.place,
        }),
        Node::Null | Node::List(_) | Node::Map(_) => Err(Wrong::at(
            node.place,
            format!("{what} must have a single value"),
        )),
    }
}

/// A scalar, or nothing: an empty `url:` asks for a random name.
pub(super) fn optional(node: Placed<Node>, what: &str) -> Result<Option<String>, Wrong> {
    if node.value == Node::Null {
        return Ok(None);
    }
    let text = scalar(node, what)?.value;
    Ok((!text.is_empty()).then_some(text))
}

pub(super) fn boolean(node: &Placed<Node>, what: &str) -> Result<bool, Wrong> {
    match &node.value {
        Node::Scalar(text) if text == "true" => Ok(true),
        Node::Scalar(text) if text == "false" => Ok(false),
        Node::Null | Node::Scalar(_) | Node::List(_) | Node::Map(_) => Err(Wrong::at(
            node.place,
            format!("{what} must be true or false"),
        )),
    }
}

/// A list of texts; a single one may stand alone.
pub(super) fn texts(node: Placed<Node>, what: &str) -> Result<Vec<String>, Wrong> {
    let items = match node.value {
        Node::Scalar(_) => vec![node],
        Node::Null | Node::List(_) | Node::Map(_) => list(node, what)?,
    };
    items
        .into_iter()
        .map(|item| Ok(scalar(item, what)?.value))
        .collect()
}

pub(super) fn is_scalar(node: &Placed<Node>, text: &str) -> bool {
    matches!(&node.value, Node::Scalar(value) if value == text)
}
