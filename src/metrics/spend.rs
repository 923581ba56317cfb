//! Sums of the committed calls, in Prometheus' text format.
//!
//! Written by hand, because a counter of the facade is a whole number: amounts have all of their digits here.

use std::fmt::Write;

use tallyd_base::registry::{self as name, ALL};
use tallyd_store::load::spend::Spent;

/// The kinds of tokens, in the order of [`Measures::units`](tallyd_model::rollup::measures::Measures::units).
const TYPES: [&str; 5] = ["input", "output", "cache_read", "cache_write_5m", "cache_write_1h"];

/// The sums by provider and model, as families of counters.
#[must_use]
pub(crate) fn exposition(sums: &[((String, String), Spent)]) -> String {
    let mut out = String::new();
    family(&mut out, name::COST_USD, sums, |_, spent, series| series("", spent.measures.cost.to_string()));
    family(&mut out, name::CREDITS_USD, sums, |_, spent, series| series("", spent.credits.to_string()));
    family(&mut out, name::TOKENS, sums, |_, spent, series| {
        for (kind, tokens) in TYPES.iter().zip(spent.measures.units) {
            series(&format!(",type=\"{kind}\""), tokens.to_string());
        }
    });
    family(&mut out, name::CALLS, sums, |_, spent, series| {
        let errors = spent.measures.errors;
        series(",status=\"ok\"", (spent.measures.calls - errors).to_string());
        series(",status=\"error\"", errors.to_string());
    });
    family(&mut out, name::CALLS_UNPRICED, sums, |_, spent, series| series("", spent.measures.unpriced.to_string()));
    out
}

/// One family: its help, its type, and a series for each pair.
fn family(
    out: &mut String,
    metric: &str,
    sums: &[((String, String), Spent)],
    of_pair: impl Fn(&(String, String), &Spent, &mut dyn FnMut(&str, String)),
) {
    let help = ALL.iter().find(|known| known.name == metric).map_or("", |known| known.help.trim());
    // Writing to a String does not fail.
    let _ = writeln!(out, "# HELP {metric} {help}\n# TYPE {metric} counter");
    for (pair, spent) in sums {
        let labels = format!("provider=\"{}\",model=\"{}\"", escaped(&pair.0), escaped(&pair.1));
        of_pair(pair, spent, &mut |more, value| {
            let _ = writeln!(out, "{metric}{{{labels}{more}}} {value}");
        });
    }
    out.push('\n');
}

/// A label's value: backslash, quote and line feed are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use tallyd_model::pricing::Usd;
    use tallyd_model::rollup::measures::Measures;

    use super::*;

    #[test]
    fn amounts_have_all_digits_and_labels_are_escaped() {
        let cost = Usd::parse("12345678901234567890.000000000000000001").expect("an amount");
        let measures = Measures { calls: 3, errors: 1, units: [5, 0, 0, 0, 7, 3], cost, unpriced: 1 };
        let pair = ("claude".to_owned(), "a\"b\\c\nd".to_owned());
        let text = exposition(&[(pair, Spent { measures, credits: Usd::ONE })]);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("tallyd_")).collect();
        let labels = r#"provider="claude",model="a\"b\\c\nd""#;
        let expected = [
            format!("tallyd_cost_usd_total{{{labels}}} 12345678901234567890.000000000000000001"),
            format!("tallyd_credits_usd_total{{{labels}}} 1"),
            format!("tallyd_tokens_total{{{labels},type=\"input\"}} 5"),
            format!("tallyd_tokens_total{{{labels},type=\"output\"}} 0"),
            format!("tallyd_tokens_total{{{labels},type=\"cache_read\"}} 0"),
            format!("tallyd_tokens_total{{{labels},type=\"cache_write_5m\"}} 0"),
            format!("tallyd_tokens_total{{{labels},type=\"cache_write_1h\"}} 7"),
            format!("tallyd_calls_total{{{labels},status=\"ok\"}} 2"),
            format!("tallyd_calls_total{{{labels},status=\"error\"}} 1"),
            format!("tallyd_calls_unpriced_total{{{labels}}} 1"),
        ];
        assert_eq!(lines, expected);
    }
}
