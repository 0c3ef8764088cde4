//! What this agent does not ask of its edge, since the edge would pass over the words.

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::String;

use super::Event;
use crate::bind::BindRequest;
use crate::code::Code;
use crate::version;

/// Refuses a bind whose words the edge would pass over: what it served then would be another thing, open
/// to more people.
pub(super) fn lacking(edge_features: &[String], request: &BindRequest) -> Option<Event> {
    let has = |feature: &str| edge_features.iter().any(|known| known == feature);
    let feature = request.needs().find(|feature| !has(feature))?;
    let what = match feature {
        version::TCP => "TCP endpoints",
        version::TLS => "TLS endpoints",
        version::CIDR => "address rules (--cidr-allow, --cidr-deny)",
        version::PROXY_PROTOCOL => "the PROXY protocol (--proxy-proto)",
        version::UPSTREAM_PROTOCOL => "--upstream-protocol",
        version::HOST_HEADER => "--host-header",
        other => other,
    };
    let code = Code::EdgeTooOld;
    Some(Event::BindRefused {
        request: request.request,
        code,
        message: format!("this edge is too old to know {what}"),
        next_step: code.next_step().to_owned(),
    })
}
