//! Frame boundaries of a WebSocket stream towards the client (RFC 6455 §5.2), so that a Close never
//! lands inside a frame. Lengths only: payloads are not looked at.

/// Where the bytes written so far leave the client.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Boundary {
    /// Payload bytes that the frame under way still needs.
    remaining: u64,
}

/// How much of a buffer may be written now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Writable {
    /// Bytes from the front: whole frames, or the next part of a frame too large to be held back.
    pub(crate) len: usize,
    /// Bytes that the buffer must hold before the next frame can go out; 0 when nothing is held back.
    pub(crate) wanted: usize,
}

impl Boundary {
    /// Looks at `buffer`, which begins where the written bytes end. Frames up to `hold_max` bytes go
    /// out whole or not at all.
    pub(crate) fn writable(self, buffer: &[u8], hold_max: usize) -> Writable {
        let mut at = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        if at >= buffer.len() {
            return Writable {
                len: buffer.len(),
                wanted: 0,
            };
        }
        while let Some(rest) = buffer.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(header) = Header::parse(rest) else {
                return Writable {
                    len: at,
                    wanted: HEADER_MAX,
                };
            };
            let total = header.total();
            if total <= rest.len() as u64 {
                at += usize::try_from(total).unwrap_or(rest.len());
            } else if total <= hold_max as u64 {
                return Writable {
                    len: at,
                    wanted: usize::try_from(total).unwrap_or(hold_max),
                };
            } else {
                return Writable {
                    len: buffer.len(),
                    wanted: 0,
                };
            }
        }
        Writable { len: at, wanted: 0 }
    }

    /// Notes that a whole chunk, as `writable` allowed it, was written.
    pub(crate) fn advance(&mut self, chunk: &[u8]) {
        self.remaining = self.needed_after(chunk, chunk.len());
    }

    /// How many bytes after the first `written` of a chunk reach the end of the frame under way; 0
    /// when `written` is a frame's end. The chunk is as `writable` allowed it, so its headers are whole.
    pub(crate) fn needed_after(self, chunk: &[u8], written: usize) -> u64 {
        let written = written as u64;
        let mut end = self.remaining;
        while end < written {
            let header = usize::try_from(end)
                .ok()
                .and_then(|at| chunk.get(at..))
                .and_then(Header::parse);
            // A header that cannot be read is not in a chunk of ours: say that no boundary is near.
            let Some(header) = header else {
                return u64::MAX;
            };
            end = end.saturating_add(header.total());
        }
        end - written
    }
}

struct Header {
    len: u64,
    payload: u64,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let second = *bytes.get(1)?;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (len, payload) = match second & 0x7f {
            126 => (
                4,
                u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            ),
            127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
            short => (2, u64::from(short)),
        };
        Some(Self {
            len: len + mask,
            payload,
        })
    }

    const fn total(&self) -> u64 {
        self.len.saturating_add(self.payload)
    }
}

/// A Close frame from a server: FIN, opcode 8, no mask, code and reason (at most 123 bytes).
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    let reason: String = reason
        .chars()
        .filter(char::is_ascii)
        .take(CLOSE_REASON_MAX)
        .collect();
    // At most 125, so it fits the short form.
    let len = u8::try_from(2 + reason.len()).unwrap_or(2);
    let mut frame = vec![0x88, len];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    frame
}

/// 2 bytes, 8 of extended length, 4 of mask.
const HEADER_MAX: usize = 14;
const CLOSE_REASON_MAX: usize = 123;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x82];
        match payload {
            0..=125 => bytes.push(u8::try_from(payload).unwrap()),
            126..=65_535 => {
                bytes.push(126);
                bytes.extend_from_slice(&u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(b'x', payload));
        bytes
    }

    /// Small frames go out whole or not at all; a frame too large to hold is streamed.
    #[test]
    fn holds_back_what_is_not_whole() {
        let boundary = Boundary::default();
        let two = [frame(3), frame(200)].concat();
        assert_eq!(
            boundary.writable(&two, 1000),
            Writable {
                len: two.len(),
                wanted: 0
            }
        );
        assert_eq!(
            boundary.writable(&two[..20], 1000),
            Writable {
                len: 5,
                wanted: 204
            }
        );
        assert_eq!(
            boundary.writable(&two[..6], 1000),
            Writable { len: 5, wanted: 14 }
        );
        let large = frame(5000);
        assert_eq!(
            boundary.writable(&large[..100], 1000),
            Writable {
                len: 100,
                wanted: 0
            }
        );
        assert_eq!(boundary.writable(&[], 1000), Writable { len: 0, wanted: 0 });
    }

    /// Stopped anywhere, the distance to the end of the frame under way is exact.
    #[test]
    fn knows_the_boundary_in_any_pieces() {
        let bytes = [frame(0), frame(70_000), frame(126), frame(5)].concat();
        let ends = [0, 2, 2 + 70_010, 2 + 70_010 + 130, 2 + 70_010 + 130 + 7];
        let whole = Boundary::default();
        for written in (0..bytes.len())
            .step_by(7)
            .chain([1, 2, 3, bytes.len() - 1, bytes.len()])
        {
            let end = ends.into_iter().find(|end| *end >= written).unwrap();
            assert_eq!(
                whole.needed_after(&bytes, written),
                (end - written) as u64,
                "{written}"
            );
        }
        // In chunks, as the pump writes a frame that is too large to hold back.
        let mut boundary = Boundary::default();
        let mut at = 0;
        while at < bytes.len() {
            let part = &bytes[at..(at + 4096).min(bytes.len())];
            let len = boundary.writable(part, 1000).len;
            boundary.advance(&part[..len]);
            at += len;
            let end = ends.into_iter().find(|end| *end >= at).unwrap();
            assert_eq!(boundary.needed_after(&[], 0), (end - at) as u64);
        }
    }

    /// A Close frame carries 1008 and a short reason.
    #[test]
    fn close_frame() {
        assert_eq!(close(1008, "revoked"), b"\x88\x09\x03\xf0revoked");
        assert_eq!(close(1008, &"x".repeat(500)).len(), 127);
    }
}
