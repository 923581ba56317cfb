//! LEB128 varints, and zigzag for signed numbers.

/// Bits of a number that eight bytes hold.
const WORD_BITS: u32 = 56;
/// In each byte the bit that says that another follows.
const FOLLOWED: u64 = 0x8080_8080_8080_8080;

/// Appends an unsigned number, 1 to 10 bytes.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else if value >> WORD_BITS == 0 {
        write_word(out, value);
    } else {
        write_u128(out, value.into());
    }
}

/// Appends a number of up to 8 bytes: all of them at once, and what is too much is taken back. How long a number is cannot be
/// foreseen, and a loop over its bytes waits for having guessed wrong.
#[inline]
fn write_word(out: &mut Vec<u8>, value: u64) {
    let bytes = (u64::BITS - value.leading_zeros()).div_ceil(7) as usize;
    // Moved apart in fours, pairs and single bytes of 7 bits each: what `read_word` moves together.
    let word = value & 0x0fff_ffff | (value & 0x00ff_ffff_f000_0000) << 4;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x0fff_c000_0fff_c000) << 2;
    let word = word & 0x007f_007f_007f_007f | (word & 0x3f80_3f80_3f80_3f80) << 1;
    let followed = FOLLOWED & !(u64::MAX << (8 * (bytes - 1)));
    let end = out.len() + bytes;
    out.extend_from_slice(&(word | followed).to_le_bytes());
    out.truncate(end);
}

/// Appends an unsigned number, 1 to 19 bytes.
pub fn write_u128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number and moves `input` past it. None if it is cut short or longer than 64 bits.
#[inline]
pub fn read_u64(input: &mut &[u8]) -> Option<u64> {
    let (first, rest) = input.split_first()?;
    if *first < 0x80 {
        *input = rest;
        return Some(u64::from(*first));
    }
    read_word(input).or_else(|| read_long(input))
}

/// Reads a number of up to 8 bytes where 8 bytes are left. All of them are looked at at once: how long a number is cannot
/// be foreseen, and a loop over its bytes waits for having guessed wrong.
#[inline]
fn read_word(input: &mut &[u8]) -> Option<u64> {
    let word = u64::from_le_bytes(*input.first_chunk()?);
    // The first byte that no other follows.
    let last = !word & FOLLOWED;
    let bytes = last.trailing_zeros() / 8 + 1;
    *input = input.get(bytes as usize..).filter(|_| last != 0)?;
    // Its bytes alone, of each the 7 bits that count; then these are moved together in pairs, fours and eights.
    let word = word & (last ^ (last - 1)) & !FOLLOWED;
    let word = word & 0x007f_007f_007f_007f | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = word & 0x0000_3fff_0000_3fff | (word & 0x3fff_0000_3fff_0000) >> 2;
    Some(word & 0x0fff_ffff | (word & 0x0fff_ffff_0000_0000) >> 4)
}

/// Reads a number of any length.
#[cold]
fn read_long(input: &mut &[u8]) -> Option<u64> {
    u64::try_from(read_u128(input)?).ok()
}

/// Reads a number and moves `input` past it. None if it is cut short or longer than 128 bits.
pub fn read_u128(input: &mut &[u8]) -> Option<u128> {
    let mut value = 0u128;
    for (index, byte) in input.iter().enumerate().take(19) {
        let shift = 7 * index as u32;
        let bits = u128::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if *byte < 0x80 {
            *input = &input[index + 1..];
            return Some(value);
        }
    }
    None
}

/// Maps small negative numbers to small unsigned ones.
#[inline]
pub const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// [`zigzag`] for 128 bits.
pub const fn zigzag128(value: i128) -> u128 {
    (value << 1 ^ value >> 127) as u128
}

/// The inverse of [`zigzag128`].
pub const fn unzigzag128(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_of_each_width_read_back() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            write_u64(&mut out, value);
            assert_eq!(read_u64(&mut out.as_slice()), Some(value));
        }
        for value in [0, i128::MAX, i128::MIN, -1, 1] {
            let mut out = Vec::new();
            write_u128(&mut out, zigzag128(value));
            assert_eq!(read_u128(&mut out.as_slice()).map(unzigzag128), Some(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    proptest! {
        #[test]
        fn a_word_is_written_as_its_bytes_are(value: u64, unused in 0..64_u32) {
            let value = value >> unused;
            let (mut short, mut long) = (vec![7], vec![7]);
            write_u64(&mut short, value);
            write_u128(&mut long, value.into());
            prop_assert_eq!(short, long);
        }

        /// Also where it is cut short, stands before something else, or has zeros that it does not need.
        #[test]
        fn a_word_reads_as_its_bytes_do(start in prop::collection::vec(0x80..=0xff_u8, 0..11), rest: Vec<u8>) {
            let bytes = [start, rest].concat();
            let (mut short, mut long) = (bytes.as_slice(), bytes.as_slice());
            let expected = read_u128(&mut long).and_then(|value| u64::try_from(value).ok());
            prop_assert_eq!(read_u64(&mut short), expected);
            prop_assert!(expected.is_none() || short == long);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(read_u64(&mut [0xff; 9].as_slice()), None);
        assert_eq!(read_u64(&mut [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02].as_slice()), None);
        assert_eq!(read_u128(&mut [0xff; 30].as_slice()), None);
    }
}
