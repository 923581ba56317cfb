//! LEB128 varints, and zigzag for signed numbers.

/// Appends an unsigned number, 1 to 10 bytes.
#[inline]
pub(super) fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends an unsigned number, 1 to 19 bytes.
pub(crate) fn write_u128(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number and moves `input` past it. None if it is truncated or longer than 64 bits.
#[inline]
pub(crate) fn read_u64(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, byte) in input.iter().enumerate().take(10) {
        let shift = 7 * index as u32;
        let bits = u64::from(byte & 0x7f);
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

/// Reads a number and moves `input` past it. None if it is truncated or longer than 128 bits.
pub(crate) fn read_u128(input: &mut &[u8]) -> Option<u128> {
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
pub(crate) const fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// [`zigzag`] for 128 bits.
pub(crate) const fn zigzag128(value: i128) -> u128 {
    (value << 1 ^ value >> 127) as u128
}

/// The inverse of [`zigzag128`].
pub(crate) const fn unzigzag128(value: u128) -> i128 {
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
        fn a_number_is_the_same_bytes_whatever_its_width(value: u64, unused in 0..64_u32) {
            let value = value >> unused;
            let (mut short, mut long) = (vec![7], vec![7]);
            write_u64(&mut short, value);
            write_u128(&mut long, value.into());
            prop_assert_eq!(short, long);
        }

        /// Also if it is truncated, has following bytes, or has superfluous zeros.
        #[test]
        fn a_number_reads_the_same_whatever_its_width(start in prop::collection::vec(0x80..=0xff_u8, 0..12), rest: Vec<u8>) {
            let bytes = [start, rest].concat();
            let (mut short, mut long) = (bytes.as_slice(), bytes.as_slice());
            let expected = read_u128(&mut long).filter(|_| bytes.len() - long.len() <= 10).and_then(|value| u64::try_from(value).ok());
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
