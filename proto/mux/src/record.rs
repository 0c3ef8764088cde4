//! What the two drivers of a connection tell each other on its first stream, beside the bytes of the
//! others: how each direction ends, who has let go, and whether the other side is alive.
//!
//! Pure: bytes and values.

/// One record: 13 bytes, numbers big-endian: kind, stream (zero: the connection), value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Record {
    /// Answered at once.
    Ping {
        token: u64,
    },
    Pong {
        token: u64,
    },
    /// The sender's direction of the stream is complete with so many bytes.
    Finish {
        stream: u32,
        bytes: u64,
    },
    /// The sender's direction has been given up: what came of it is not complete.
    Reset {
        stream: u32,
        code: u32,
    },
    /// The sender reads no more of the stream.
    Stop {
        stream: u32,
        code: u32,
    },
    /// The sender has let go of the stream and says nothing more of it: what it had not finished is
    /// reset, and the stream's place is free on its side.
    Gone {
        stream: u32,
        code: u32,
    },
    /// The connection ends, and every stream with it.
    Close {
        code: u32,
    },
}

impl Record {
    pub(crate) fn encode(self) -> [u8; RECORD_BYTES] {
        let (kind, stream, value) = match self {
            Self::Ping { token } => (1, 0, token),
            Self::Pong { token } => (2, 0, token),
            Self::Finish { stream, bytes } => (3, stream, bytes),
            Self::Reset { stream, code } => (4, stream, code.into()),
            Self::Stop { stream, code } => (5, stream, code.into()),
            Self::Gone { stream, code } => (6, stream, code.into()),
            Self::Close { code } => (7, 0, code.into()),
        };
        let mut bytes = [0; RECORD_BYTES];
        bytes[0] = kind;
        bytes[1..5].copy_from_slice(&stream.to_be_bytes());
        bytes[5..].copy_from_slice(&value.to_be_bytes());
        bytes
    }

    /// `None` for a kind that a later version brings: it is passed over.
    pub(crate) fn decode(bytes: [u8; RECORD_BYTES]) -> Option<Self> {
        let [kind, rest @ ..] = bytes;
        let (mut stream, mut value) = ([0; 4], [0; 8]);
        stream.copy_from_slice(&rest[..4]);
        value.copy_from_slice(&rest[4..]);
        let (stream, value) = (u32::from_be_bytes(stream), u64::from_be_bytes(value));
        let code = u32::try_from(value).unwrap_or(u32::MAX);
        Some(match kind {
            1 => Self::Ping { token: value },
            2 => Self::Pong { token: value },
            3 => Self::Finish {
                stream,
                bytes: value,
            },
            4 => Self::Reset { stream, code },
            5 => Self::Stop { stream, code },
            6 => Self::Gone { stream, code },
            7 => Self::Close { code },
            _ => return None,
        })
    }
}

pub(crate) const RECORD_BYTES: usize = 13;
