//! The nouns of the edge: plain values that every floor above may hold.
//!
//! No wire format, no cookie, no token lives here, and nothing here is serialisable: the store's
//! records, the API's views and `proto` define outside formats. Reading order: `change`, `session`,
//! `user`, `endpoint`, `receipt`, `credential`.

pub(crate) mod change;
pub(crate) mod credential;
pub(crate) mod endpoint;
pub(crate) mod receipt;
pub(crate) mod session;
pub(crate) mod site;
pub(crate) mod user;
