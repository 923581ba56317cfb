//! An API key among a refused record's tags: of it, too, only the hash is stored.

use std::collections::BTreeMap;

use super::{Edit, Members, New, Payload};
use tallyd_model::json;
use tallyd_model::tags::{API_KEY, concealed};

impl Payload {
    /// The payload without an API key among its tags: of a refused record, too, only the key's hash is stored. One that is not whole, and
    /// speaks of such a key, is not kept.
    #[must_use]
    pub fn without_key(self) -> Self {
        let (Self::Json(bytes) | Self::MessagePack(bytes)) = &self;
        if !bytes.windows(API_KEY.len()).any(|part| part.eq_ignore_ascii_case(API_KEY.as_bytes())) {
            return self;
        }
        let json = self.to_json();
        let Ok(members) = json::from_str::<Members<'_>>(json.get()) else { return Self::Json(b"{}".to_vec()) };
        let Some(tags) = members.get("tags").filter(|tags| tags.kind() != b'n') else { return self };
        let edit = match tags.read::<BTreeMap<String, String>>() {
            Ok(tags) => {
                let hide = |(name, value): (&String, &String)| (name.clone(), concealed(name, value).into_owned());
                Edit { field: "tags".to_owned(), value: New::Units(tags.iter().map(hide).collect()) }
            }
            Err(_) => Edit::remove("tags"),
        };
        self.with(&[edit]).unwrap_or_else(|_| Self::Json(b"{}".to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(payload: Payload) -> String {
        let whole = payload.without_key().to_json();
        whole.get().to_owned()
    }

    #[test]
    fn a_key_is_hashed_in_either_format_and_everything_else_stays() {
        let json = |text: &str| kept(Payload::Json(text.as_bytes().to_vec()));
        let untouched = r#"{"provider":1.50,"tags":{"team":"a"}}"#;
        assert_eq!(json(untouched), untouched);
        let hidden = r#"{"provider":1.50,"tags":{"API_KEY":"sha256:f8dc9db173ee","team":"a"}}"#;
        assert_eq!(json(r#"{"provider":1.50,"tags":{"API_KEY":"sk-live-1","team":"a"}}"#), hidden);
        // Tags of another form, and a payload that is cut off.
        assert_eq!(json(r#"{"provider":"x","tags":[["api_key","sk-live-1"]]}"#), r#"{"provider":"x"}"#);
        assert_eq!(json(r#"{"provider":"x","tags":{"api_key":"sk-live-1""#), "{}");
        let beside = r#"{"metadata":{"api_key_alias":"ci"},"provider":""}"#;
        assert_eq!(json(beside), beside);

        let mut bytes = vec![0x82, 0xa8];
        bytes.extend(b"provider\xc0\xa4tags\x81\xa7api_key\xa9sk-live-1");
        let found = kept(Payload::MessagePack(bytes));
        assert_eq!(found, r#"{"provider":null,"tags":{"api_key":"sha256:f8dc9db173ee"}}"#);
    }
}
