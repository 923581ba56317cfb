//! Finds where a MessagePack value ends, without decoding it and without recursion.
//!
//! The daemon needs it for a frame with an invalid record: the bounds of the other records are still known, so they are
//! accepted.

/// Why no end was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanError {
    /// The bytes end inside the value.
    Truncated,
    /// 0xc1, which MessagePack does not use.
    Reserved,
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the MessagePack value is cut short",
            Self::Reserved => "byte 0xc1 is not MessagePack",
        })
    }
}

impl std::error::Error for ScanError {}

/// The length of the first value in `input`, in bytes.
///
/// # Errors
/// [`ScanError`] if the value is incomplete or not MessagePack. A container that claims more children than there are bytes
/// left is found truncated after at most one step a byte.
pub fn value_bytes(input: &[u8]) -> Result<usize, ScanError> {
    let mut at = 0usize;
    let mut pending = 1u64;
    while pending > 0 {
        pending -= 1;
        let marker = *input.get(at).ok_or(ScanError::Truncated)?;
        at += 1;
        let known = BODY_BYTES[usize::from(marker)];
        if known != SHAPED {
            at += usize::from(known);
            if at > input.len() {
                return Err(ScanError::Truncated);
            }
            continue;
        }
        let (body, children) = shape(marker, &input[at..])?;
        at = at.checked_add(body).filter(|end| *end <= input.len()).ok_or(ScanError::Truncated)?;
        pending += children;
    }
    Ok(at)
}

/// Entry of [`BODY_BYTES`] for markers that need [`shape`].
const SHAPED: u8 = u8::MAX;

/// For a marker that alone determines its value's length, as most do: the number of bytes after it. A table, because a
/// processor could not predict branches on markers.
static BODY_BYTES: [u8; 256] = body_bytes();

const fn body_bytes() -> [u8; 256] {
    let mut bytes = [SHAPED; 256];
    let mut marker = 0;
    while marker < 256 {
        bytes[marker] = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 0,
            0xa0..=0xbf => marker as u8 & 0x1f,
            0xcc | 0xd0 => 1,
            0xcd | 0xd1 => 2,
            0xca | 0xce | 0xd2 => 4,
            0xcb | 0xcf | 0xd3 => 8,
            _ => SHAPED,
        };
        marker += 1;
    }
    bytes
}

/// The number of bytes between the marker and its first child, and the number of children.
fn shape(marker: u8, rest: &[u8]) -> Result<(usize, u64), ScanError> {
    Ok(match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
        0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => (0, u64::from(marker & 0x0f)),
        0xa0..=0xbf => (usize::from(marker & 0x1f), 0),
        0xc1 => return Err(ScanError::Reserved),
        0xc4 | 0xd9 => (1 + length(rest, 1)?, 0),
        0xc5 | 0xda => (2 + length(rest, 2)?, 0),
        0xc6 | 0xdb => (4 + length(rest, 4)?, 0),
        0xc7 => (2 + length(rest, 1)?, 0),
        0xc8 => (3 + length(rest, 2)?, 0),
        0xc9 => (5 + length(rest, 4)?, 0),
        0xcc | 0xd0 => (1, 0),
        0xcd | 0xd1 => (2, 0),
        0xca | 0xce | 0xd2 => (4, 0),
        0xcb | 0xcf | 0xd3 => (8, 0),
        0xd4..=0xd8 => (1 + (1 << (marker - 0xd4)), 0),
        0xdc => (2, length(rest, 2)? as u64),
        0xdd => (4, length(rest, 4)? as u64),
        0xde => (2, 2 * length(rest, 2)? as u64),
        0xdf => (4, 2 * length(rest, 4)? as u64),
    })
}

fn length(rest: &[u8], bytes: usize) -> Result<usize, ScanError> {
    let field = rest.get(..bytes).ok_or(ScanError::Truncated)?;
    Ok(field.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_claim_of_four_billion_children_ends_with_the_bytes() {
        assert_eq!(value_bytes(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1, 2]), Err(ScanError::Truncated));
        assert_eq!(value_bytes(&[0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2]), Err(ScanError::Truncated));
        assert_eq!(value_bytes(&[0xc1]), Err(ScanError::Reserved));
        assert_eq!(value_bytes(&[]), Err(ScanError::Truncated));
    }

    #[test]
    fn the_table_says_what_the_shapes_say() {
        for marker in 0..=u8::MAX {
            let (known, shape) = (BODY_BYTES[usize::from(marker)], shape(marker, &[]));
            assert!(known == SHAPED || shape == Ok((usize::from(known), 0)), "{marker:#x}: {known}, {shape:?}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_decoder(numbers: Vec<i64>, texts: Vec<(String, Vec<u8>)>, float: f64, tail: Vec<u8>) {
            let value = (numbers, texts, float, Some(true), None::<u8>);
            let mut bytes = rmp_serde::to_vec(&value).unwrap();
            let length = bytes.len();
            bytes.extend(tail);
            prop_assert_eq!(value_bytes(&bytes), Ok(length));
            prop_assert_eq!(value_bytes(&bytes[..length - 1]), Err(ScanError::Truncated));
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes: Vec<u8>) {
            if let Ok(length) = value_bytes(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
