//! Every bound of the protocol, with its unit and its reason.

use core::time::Duration;

/// Bytes of one control frame's JSON: a bind with full allow lists fits several times over.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
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
/// Bytes of a requested URL.
pub const URL_BYTES_MAX: usize = 512;
/// Bytes of an upstream's display text.
pub const UPSTREAM_BYTES_MAX: usize = 512;
/// Bytes of a provider's name.
pub const PROVIDER_BYTES_MAX: usize = 64;
/// Bytes of other short texts (versions, operating systems, messages).
pub const TEXT_BYTES_MAX: usize = 1024;
/// Entries of short lists (features, edges, notices).
pub const LIST_MAX: usize = 64;
/// Bytes of an authtoken's text.
pub const AUTHTOKEN_BYTES_MAX: usize = 2048;
/// Addresses in an authtoken.
pub const AUTHTOKEN_ADDRS_MAX: usize = 16;
/// Bytes of the message in a refusing ack.
pub const ACK_MESSAGE_BYTES_MAX: usize = 512;
/// Data streams of one tunnel at a time.
pub const STREAMS_PER_TUNNEL_MAX: u32 = 1024;
/// From the link's opening to a complete hello and authenticate, and for their answers.
pub const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a bind may wait for its answer: the edge writes its store and probes the path.
pub const BIND_WITHIN: Duration = Duration::from_secs(20);
/// Between probes of a quiet link. 10,000 links at 4 s took a tenth of a core.
pub const PROBE_EVERY: Duration = Duration::from_secs(20);
/// A probe without an answer for so long means that the link is dead.
pub const PROBE_WITHIN: Duration = Duration::from_secs(10);
/// Endpoints of an edge's cluster that are read into memory.
pub const ENDPOINTS_MAX: usize = 1_000_000;

const _: () = assert!(
    ALLOW_ENTRIES_MAX * 2 * (ALLOW_ENTRY_BYTES_MAX + 3) < FRAME_BYTES_MAX * 2,
    "a bind with full lists of usual length fits a frame"
);
const _: () =
    assert!(BINDS_PENDING_MAX <= ENDPOINTS_PER_TUNNEL_MAX && BINDS_PENDING_MAX < QUEUE_MAX);
const _: () = assert!(PROBE_WITHIN.as_secs() < PROBE_EVERY.as_secs());
