//! Dimensions: tags with a rollup of their own, `daily_dimension_costs`, for cost allocation.
//!
//! A dimension is a tag whose name an operator has chosen, or `app`, the record's application, which is always one. Each call counts in each
//! dimension once: without the tag, under the value `''`. So a dimension's rows add up to all costs.
//!
//! A new dimension is counted day by day, backwards from today (`crates/store/src/dimensions/`), so each has a first day. A call before it
//! does not count in the dimension yet.

use chrono::NaiveDate;

use crate::tags;

/// Dimensions that there can be, [`APP`](tags::APP) among them: each has a bit of `rollup_other`, from the third on.
pub const DIMENSIONS_MAX: usize = 12;
/// The place of `app`.
pub const APP_PLACE: u32 = 2;

/// A dimension that is a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// The tag.
    pub name: String,
    /// Its bit of `rollup_other`, counted from 0.
    pub place: u32,
    /// The first day on which calls count.
    pub counted_from: NaiveDate,
}

impl Dimension {
    /// The bit that says of a call that its value counts as [`OTHER`](super::guard::OTHER).
    #[must_use]
    pub const fn bit(&self) -> i16 {
        1 << self.place
    }
}

/// The dimensions that are tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dimensions(Vec<Dimension>);

impl Dimensions {
    /// Of a list without [`APP`](tags::APP).
    #[must_use]
    pub fn new(dimensions: Vec<Dimension>) -> Self {
        Self(dimensions)
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &Dimension> {
        self.0.iter()
    }

    /// Appends the dimensions' values from a call's stored tags, each followed by a NUL, which values cannot contain. A call
    /// without any of these tags adds nothing.
    pub fn pick(&self, stored: &str, out: &mut String) {
        if self.0.is_empty() || stored.is_empty() {
            return;
        }
        // Admission wrote these tags, so they are readable.
        let tags = tags::read(stored).unwrap_or_default();
        if self.0.iter().any(|dimension| tags.contains_key(&dimension.name)) {
            Self::pack(self.0.iter().map(|dimension| tags.get(&dimension.name).map_or("", String::as_str)), out);
        }
    }

    /// Appends values, one for each dimension, in the form of [`Self::pick`].
    pub fn pack<'v>(values: impl Iterator<Item = &'v str>, out: &mut String) {
        for value in values {
            out.push_str(value);
            out.push('\0');
        }
    }

    /// Each dimension that counts calls of the day, with its value among those that were [picked](Self::pick).
    pub fn values<'p>(&'p self, day: NaiveDate, picked: &'p str) -> impl Iterator<Item = (&'p Dimension, &'p str)> {
        let mut values = picked.split('\0');
        let with_value = self.0.iter().map(move |dimension| (dimension, values.next().unwrap_or_default()));
        with_value.filter(move |(dimension, _)| dimension.counted_from <= day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimension(name: &str, place: u32, day: u32) -> Dimension {
        Dimension { name: name.into(), place, counted_from: NaiveDate::from_ymd_opt(2026, 1, day).expect("a day") }
    }

    #[test]
    fn the_values_of_dimensions_are_picked_and_found_again() {
        let dimensions =
            Dimensions::new(vec![dimension("team", 3, 1), dimension("customer", 4, 5), dimension("a", 5, 1)]);
        let of = |day: u32, stored: &str| {
            let mut picked = String::new();
            dimensions.pick(stored, &mut picked);
            let day = NaiveDate::from_ymd_opt(2026, 1, day).expect("a day");
            let values = dimensions.values(day, &picked).map(|(dimension, value)| (dimension.place, value.to_owned()));
            (values.collect::<Vec<_>>(), picked.is_empty())
        };
        let plain = |values: [&str; 3]| [3, 4, 5].into_iter().zip(values.map(str::to_owned)).collect::<Vec<_>>();
        let tags = r#"{"customer":"x \"y\"","other":"o","team":"search"}"#;
        assert_eq!(of(5, tags), (plain(["search", "x \"y\"", ""]), false));
        assert_eq!(of(4, tags).0, [(3, "search".into()), (5, String::new())], "a day before it counts");
        for none in ["", r#"{"other":"o"}"#, "{", r#"{"team":1}"#] {
            assert_eq!(of(5, none), (plain(["", "", ""]), true), "{none}");
        }
    }
}
