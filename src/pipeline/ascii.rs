//! Text that is told to be text by a glance: names and ids nearly always are ASCII.

/// ASCII without a NUL; none for anything else, text or not.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> Option<&str> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Eight at once: of ASCII bytes, only a NUL borrows when one is taken from each. The last eight may have been looked
    // at before.
    let is_plain = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        (word | word.wrapping_sub(LOW)) & HIGH == 0
    };
    let (words, _) = bytes.as_chunks::<8>();
    let is_plain = match bytes.last_chunk::<8>() {
        Some(last) => words.iter().all(is_plain) && is_plain(last),
        None => bytes.iter().all(|byte| (1..0x80).contains(byte)),
    };
    // SAFETY: every byte is ASCII, and any sequence of ASCII bytes is UTF-8.
    is_plain.then(|| unsafe { std::str::from_utf8_unchecked(bytes) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_text_is_ascii_without_a_nul(bytes in prop::collection::vec(prop_oneof![1..0x80_u8, 1..0x80_u8, any::<u8>()], 0..40)) {
            let expected = bytes.is_ascii() && !bytes.contains(&0);
            prop_assert_eq!(plain(&bytes).map(str::as_bytes), expected.then_some(&bytes[..]));
        }
    }
}
