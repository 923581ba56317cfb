//! The TOML forms of typed values. Each module is for `#[serde(with = …)]`.

/// An optional text or path: none is written as the empty string, since TOML has no null.
pub(super) mod empty_is_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }

    pub(crate) fn deserialize<'de, T: From<String>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(if text.is_empty() { None } else { Some(T::from(text)) })
    }
}

/// A duration in whole milliseconds.
pub(super) mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        // A configured duration was read from 64 bits.
        serializer.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// A duration in whole days.
pub(super) mod days {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    const DAY_SECONDS: u64 = 24 * 60 * 60;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.as_secs() / DAY_SECONDS)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        // 32 bits of days are 11 million years, and their seconds fit 64 bits.
        u32::deserialize(deserializer).map(|days| Duration::from_secs(u64::from(days) * DAY_SECONDS))
    }
}

/// File permissions as octal text, as `chmod` takes them.
pub(super) mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{mode:04o}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if digits && mode <= 0o777 => Ok(mode),
            _ => Err(de::Error::custom(format_args!(
                "{text:?} is not a file mode; write octal digits, such as \"0660\""
            ))),
        }
    }
}

/// An instant as RFC 3339 text, held in microseconds since 1970 UTC.
pub(super) mod rfc3339 {
    use chrono::{DateTime, SecondsFormat};
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    pub(crate) fn serialize<S: Serializer>(us: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        let time =
            DateTime::from_timestamp_micros(*us).ok_or_else(|| ser::Error::custom("a time beyond the calendar"))?;
        serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| {
            de::Error::custom(format_args!("{text:?} is not a time; write RFC 3339, such as \"2015-01-01T00:00:00Z\""))
        })?;
        Ok(time.timestamp_micros())
    }
}

/// A time zone by its IANA name.
pub(super) mod time_zone {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use tallyd_model::zone::Tz;

    pub(crate) fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(zone.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| {
            de::Error::custom(format_args!(
                "{text:?} is not a time zone; write an IANA name, such as \"Europe/Berlin\""
            ))
        })
    }
}
