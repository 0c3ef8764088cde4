//! The head of a data stream, and the agent's ack: fixed binary, read incrementally, bounded.
//!
//! The edge opens a stream and sends the head; the agent dials the upstream and answers with the ack;
//! then bytes flow both ways until both ends finish or one resets. The head describes the connection
//! to the upstream; what belongs to one request travels in its headers.
//!
//! Head: version 1 byte, kind 1, flags 1, endpoint 20, generation 8, length of the PROXY part 1, then
//! that part: none, or source address, destination address, source port, destination port (12 bytes
//! for IPv4, 36 for IPv6). Ack: `0` to accept; `1`, code 2, message length 2, message to refuse.
//! Numbers are big-endian.

use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};

use crate::code::Code;
use crate::id::{EndpointId, ID_BYTES};
use crate::limits;
use crate::version::HEAD_VERSION;

/// What a stream carries. More kinds take further numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum StreamKind {
    /// HTTP/1.1 to the upstream.
    Http = 1,
    /// No upstream: the agent sends back what it gets, then finishes.
    Probe = 2,
    /// Bytes of whatever protocol: TCP and TLS endpoints.
    Raw = 3,
}

/// The first message on a data stream, from the edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamHead {
    /// What the stream carries.
    pub kind: StreamKind,
    /// Whose upstream to dial.
    pub endpoint: EndpointId,
    /// The generation of the bind that the edge goes by.
    pub generation: u64,
    /// Whether it came through another edge. Such a stream is never relayed again.
    pub relayed: bool,
    /// The addresses to tell the upstream by PROXY protocol.
    pub proxy: Option<ProxyAddrs>,
}

/// Who connected to what, in one address family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProxyAddrs {
    /// Over IPv4.
    V4 {
        /// Who connected.
        source: SocketAddrV4,
        /// To where.
        destination: SocketAddrV4,
    },
    /// Over IPv6. Flow label and scope do not travel.
    V6 {
        /// Who connected.
        source: SocketAddrV6,
        /// To where.
        destination: SocketAddrV6,
    },
}

/// The agent's answer to a head.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ack {
    /// The upstream is dialled; what follows are its bytes.
    Accept,
    /// There will be no stream.
    Refuse {
        /// Why.
        code: Code,
        /// What exactly happened. At most [`limits::ACK_MESSAGE_BYTES_MAX`] of it travel.
        message: String,
    },
}

/// Bytes that are no head or no ack. The stream cannot be read on after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HeadError {
    /// A version that was not agreed on.
    #[error("stream head of version {0}")]
    Version(u8),
    /// A kind that this side does not know.
    #[error("stream of kind {0}")]
    Kind(u8),
    /// A flag that this side does not know.
    #[error("stream flags {0:#010b}")]
    Flags(u8),
    /// A PROXY part of a wrong length.
    #[error("proxy addresses of {0} bytes")]
    Proxy(u8),
    /// An ack that neither accepts nor refuses.
    #[error("ack of kind {0}")]
    Ack(u8),
    /// A message above its bound.
    #[error("ack message of {0} bytes")]
    MessageTooLong(u16),
    /// A message that is not UTF-8.
    #[error("ack message that is no text")]
    MessageNotText,
}

impl ProxyAddrs {
    /// Who connected to what. Where the families differ, both are written as IPv6.
    pub fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self::V4 {
                source: SocketAddrV4::new(from, source.port()),
                destination: SocketAddrV4::new(to, destination.port()),
            },
            (from, to) => Self::V6 {
                source: SocketAddrV6::new(widened(from), source.port(), 0, 0),
                destination: SocketAddrV6::new(widened(to), destination.port(), 0, 0),
            },
        }
    }
}

