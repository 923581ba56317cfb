//! Tags that a request gives to each of its records: they are written into the record's JSON before anything else reads it.
//! So they have the bounds of the record's own tags, and a dead letter has them, too.
//!
//! A tag that the record states wins, also an empty one. A text that is not an object, or whose `tags` are not one, stays as it
//! is, and is refused as any other. Nothing else of the record changes: repeated names stay repeated.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, de};

use tallyd_model::json::{self, Raw, to_string};

const TAGS: &str = "tags";

/// The record with the tags that it does not state: pairs of name and value. Of two of one name, the first counts.
#[must_use]
pub fn tagged<'t>(text: &'t [u8], tags: &[(&str, String)]) -> Cow<'t, [u8]> {
    if tags.is_empty() {
        return Cow::Borrowed(text);
    }
    written(text, tags).map_or(Cow::Borrowed(text), |text| Cow::Owned(text.into_bytes()))
}

fn written(text: &[u8], tags: &[(&str, String)]) -> Option<String> {
    let Members(mut members) = json::from_slice(text).ok()?;
    let own = members.iter().position(|(name, _)| name == TAGS);
    let Members(own_tags) = match own {
        Some(at) if members[at].1.kind() == b'n' => Members::default(),
        Some(at) => members[at].1.read().ok()?,
        None => Members::default(),
    };
    let mut all: Vec<(&str, Cow<'_, str>)> =
        own_tags.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value.get()))).collect();
    for (name, value) in tags {
        if all.iter().all(|(known, _)| known != name) {
            all.push((name, Cow::Owned(to_string(value).ok()?)));
        }
    }
    let all = object(all.iter().map(|(name, value)| (*name, &**value)))?;
    let all = Raw::checked(&all)?;
    match own {
        Some(at) => members[at].1 = all,
        None => members.push((TAGS.to_owned(), all)),
    }
    object(members.iter().map(|(name, value)| (name.as_str(), value.get())))
}

/// An object of names and the JSON of their values.
fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let members: Option<Vec<String>> =
        members.map(|(name, value)| Some(format!("{}:{value}", to_string(name).ok()?))).collect();
    Some(format!("{{{}}}", members?.join(",")))
}

/// An object's members in their order, each as its own text.
#[derive(Default)]
struct Members<'a>(Vec<(String, Raw<'a>)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_own_tags_win_and_the_rest_stays_as_it_is() {
        let tags = [("team", "a\"b".to_owned()), ("team", "second".to_owned()), ("app", "web".to_owned())];
        for (text, expected) in [
            (
                r#"{"cost_usd": 0.10, "provider":"x"}"#,
                r#"{"cost_usd":0.10,"provider":"x","tags":{"team":"a\"b","app":"web"}}"#,
            ),
            ("{}", r#"{"tags":{"team":"a\"b","app":"web"}}"#),
            (r#"{"tags":null}"#, r#"{"tags":{"team":"a\"b","app":"web"}}"#),
            (r#"{"tags": {"run": "1", "team": ""}, "x": 1}"#, r#"{"tags":{"run":"1","team":"","app":"web"},"x":1}"#),
            // Still refused, each as before.
            (
                r#"{"provider":"a","provider":"b"}"#,
                r#"{"provider":"a","provider":"b","tags":{"team":"a\"b","app":"web"}}"#,
            ),
            (r#"{"tags":5}"#, r#"{"tags":5}"#),
            ("[1]", "[1]"),
            ("{", "{"),
        ] {
            assert_eq!(String::from_utf8_lossy(&tagged(text.as_bytes(), &tags)), expected, "{text}");
        }
        let unchanged = br#"{ "provider": "x" }"#;
        assert!(matches!(tagged(unchanged, &[]), Cow::Borrowed(text) if text == unchanged));
    }
}
