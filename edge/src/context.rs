//! What surrounds a request: where an address is, what browser a header names. Never fails one.

mod geoip;
mod user_agent;

pub(crate) use geoip::GeoIp;
pub(crate) use user_agent::UserAgents;
