//! From host to endpoint: the live copy of what the store says is served.

pub(crate) mod table;
