//! The closed table of errors. A number is never reused; adding one touches this file only.
//!
//! Bands: 1xxx ingress, 2xxx auth, 3xxx tunnel, 4xxx agent and upstream, 5xxx ours.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whose doing an error is. Picks the log level and the tone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Blame {
    /// Whoever sent the request.
    Client,
    /// A rule that somebody set.
    Policy,
    /// The agent, or how it was set up.
    Agent,
    /// The local app.
    Upstream,
    /// Another edge, or an identity provider.
    Peer,
    /// This edge or its store.
    Us,
}

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $status:literal $blame:ident $meaning:literal $next:literal;)*) => {
        /// An error that people and programs may meet.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $meaning] $variant = $number,)*
        }

        impl Code {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The lasting name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The HTTP status that it is shown with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// Whose doing it is.
            pub const fn blame(self) -> Blame {
                match self { $(Self::$variant => Blame::$blame),* }
            }

            /// One sentence: what happened.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// One sentence: what to do.
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$variant => $next),* }
            }
        }
    };
}

codes! {
    1001 UnknownHost "unknown_host" 404 Client "No endpoint is served under this name." "Check the name; if it is yours, start its agent.";
    1002 HostMissing "host_missing" 400 Client "The request names no usable host." "Send exactly one Host header with a DNS name.";
    1003 BadRequestTarget "bad_request_target" 400 Client "The request's target can be read in more than one way." "Send a plain path without dot segments, back slashes or user information.";
    1004 HostMismatch "host_mismatch" 400 Client "The request names two different hosts." "Let the target and the Host header agree.";
    1005 MisdirectedRequest "misdirected_request" 421 Client "The request is for another name than its TLS connection." "Open a connection of its own for this name.";
    1006 HeadersTooLarge "headers_too_large" 431 Client "The request's headers are too large." "Send fewer or smaller headers; clearing cookies often helps.";
    1007 RequestTimeout "request_timeout" 408 Client "The request did not arrive in time." "Send it again on a better connection.";
    1008 TooManyConnections "too_many_connections" 429 Client "This address has too many connections." "Close some and try again.";
    1009 BadRequest "bad_request" 400 Client "The request is malformed or was broken off." "Correct it and send it again.";
    1010 UpgradeRefused "upgrade_refused" 400 Client "This upgrade is not possible." "Ask for a WebSocket with GET over HTTP/1.1, or with CONNECT over HTTP/2.";
    1011 MethodNotAllowed "method_not_allowed" 405 Client "The method is not allowed here." "Use one of the methods in the Allow header.";
    1012 UnknownPath "unknown_path" 404 Client "There is nothing under this path." "Check the address.";
    1013 BodyTimeout "body_timeout" 408 Client "The request's body stopped arriving." "Send it again on a better connection.";
    1014 BodyTooLarge "body_too_large" 413 Client "The request's body is too large." "Send a smaller one.";
    2001 LoginRequired "login_required" 401 Client "This endpoint wants you to sign in." "Open the login URL in a browser.";
    2002 SessionRevoked "session_revoked" 401 Client "Your session was ended." "Sign in again.";
    2003 SessionExpired "session_expired" 401 Client "Your session has expired." "Sign in again.";
    2004 NotAllowed "not_allowed" 403 Policy "You are signed in, but this endpoint does not let you in." "Ask whoever shared the address to allow your e-mail address or domain, or sign in as somebody else.";
    2005 EmailUnverified "email_unverified" 403 Policy "Your e-mail address is not verified at the identity provider." "Verify it there and sign in again.";
    2006 LoginUnknown "login_unknown" 403 Client "This login is not known, or was used already." "Go back to the address that you wanted and sign in from there.";
    2007 LoginExpired "login_expired" 403 Client "This login took too long." "Go back to the address that you wanted and sign in again.";
    2008 LoginBrowserMismatch "login_browser_mismatch" 403 Client "This login was begun in another browser." "Sign in in this browser from the beginning.";
    2009 DuplicateParameter "duplicate_parameter" 400 Client "A parameter of the login answer occurs twice." "Go back to the address that you wanted and sign in again.";
    2010 CallbackMalformed "callback_malformed" 400 Client "The login answer is malformed." "Go back to the address that you wanted and sign in again.";
    2011 ProviderRefused "provider_refused" 403 Peer "The identity provider refused the login." "Try again, or ask its administrator.";
    2012 ProviderUnreachable "provider_unreachable" 503 Peer "The identity provider cannot be reached." "Try again in a moment.";
    2013 ProviderAnswerInvalid "provider_answer_invalid" 403 Peer "The identity provider's answer is not acceptable." "Try again; if it stays, tell the operator of this edge.";
    2014 IssuerMismatch "issuer_mismatch" 403 Peer "The login was answered by another identity provider than it was begun with." "Go back to the address that you wanted and sign in again.";
    2015 NonceMismatch "nonce_mismatch" 403 Peer "The identity provider's answer belongs to another login." "Go back to the address that you wanted and sign in again.";
    2016 TargetRefused "target_refused" 400 Client "The address to return to is not on this endpoint." "Open the address that you want directly.";
    2017 HandOverInvalid "hand_over_invalid" 403 Client "This sign-in link was used, has expired, or belongs to another browser or endpoint." "Open the address that you want and sign in again.";
    2018 CrossSiteRefused "cross_site_refused" 401 Client "A request from another site does not count as signed in." "Send it from the endpoint's own pages.";
    2019 ProviderMisconfigured "provider_misconfigured" 503 Us "The identity provider is not set up correctly on this edge." "Tell the operator of this edge.";
    2020 UnknownProvider "unknown_provider" 400 Agent "This edge does not know that identity provider." "Ask the operator to run: edge provider add NAME";
    2021 AnyoneMaySignIn "anyone_may_sign_in" 200 Policy "Anyone with an account at the identity provider can sign in." "Add --oauth-allow-domain or --oauth-allow-email.";
    2022 AllowRuleInvalid "allow_rule_invalid" 400 Agent "An allow rule is not usable." "Give whole e-mail addresses and whole domains.";
    2023 InteractiveNotProven "interactive_not_proven" 403 Peer "The identity provider did not ask you to sign in anew." "Sign out at the identity provider and sign in again.";
    2024 UserBlocked "user_blocked" 403 Policy "You are blocked." "Ask whoever shared the address.";
    2025 TooManyLogins "too_many_logins" 429 Client "Too many logins were begun from this address." "Wait a minute and try again.";
    2026 AddressNotAllowed "address_not_allowed" 403 Policy "This endpoint does not let your address in." "Connect from a network that it allows, or ask whoever shared the address.";
    2027 LoginNeedsHttp "login_needs_http" 400 Agent "A login cannot be asked for over raw TCP or TLS." "Serve the app with: agent http; or let only some networks in with --cidr-allow.";
    2028 AddressRuleInvalid "address_rule_invalid" 400 Agent "An address rule is not usable." "Give networks such as 203.0.113.0/24 or 2001:db8::/32, or single addresses.";
    2101 OperatorRequired "operator_required" 401 Client "This page is for operators of the edge." "Get a sign-in link with: edge operator link";
    2102 OperatorLinkSpent "operator_link_spent" 403 Client "This sign-in link was used or has expired." "Get a new one with: edge operator link";
    2103 ApiKeyMissing "api_key_missing" 401 Client "The request carries no API key." "Send Authorization: Bearer <API key>; create one with: edge api-key create";
    2104 ApiKeyInvalid "api_key_invalid" 401 Client "The API key is unknown or revoked." "Create one with: edge api-key create";
    2105 ApiKeyIsAuthtoken "api_key_is_authtoken" 401 Client "This is an authtoken, and an API key is wanted." "Create an API key with: edge api-key create";
    2106 ApiVersionMissing "api_version_missing" 400 Client "The request names no API version." "Send the header Ngrok-Version: 2";
    2107 ApiNotFound "api_not_found" 404 Client "There is no such resource." "Check the id and the path.";
    2108 ApiParameterInvalid "api_parameter_invalid" 400 Client "A parameter is not usable." "See the message for which and why.";
    2109 ApiBodyInvalid "api_body_invalid" 400 Client "The request's body is not usable." "See the message for what is expected.";
    2110 ApiRateLimited "api_rate_limited" 429 Client "Too many failed attempts from this address." "Wait a minute and try again.";
    2111 CsrfRefused "csrf_refused" 403 Client "The form was not sent from this dashboard." "Go back to the dashboard and try again there.";
    3001 EndpointOffline "endpoint_offline" 503 Agent "The agent of this endpoint is not connected." "Start the agent, or wait for it to come back.";
    3002 AgentGone "agent_gone" 502 Agent "The agent went away while it was being asked." "Try again.";
    3003 StreamRefused "stream_refused" 502 Agent "The agent did not take the stream." "Try again; if it stays, restart the agent.";
    3004 TunnelBusy "tunnel_busy" 503 Agent "The agent has too many open streams." "Try again in a moment.";
    3005 NameTaken "name_taken" 409 Agent "This name is in use by somebody else." "Choose another with --url, or stop the agent that holds it; agents of one authtoken may share it with --pooling.";
    3006 NameReserved "name_reserved" 409 Agent "This name is used by the edge itself." "Choose another with --url.";
    3007 NameInvalid "name_invalid" 400 Agent "This is not usable as a name." "Use 1 to 63 letters, digits and hyphens.";
    3008 UrlNotServed "url_not_served" 400 Agent "This edge does not serve that address." "Leave --url out, or give an address that this edge serves.";
    3009 GenerationSuperseded "generation_superseded" 409 Agent "A newer run of this agent has taken over." "Nothing: the newer one serves.";
    3010 AuthtokenMissing "authtoken_missing" 401 Agent "There is no authtoken." "Get one with: edge authtoken create; then: agent config add-authtoken TOKEN";
    3011 AuthtokenMalformed "authtoken_malformed" 401 Agent "This is not an authtoken." "Paste the whole line that edge authtoken create printed.";
    3012 AuthtokenUnknown "authtoken_unknown" 401 Agent "The edge does not know this authtoken." "Get one of this edge with: edge authtoken create";
    3013 AuthtokenRevoked "authtoken_revoked" 401 Agent "The authtoken was revoked." "Ask the operator for a new one: edge authtoken create";
    3014 AuthtokenIsApiKey "authtoken_is_api_key" 401 Agent "This is an API key, and an authtoken is wanted." "Get an authtoken with: edge authtoken create";
    3015 VersionUnsupported "version_unsupported" 400 Agent "Agent and edge speak no common version of the protocol." "Update the older of the two.";
    3016 ControlViolation "control_violation" 400 Agent "The other side broke the protocol." "Update agent and edge; if it stays, report it.";
    3017 ControlTimeout "control_timeout" 408 Agent "The other side did not answer in time." "Check the connection between agent and edge.";
    3018 TooManyEndpoints "too_many_endpoints" 429 Agent "One agent may not serve so many endpoints." "Start another agent.";
    3019 EdgeDraining "edge_draining" 503 Us "The edge is stopping." "Try again in a moment.";
    3031 TcpNotServed "tcp_not_served" 400 Agent "This edge serves no TCP endpoints." "Ask the operator to open ports: edge serve --tcp-ports 20000-20100";
    3032 PortNotServed "port_not_served" 400 Agent "This edge does not serve that port." "Choose one of its range with --remote-addr, or leave that out.";
    3033 PortTaken "port_taken" 409 Agent "This port is in use by somebody else." "Choose another with --remote-addr, or leave that out.";
    3034 PortsExhausted "ports_exhausted" 429 Agent "Every TCP port of this edge is taken." "Ask the operator for a larger range: edge serve --tcp-ports";
    3035 EndpointKindUnknown "endpoint_kind_unknown" 400 Agent "This edge does not know that kind of endpoint." "Update the edge.";
    3036 LaneUnneeded "lane_unneeded" 409 Agent "The tunnel needs no further link." "Nothing: it goes on with those that it has.";
    3037 EdgeTooOld "edge_too_old" 400 Agent "This edge is too old for what was asked of it." "Update the edge, or leave that option out.";
    3040 ReadersStalled "readers_stalled" 503 Client "Too much of what this endpoint sent waits for visitors who do not read it." "Try again in a moment.";
    4001 UpstreamUnreachable "upstream_unreachable" 502 Upstream "The local app does not accept connections." "Start it, or check the port that the agent was given.";
    4002 UpstreamTimeout "upstream_timeout" 504 Upstream "The local app did not answer in time." "Check whether it is overloaded.";
    4003 UpstreamClosed "upstream_closed" 502 Upstream "The local app closed the connection without an answer." "Look into its log; one that speaks TLS wants an https:// address, one that speaks HTTP/2 alone --upstream-protocol=http2.";
    4004 UpstreamBadResponse "upstream_bad_response" 502 Upstream "The local app's answer is not HTTP." "Check that it speaks HTTP/1.1 on that port.";
    4005 EdgeUnreachable "edge_unreachable" 503 Agent "The edge cannot be reached." "Check that it runs, and that neither UDP nor TCP to its port is blocked.";
    4006 EdgeUntrusted "edge_untrusted" 403 Agent "The edge's certificate is not the one that the authtoken names." "Use an authtoken of this edge, or name its link-ca.pem with --ca.";
    4007 UpstreamInvalid "upstream_invalid" 400 Agent "This is not usable as the local app's address." "Give a port, host:port, http://host:port or https://host:port.";
    4008 ConfigInvalid "config_invalid" 400 Agent "The configuration is not usable." "See the line named in the message.";
    4009 UpstreamUntrusted "upstream_untrusted" 502 Upstream "The local app's certificate is not one that its agent trusts." "Name its CA with --upstream-ca; on a machine of your own, --upstream-tls-verify=false does without.";
    4010 UpstreamNameMismatch "upstream_name_mismatch" 502 Upstream "The local app's certificate is for another name." "Give the agent the app's address by the name in the certificate, or that name with --host-header.";
    4011 UpstreamTlsFailed "upstream_tls_failed" 502 Upstream "The local app and its agent did not agree on TLS." "Check that the app speaks TLS on that port; an app without it wants an http:// address.";
    4012 UpstreamProtocolMismatch "upstream_protocol_mismatch" 502 Upstream "The local app does not speak the version of HTTP that its agent was told." "Leave --upstream-protocol out for HTTP/1.1, or set it to http2.";
    4013 UpstreamWithoutWebSocket "upstream_without_websocket" 502 Upstream "The local app does not take WebSockets over HTTP/2." "Enable RFC 8441 in the app, or leave --upstream-protocol=http2 out.";
    4014 UpstreamUnverified "upstream_unverified" 200 Agent "The local app's certificate is not checked." "Leave --upstream-tls-verify out, and name the app's CA with --upstream-ca.";
    4020 UploadsStalled "uploads_stalled" 503 Upstream "Too much of what was sent to the local app waits for it to be read." "Try again in a moment; look into the app's log.";
    4021 ProxyUnreachable "proxy_unreachable" 503 Agent "The HTTP proxy cannot be reached." "Check proxy_url in the configuration, or HTTPS_PROXY; NO_PROXY names edges that need none.";
    4022 ProxyLoginRequired "proxy_login_required" 407 Agent "The HTTP proxy wants a name and a password." "Give them in the configuration file, not on a command line: proxy_url: http://NAME:PASSWORD@HOST:PORT";
    4023 ProxyRefused "proxy_refused" 502 Agent "The HTTP proxy gives no way to the edge." "Ask its administrator to allow CONNECT to the edge's address and port.";
    4024 UdpBlocked "udp_blocked" 503 Agent "UDP to the edge does not get through." "Use the link over TLS: --link auto or --link tls; or let UDP to the edge's port through.";
    5001 StoreUnavailable "store_unavailable" 503 Us "The edge cannot use its store at the moment." "Try again in a moment; nothing was lost.";
    5002 StoreFull "store_full" 503 Us "The edge's store is full." "Tell the operator: free space on its disk.";
    5003 Internal "internal" 500 Us "Something went wrong in the edge." "Try again; if it stays, tell the operator the request id.";
    5004 LeaseLost "lease_lost" 503 Us "The edge cannot confirm sessions at the moment." "Try again in a moment; you are still signed in.";
    5010 EdgeBusy "edge_busy" 503 Us "The edge has as many requests open as it may." "Try again in a moment; the operator can raise exchanges_max.";
}

