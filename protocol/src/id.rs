//! UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix time in milliseconds, then random bits, so that ids made
//! later sort later. The caller supplies both parts: a client fills in ids on its sender thread, off the hot path.

/// Builds a version 7 UUID from microseconds since 1970 and 128 random bits, of which 74 are used.
#[must_use]
pub fn v7(unix_us: i64, random: u128) -> [u8; 16] {
    let unix_ms = u128::try_from(unix_us.max(0) / 1000).unwrap_or(0) & 0xffff_ffff_ffff;
    let version = 0x7 << 76;
    let variant = 0b10 << 62;
    let random_a = (random >> 64 & 0xfff) << 64;
    let random_b = random & 0x3fff_ffff_ffff_ffff;
    (unix_ms << 80 | version | random_a | variant | random_b).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_variant_and_time_are_where_the_rfc_puts_them() {
        // The example of RFC 9562, appendix A.6: 2022-02-22T19:22:22Z, 017F22E2-79B0-7CC3-98C4-DC0C0C07398F.
        let random = 0xCC3 << 64 | 0x18C4_DC0C_0C07_398F;
        let id = v7(1_645_557_742_000_000, random);
        assert_eq!(u128::from_be_bytes(id), 0x017F_22E2_79B0_7CC3_98C4_DC0C_0C07_398F);
    }
}
