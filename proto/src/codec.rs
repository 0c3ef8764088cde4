//! Frames as bytes: a big-endian `u32` length, then so many bytes of JSON. Incremental and bounded,
//! without state: whoever reads keeps the buffer.

use bytes::{Buf as _, BufMut as _, BytesMut};

use crate::frame::Frame;
use crate::limits::FRAME_BYTES_MAX;

/// Bytes that are no frame, or a frame that does not fit. What the bytes were is not told: they may
/// hold a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The length is above the bound.
    #[error("a frame of {bytes} bytes, where {bytes_max} are allowed")]
    TooLong {
        /// What the frame has, or claims to have.
        bytes: usize,
        /// What it may have.
        bytes_max: usize,
    },
    /// The JSON is none, or lacks what its type needs.
    #[error("a frame that is not the JSON of its type")]
    Malformed,
}

/// Takes the next frame off the buffer's front; `None` until it is there as a whole.
///
/// Reserves nothing ahead, so memory follows the bytes that arrived, not the length that was claimed.
///
/// # Errors
/// [`FrameError`]; the stream cannot be read on after it.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    decode_within(buffer, FRAME_BYTES_MAX)
}

/// [`decode`] with a tighter bound, for the handshake with a stranger.
///
/// # Errors
/// As [`decode`].
pub fn decode_within(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    if bytes > bytes_max {
        return Err(FrameError::TooLong { bytes, bytes_max });
    }
    let Some(json) = rest.get(..bytes) else {
        return Ok(None);
    };
    let frame = serde_json::from_slice(json).map_err(|_| FrameError::Malformed)?;
    buffer.advance(LENGTH_BYTES + bytes);
    Ok(Some(frame))
}

/// Appends a frame to a buffer.
///
/// # Errors
/// [`FrameError::TooLong`], the buffer unchanged. Frames that a machine gives always fit.
pub fn encode(frame: &Frame, buffer: &mut BytesMut) -> Result<(), FrameError> {
    let json = serde_json::to_vec(frame).map_err(|_| FrameError::Malformed)?;
    let too_long = FrameError::TooLong {
        bytes: json.len(),
        bytes_max: FRAME_BYTES_MAX,
    };
    if json.len() > FRAME_BYTES_MAX {
        return Err(too_long);
    }
    let length = u32::try_from(json.len()).map_err(|_| too_long)?;
    buffer.reserve(LENGTH_BYTES + json.len());
    buffer.put_u32(length);
    buffer.put_slice(&json);
    Ok(())
}

const LENGTH_BYTES: usize = 4;
