//! Length-prefixed frames: `u32` big-endian length, then that many bytes.

use std::fmt;

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// Why a length prefix was refused. At this point nothing has been allocated for the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrefixError {
    /// The frame claims no bytes, so it cannot hold a MessagePack value.
    Empty,
    /// The frame claims more bytes than the bound.
    TooLarge {
        /// Bytes that the prefix claims.
        claimed: u64,
        /// The bound in bytes.
        max: usize,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the frame's length prefix is 0"),
            Self::TooLarge { claimed, max } => {
                write!(f, "the frame claims {claimed} bytes, at most {max} are accepted")
            }
        }
    }
}

impl std::error::Error for PrefixError {}

/// Reads a length prefix. Returns the length of the frame's body in bytes.
///
/// # Errors
/// [`PrefixError`] if the length is 0 or above `max`.
pub fn body_bytes(prefix: [u8; PREFIX_BYTES], max: usize) -> Result<usize, PrefixError> {
    let claimed = u32::from_be_bytes(prefix);
    match usize::try_from(claimed) {
        Ok(0) => Err(PrefixError::Empty),
        Ok(bytes) if bytes <= max => Ok(bytes),
        _ => Err(PrefixError::TooLarge { claimed: u64::from(claimed), max }),
    }
}

/// Appends one frame to `out`: `body` writes the MessagePack value, the prefix is filled in after it.
///
/// # Panics
/// If the body is 4 GiB or longer, which no caller within [`crate::limits`] can reach.
pub fn write(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    body(out);
    let bytes = out.len() - start - PREFIX_BYTES;
    let prefix = u32::try_from(bytes).expect("a frame is far below 4 GiB").to_be_bytes();
    out[start..start + PREFIX_BYTES].copy_from_slice(&prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_checked_against_both_bounds() {
        assert_eq!(body_bytes([0, 0, 0, 0], 10), Err(PrefixError::Empty));
        assert_eq!(body_bytes([0, 0, 0, 10], 10), Ok(10));
        assert_eq!(body_bytes([0, 0, 0, 11], 10), Err(PrefixError::TooLarge { claimed: 11, max: 10 }));
        let all = body_bytes([0xff; 4], 10).unwrap_err();
        assert_eq!(all.to_string(), "the frame claims 4294967295 bytes, at most 10 are accepted");
    }

    #[test]
    fn a_written_frame_reads_back() {
        let mut out = vec![9];
        write(&mut out, |body| body.extend_from_slice(b"abc"));
        assert_eq!(out, [9, 0, 0, 0, 3, b'a', b'b', b'c']);
    }
}
