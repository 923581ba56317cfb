//! Which `request_id` is certainly a vendor's id of one response. The field is free text: a product may put its own request's id
//! there, and make several calls under it. Only a form that a vendor gives to its ids names a call.

/// What an id of a provider begins with; none stands for every provider, since many speak OpenAI's protocol.
const FORMS: [(Option<&str>, &str, Rest); 6] = [
    (None, "chatcmpl-", Rest::Any),
    (None, "resp_", Rest::Long),
    (Some("claude"), "msg_bdrk_", Rest::Any),
    (Some("claude"), "msg_vrtx_", Rest::Any),
    (Some("claude"), "msg_", Rest::MixedCase),
    (Some("claude"), "req_", Rest::MixedCase),
];

/// What follows the beginning.
#[derive(Clone, Copy)]
enum Rest {
    Any,
    /// As long as OpenAI's: products number their own responses, too.
    Long,
    /// With a capital letter: ids that products make in this style (TypeID) have none.
    MixedCase,
}

/// True if the provider, in the call log's spelling, has made the id.
pub(super) fn is_of(provider: &str, request_id: &str) -> bool {
    // Most records have none.
    !request_id.is_empty()
        && FORMS.iter().any(|(of, start, rest)| {
            let Some(text) = request_id.strip_prefix(start).filter(|text| !text.is_empty()) else { return false };
            of.is_none_or(|of| of == provider)
                && match rest {
                    Rest::Any => true,
                    Rest::Long => text.len() >= 32,
                    Rest::MixedCase => text.bytes().any(|byte| byte.is_ascii_uppercase()),
                }
        })
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn a_vendors_form_is_known_and_a_products_own_id_is_not() {
        for (provider, id) in [
            ("claude", "msg_01XFDUDYJgAACzvnptvVoYEL"),
            ("claude", "msg_bdrk_01abc"),
            ("claude", "req_011CSHoEeqs5C35K2UUqR7Fy"),
            ("openai", "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT"),
            ("deepseek", "chatcmpl-1"),
            ("openai", "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b"),
        ] {
            assert!(is_of(provider, id), "{provider} {id}");
        }
        for (provider, id) in [
            ("claude", ""),
            ("claude", "msg_01h455vb4pex5vsknk084sn02q"),
            ("openai", "msg_01XFDUDYJgAACzvnptvVoYEL"),
            ("openai", "req_7"),
            ("openai", "resp_7"),
            ("rentcast", "0192f0c1-7a10-7000-8000-000000000001"),
            ("openai", "chatcmpl-"),
        ] {
            assert!(!is_of(provider, id), "{provider} {id}");
        }
    }
}
