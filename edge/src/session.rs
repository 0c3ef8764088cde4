//! Sessions as this edge holds them: the live table, revocation with its receipt, activity.
//!
//! No cookie and no HTTP here. Reading order: `live`, `revoke`, `activity`.

pub(crate) mod activity;
pub(crate) mod live;
pub(crate) mod revoke;