const fn widened(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl StreamHead {
    /// A head as an edge sends it for its own clients: not relayed, no PROXY addresses.
    pub const fn new(kind: StreamKind, endpoint: EndpointId, generation: u64) -> Self {
        Self {
            kind,
            endpoint,
            generation,
            relayed: false,
            proxy: None,
        }
    }

    /// Gives the bytes.
    pub fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES_MAX);
        bytes.put_u8(HEAD_VERSION);
        bytes.put_u8(self.kind as u8);
        bytes.put_u8(if self.relayed { FLAG_RELAYED } else { 0 });
        bytes.put_slice(&self.endpoint.to_bytes());
        bytes.put_u64(self.generation);
        match self.proxy {
            None => bytes.put_u8(0),
            Some(ProxyAddrs::V4 {
                source,
                destination,
            }) => {
                bytes.put_u8(PROXY_V4_BYTES);
                bytes.put_slice(&source.ip().octets());
                bytes.put_slice(&destination.ip().octets());
                bytes.put_u16(source.port());
                bytes.put_u16(destination.port());
            }
            Some(ProxyAddrs::V6 {
                source,
                destination,
            }) => {
                bytes.put_u8(PROXY_V6_BYTES);
                bytes.put_slice(&source.ip().octets());
                bytes.put_slice(&destination.ip().octets());
                bytes.put_u16(source.port());
                bytes.put_u16(destination.port());
            }
        }
        bytes.freeze()
    }

    /// Takes a head off the buffer's front; `None`, nothing taken, until it is there as a whole.
    ///
    /// Looks at no more than [`HEAD_BYTES_MAX`] bytes; what follows the head stays.
    ///
    /// # Errors
    /// [`HeadError`] as soon as the bytes so far cannot become a head.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, HeadError> {
        take(buffer, Self::read)
    }

    fn read(rest: &mut &[u8]) -> Result<Self, Stop> {
        let version = rest.try_get_u8()?;
        if version != HEAD_VERSION {
            return Err(HeadError::Version(version).into());
        }
        let kind = match rest.try_get_u8()? {
            1 => StreamKind::Http,
            2 => StreamKind::Probe,
            3 => StreamKind::Raw,
            other => return Err(HeadError::Kind(other).into()),
        };
        let flags = rest.try_get_u8()?;
        if flags & !FLAG_RELAYED != 0 {
            return Err(HeadError::Flags(flags).into());
        }
        let endpoint = EndpointId::from_bytes(chunk::<ID_BYTES>(rest)?);
        let generation = rest.try_get_u64()?;
        let proxy = match rest.try_get_u8()? {
            0 => None,
            PROXY_V4_BYTES => {
                let (source, destination) = (chunk::<4>(rest)?, chunk::<4>(rest)?);
                let port = rest.try_get_u16()?;
                Some(ProxyAddrs::V4 {
                    source: SocketAddrV4::new(Ipv4Addr::from(source), port),
                    destination: SocketAddrV4::new(
                        Ipv4Addr::from(destination),
                        rest.try_get_u16()?,
                    ),
                })
            }
            PROXY_V6_BYTES => {
                let (source, destination) = (chunk::<16>(rest)?, chunk::<16>(rest)?);
                let address = |ip, port| SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0);
                let port = rest.try_get_u16()?;
                Some(ProxyAddrs::V6 {
                    source: address(source, port),
                    destination: address(destination, rest.try_get_u16()?),
                })
            }
            other => return Err(HeadError::Proxy(other).into()),
        };
        Ok(Self {
            kind,
            endpoint,
            generation,
            relayed: flags & FLAG_RELAYED != 0,
            proxy,
        })
    }
}

impl Ack {
    /// Gives the bytes; a long message is cut.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Accept => Bytes::from_static(&[ACK_ACCEPT]),
            Self::Refuse { code, message } => {
                let message = limits::clip(message, limits::ACK_MESSAGE_BYTES_MAX);
                let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
                let mut bytes = BytesMut::with_capacity(5 + message.len());
                bytes.put_u8(ACK_REFUSE);
                bytes.put_u16(code.number());
                bytes.put_u16(length);
                bytes.put_slice(message.as_bytes());
                bytes.freeze()
            }
        }
    }

    /// Takes an ack off the buffer's front; `None`, nothing taken, until it is there as a whole.
    ///
    /// A code of a newer agent reads as [`Code::StreamRefused`].
    ///
    /// # Errors
    /// [`HeadError`] as soon as the bytes so far cannot become an ack.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, HeadError> {
        take(buffer, Self::read)
    }

    fn read(rest: &mut &[u8]) -> Result<Self, Stop> {
        match rest.try_get_u8()? {
            ACK_ACCEPT => Ok(Self::Accept),
            ACK_REFUSE => {
                let code = Code::from_number(rest.try_get_u16()?).unwrap_or(Code::StreamRefused);
                let length = rest.try_get_u16()?;
                if usize::from(length) > limits::ACK_MESSAGE_BYTES_MAX {
                    return Err(HeadError::MessageTooLong(length).into());
                }
                let (message, left) = rest.split_at_checked(length.into()).ok_or(Stop::Short)?;
                *rest = left;
                let message =
                    core::str::from_utf8(message).map_err(|_| HeadError::MessageNotText)?;
                Ok(Self::Refuse {
                    code,
                    message: message.into(),
                })
            }
            other => Err(HeadError::Ack(other).into()),
        }
    }
}

/// Why reading stopped: more bytes are needed, or none will help.
enum Stop {
    Short,
    Wrong(HeadError),
}

impl From<HeadError> for Stop {
    fn from(error: HeadError) -> Self {
        Self::Wrong(error)
    }
}

impl From<bytes::TryGetError> for Stop {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

/// Reads from the buffer's front and takes what was read only when it was a whole.
fn take<T>(
    buffer: &mut BytesMut,
    read: impl FnOnce(&mut &[u8]) -> Result<T, Stop>,
) -> Result<Option<T>, HeadError> {
    let mut rest: &[u8] = buffer;
    match read(&mut rest) {
        Ok(value) => {
            let taken = buffer.len() - rest.len();
            buffer.advance(taken);
            Ok(Some(value))
        }
        Err(Stop::Short) => Ok(None),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Stop> {
    let (chunk, left) = rest.split_first_chunk::<N>().ok_or(Stop::Short)?;
    *rest = left;
    Ok(*chunk)
}

/// Bytes of the longest head.
pub const HEAD_BYTES_MAX: usize = 3 + ID_BYTES + 8 + 1 + PROXY_V6_BYTES as usize;
const FLAG_RELAYED: u8 = 1;
const PROXY_V4_BYTES: u8 = 12;
const PROXY_V6_BYTES: u8 = 36;
const ACK_ACCEPT: u8 = 0;
const ACK_REFUSE: u8 = 1;
