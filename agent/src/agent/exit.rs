//! Which class an end belongs to, as scripts see it.

use proto::code::Code;

/// The process's exit code. The numbers are a promise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Ended by a signal after serving, or did what it was asked for.
    Done = 0,
    /// Something is broken here, or agent and edge do not understand each other.
    Internal = 1,
    /// The configuration or the upstream's address cannot be used.
    Configuration = 3,
    /// The authtoken is missing, malformed, unknown or revoked.
    Authtoken = 4,
    /// The edge does not serve the endpoint as asked.
    Endpoint = 5,
    /// No edge was reached.
    EdgeUnreachable = 6,
    /// Whoever answered is not the edge.
    EdgeUntrusted = 7,
    /// The local app does not answer.
    UpstreamDown = 8,
}

impl From<Code> for Exit {
    /// The class of what ended the agent. 2 is left to the command line's own errors.
    fn from(code: Code) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "codes of requests never end an agent; if one does, something is broken"
        )]
        match code {
            Code::ConfigInvalid | Code::UpstreamInvalid => Self::Configuration,
            Code::AuthtokenMissing
            | Code::AuthtokenMalformed
            | Code::AuthtokenUnknown
            | Code::AuthtokenRevoked
            | Code::AuthtokenIsApiKey => Self::Authtoken,
            Code::NameTaken
            | Code::NameReserved
            | Code::NameInvalid
            | Code::UrlNotServed
            | Code::EdgeTooOld
            | Code::UnknownProvider
            | Code::ProviderMisconfigured
            | Code::AllowRuleInvalid
            | Code::AddressRuleInvalid
            | Code::LoginNeedsHttp
            | Code::TcpNotServed
            | Code::PortNotServed
            | Code::PortTaken
            | Code::PortsExhausted
            | Code::EndpointKindUnknown
            | Code::TooManyEndpoints
            | Code::GenerationSuperseded => Self::Endpoint,
            Code::EdgeUnreachable
            | Code::ProxyUnreachable
            | Code::ProxyLoginRequired
            | Code::ProxyRefused
            | Code::UdpBlocked
            | Code::EdgeDraining
            | Code::AgentGone
            | Code::ControlTimeout
            | Code::StoreUnavailable
            | Code::StoreFull => Self::EdgeUnreachable,
            Code::EdgeUntrusted => Self::EdgeUntrusted,
            Code::UpstreamUnreachable
            | Code::UpstreamTimeout
            | Code::UpstreamUntrusted
            | Code::UpstreamNameMismatch
            | Code::UpstreamTlsFailed
            | Code::UpstreamProtocolMismatch => Self::UpstreamDown,
            _ => Self::Internal,
        }
    }
}