impl Code {
    /// The lasting number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The code of a number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.number() == number)
    }

    /// Whether trying again with the same words cannot help: an agent that gets this code ends, or
    /// drops the endpoint, and never comes back by itself. The one list of such codes.
    pub const fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::UnknownProvider
                | Self::AllowRuleInvalid
                | Self::NameTaken
                | Self::NameReserved
                | Self::NameInvalid
                | Self::UrlNotServed
                | Self::GenerationSuperseded
                | Self::AuthtokenMissing
                | Self::AuthtokenMalformed
                | Self::AuthtokenUnknown
                | Self::AuthtokenRevoked
                | Self::AuthtokenIsApiKey
                | Self::VersionUnsupported
                | Self::TooManyEndpoints
                | Self::EdgeUntrusted
                | Self::UpstreamInvalid
                | Self::ConfigInvalid
                | Self::LoginNeedsHttp
                | Self::AddressRuleInvalid
                | Self::TcpNotServed
                | Self::PortNotServed
                | Self::PortTaken
                | Self::EndpointKindUnknown
                | Self::EdgeTooOld
        )
    }

    /// Parses the text form, `SP_1001`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_number(text.strip_prefix("SP_")?.parse().ok()?)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SP_{}", self.number())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    /// A code of a newer peer reads as `internal`: its message and next step still say what to do.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !text.starts_with("SP_") {
            return Err(serde::de::Error::custom("not an error code"));
        }
        Ok(Self::parse(&text).unwrap_or(Self::Internal))
    }
}
