//! Names and numbers of the protocol, and what each changed.

/// ALPN of an agent's link: tells agents from browsers on the public port.
pub const ALPN_AGENT: &[u8] = b"sallyport/1";
/// The oldest version that this crate speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest version that this crate speaks. Version 1: the first.
pub const PROTOCOL_MAX: u32 = 1;
/// What this crate can do beyond its protocol version, as told in hello and welcome. Whoever does not know
/// a field passes over it, so an agent that asks for one of these looks whether its edge can do it.
pub const FEATURES: &[&str] = &[
    TCP,
    TLS,
    CIDR,
    PROXY_PROTOCOL,
    UPSTREAM_PROTOCOL,
    HOST_HEADER,
];
/// TCP endpoints.
pub const TCP: &str = "tcp";
/// TLS endpoints.
pub const TLS: &str = "tls";
/// Address rules.
pub const CIDR: &str = "cidr";
/// PROXY protocol towards the upstream.
pub const PROXY_PROTOCOL: &str = "proxy_protocol";
/// HTTP/2 towards the upstream.
pub const UPSTREAM_PROTOCOL: &str = "upstream_protocol";
/// A host of the upstream's own.
pub const HOST_HEADER: &str = "host_header";
/// The version of a data stream's head, its first byte.
pub const HEAD_VERSION: u8 = 1;
/// The common name of the CA that signs the edges' link certificates. An authtoken pins its key.
pub const LINK_CA_COMMON_NAME: &str = "Sallyport link CA";

/// The version that both sides speak, if there is one: the newest in common.
pub const fn agree(peer_min: u32, peer_max: u32) -> Option<u32> {
    let newest = if peer_max < PROTOCOL_MAX {
        peer_max
    } else {
        PROTOCOL_MAX
    };
    if newest >= PROTOCOL_MIN && newest >= peer_min {
        Some(newest)
    } else {
        None
    }
}
