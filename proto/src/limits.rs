//! Every bound of the protocol, with its unit and its reason.

use alloc::string::String;
use core::time::Duration;

/// Bytes of one control frame's JSON: a bind with full allow lists fits several times over.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The same before the agent is authenticated: a hello with every feature fits, and a stranger costs
/// little memory.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 16 * 1024;
/// Frames and events that a machine holds for its driver; a driver drains after every input.
pub const QUEUE_MAX: usize = 256;
/// Endpoints of one tunnel: a developer has a few, a fleet host some hundred.
pub const ENDPOINTS_PER_TUNNEL_MAX: usize = 256;
/// Binds that wait for their answer at a time.
pub const BINDS_PENDING_MAX: usize = 32;
/// Entries of an allow list. Longer lists belong into a group at the provider.
pub const ALLOW_ENTRIES_MAX: usize = 500;
/// Bytes of one e-mail address or domain (RFC 5321 §4.5.3.1: 64 + 1 + 255, less the path's brackets).
pub const ALLOW_ENTRY_BYTES_MAX: usize = 254;
/// Bytes of both allow lists together, so that a bind always fits a frame.
pub const ALLOW_BYTES_MAX: usize = 192 * 1024;
/// Bytes of a requested URL.
pub const URL_BYTES_MAX: usize = 512;
/// Bytes of an upstream's display text.
pub const UPSTREAM_BYTES_MAX: usize = 512;
/// Bytes of a provider's name.
pub const PROVIDER_BYTES_MAX: usize = 64;
/// Bytes of other short texts (versions, operating systems, messages).
pub const TEXT_BYTES_MAX: usize = 1024;
/// Entries of short lists (features, edges).
pub const LIST_MAX: usize = 64;
/// Bytes of a feature's name.
pub const FEATURE_BYTES_MAX: usize = 64;
/// Notices of one bind: each is a sentence that a person should read.
pub const NOTICES_MAX: usize = 16;
/// Bytes of a DNS name in text (RFC 1035 §2.3.4: 255 on the wire).
pub const HOST_BYTES_MAX: usize = 253;
/// Bytes of `host:port`, with room for an IPv6 address's brackets.
pub const ADDR_BYTES_MAX: usize = HOST_BYTES_MAX + 8;
/// Bytes of an authtoken's text: every address at full length fits.
pub const AUTHTOKEN_BYTES_MAX: usize = 8192;
/// Addresses in an authtoken.
pub const AUTHTOKEN_ADDRS_MAX: usize = 16;
/// Bytes of the message in a refusing ack.
pub const ACK_MESSAGE_BYTES_MAX: usize = 512;
/// Data streams of one tunnel at a time: a thousand requests at once, and as many idle streams.
pub const STREAMS_PER_TUNNEL_MAX: u32 = 2048;
/// From the link's opening to a complete hello and authenticate, and for their answers.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a bind may wait for its answer: the edge writes its store and probes the path.
pub const BIND_WITHIN: Duration = Duration::from_secs(20);
/// How long the edge's own check of an authtoken may take: the agent still hears that it failed.
pub const AUTHENTICATE_ANSWER_WITHIN: Duration = Duration::from_secs(7);
/// How long the edge's own work for a bind may take: the agent still hears that it failed.
pub const BIND_ANSWER_WITHIN: Duration = Duration::from_secs(17);
/// Between probes of a quiet link. 10,000 links at 4 s took a tenth of a core.
pub const PROBE_EVERY: Duration = Duration::from_secs(20);
/// A probe without an answer for so long means that the link is dead.
pub const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// Endpoints of an edge's cluster that are read into memory.
pub const ENDPOINTS_MAX: usize = 1_000_000;

/// Cuts a text to so many bytes, between characters, and makes each control character a space: what
/// one side says ends up in the other's terminal and log.
pub(crate) fn clip(text: &str, bytes_max: usize) -> String {
    let mut clipped = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        if clipped.len() + character.len_utf8() > bytes_max {
            break;
        }
        clipped.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    clipped
}

/// Whether a text is within its bytes and free of control characters.
pub(crate) fn is_text(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(char::is_control)
}

// JSON writes a quote or a backslash as two bytes; control characters are refused.
const _: () = assert!(
    ALLOW_BYTES_MAX + 3 * ALLOW_ENTRIES_MAX * 2 + 2 * (URL_BYTES_MAX + UPSTREAM_BYTES_MAX) + 1024
        < FRAME_BYTES_MAX,
    "every bind that passes its check fits a frame"
);
const _: () = assert!(
    NOTICES_MAX * 2 * (2 * TEXT_BYTES_MAX + 64) + 2 * URL_BYTES_MAX + 1024 < FRAME_BYTES_MAX,
    "every answer to a bind fits a frame"
);
const _: () = assert!(
    LIST_MAX * (FEATURE_BYTES_MAX + 3) + 3 * 2 * TEXT_BYTES_MAX + 1024 < HANDSHAKE_FRAME_BYTES_MAX,
    "every hello fits a frame of the handshake"
);
const _: () = assert!(
    (AUTHTOKEN_ADDRS_MAX * (ADDR_BYTES_MAX + 3) + HOST_BYTES_MAX + 128) * 4 / 3 + 128
        < AUTHTOKEN_BYTES_MAX,
    "every authtoken fits its text"
);
const _: () =
    assert!(BINDS_PENDING_MAX <= ENDPOINTS_PER_TUNNEL_MAX && BINDS_PENDING_MAX < QUEUE_MAX);
const _: () = assert!(PROBE_WITHIN.as_secs() < PROBE_EVERY.as_secs());
const _: () = assert!(AUTHENTICATE_ANSWER_WITHIN.as_secs() < HANDSHAKE_WITHIN.as_secs());
const _: () = assert!(BIND_ANSWER_WITHIN.as_secs() < BIND_WITHIN.as_secs());
