//! Which column holds which field, and what every record has.

use anyhow::bail;
use tallyd_protocol::record::FIELDS;

/// A mapping as the command line gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Fields and their columns.
    pub columns: Vec<(&'static str, String)>,
    /// Fields and their constants.
    pub constants: Vec<(&'static str, String)>,
}

impl Mapping {
    /// Reads `FIELD=COLUMN` and `FIELD=VALUE` pairs.
    pub fn parse(map: &[String], set: &[String]) -> anyhow::Result<Self> {
        let mut mapping = Self::default();
        for (flag, pairs, target) in [("--map", map, &mut mapping.columns), ("--set", set, &mut mapping.constants)] {
            for pair in pairs {
                let Some((name, value)) = pair.split_once('=') else {
                    bail!("{flag} {pair}: expected FIELD=…, as in provider=claude");
                };
                let Some(field) = FIELDS.iter().find(|field| **field == name.trim()) else {
                    bail!("{flag} {pair}: {name} is not a field; the fields are {}", FIELDS.join(", "));
                };
                target.push((*field, value.trim().to_owned()));
            }
        }
        let mut named: Vec<_> = mapping.columns.iter().chain(&mapping.constants).map(|(field, _)| *field).collect();
        named.sort_unstable();
        if let Some(twice) = named.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("the field {} is given twice", twice[0]);
        }
        Ok(mapping)
    }

    /// True if the command line says where the field comes from.
    pub fn names(&self, field: &str) -> bool {
        self.columns.iter().chain(&self.constants).any(|(named, _)| *named == field)
    }

    /// A text that is the same for mappings that read alike.
    pub fn canonical(&self) -> String {
        let pairs = |kind: char, pairs: &[(&str, String)]| {
            let mut lines: Vec<_> = pairs.iter().map(|(field, value)| format!("{kind}{field}={value}\n")).collect();
            lines.sort();
            lines.concat()
        };
        pairs('m', &self.columns) + &pairs('s', &self.constants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(map: &[&str], set: &[&str]) -> anyhow::Result<Mapping> {
        let owned = |pairs: &[&str]| pairs.iter().map(ToString::to_string).collect::<Vec<_>>();
        Mapping::parse(&owned(map), &owned(set))
    }

    #[test]
    fn the_order_of_pairs_does_not_matter_and_their_kind_does() {
        let one = parse(&["model=M", "app=A"], &["provider=claude"]).unwrap();
        let other = parse(&["app=A", "model=M"], &["provider=claude"]).unwrap();
        assert_eq!(one.canonical(), other.canonical());
        let constant = parse(&["app=A"], &["model=M", "provider=claude"]).unwrap();
        assert_ne!(one.canonical(), constant.canonical());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |map: &[&str], set: &[&str]| parse(map, set).unwrap_err().to_string();
        assert!(error(&["tokens=X"], &[]).contains("tokens is not a field; the fields are id, occurred_at"));
        assert!(error(&["model"], &[]).contains("expected FIELD=…"));
        assert_eq!(error(&["model=A"], &["model=B"]), "the field model is given twice");
    }
}
