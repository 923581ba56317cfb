//! `tallyd prices cost`: the cost of calls, without recording them.

use std::io::BufRead;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::catalog;
use crate::app::rules;
use crate::cli::{output, with_database};
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::Config;
use tallyd_intake::{Admission, Encoded, Rules};
use tallyd_model::call::Cost;
use tallyd_model::pricing::{Added, Catalog};

/// Calls of standard input, one JSON object a line as `tallyd record` takes them; one answer a line.
#[derive(Args)]
#[command(after_help = "Examples:
  echo '{\"provider\":\"claude\",\"model\":\"claude-sonnet-5\",\"input_tokens\":1200,\"output_tokens\":300}' | tallyd prices cost
  tallyd prices cost --builtin < calls.ndjson
A call is priced as of its occurred_at, which may be a later day's, or of now. Without a known price its cost_usd is null. Exits 1 if a line is no call.")]
pub(super) struct CostArgs {
    /// With the built-in prices and those of config.toml alone: the database is not asked
    #[arg(long)]
    builtin: bool,
}

pub(super) fn cost(args: &CostArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let catalog = if args.builtin {
        Catalog::layered(&config.pricing, &Added::default())?.0
    } else {
        with_database(config, "tallyd prices", async |db| Ok(catalog(db, config).await?.0))?
    };
    // Nothing is recorded, so a call may be of any later day: what will it cost once an announced price holds?
    let rules = Rules { ahead_us: i64::MAX, ..rules(config) };
    let admission = Admission { rules: &rules, catalog: &catalog, now_us: SystemClock.now_us() };
    let mut out = output::Stream::new();
    let mut refused = 0_u64;
    for text in std::io::stdin().lock().split(b'\n') {
        let text = text?;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let answer = answer(&admission, &text);
        refused += u64::from(answer.get("error").is_some());
        if !out.line(&answer)? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    out.flush()?;
    if refused > 0 {
        let lines = output::noun(refused, "line is not a call", "lines are not calls");
        output::hint(&format!("{lines}; the answers have the reasons"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(admission: &Admission<'_>, text: &[u8]) -> Value {
    admission.admit(Encoded::Json(text), |admitted| match admitted.map(|call| call.cost) {
        Ok(cost @ Cost::Catalog { usd, price_id }) => {
            json!({"cost_usd": usd, "cost_source": cost.source(), "price_id": price_id})
        }
        Ok(cost) => json!({"cost_usd": cost.usd(), "cost_source": cost.source()}),
        Err(refusal) => {
            json!({"error": {"code": refusal.code.name(), "field": refusal.field, "message": refusal.message}})
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_model::pricing::PricingOptions;

    #[test]
    fn a_line_is_priced_unpriced_or_refused_by_name() {
        let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
        let admission = Admission { rules: &Rules::default(), catalog: &catalog, now_us: 1_795_392_000_000_000 };
        let said = |text: &str| answer(&admission, text.as_bytes()).to_string();
        let priced =
            said(r#"{"provider":"claude","model":"claude-sonnet-4-5","input_tokens":1200,"output_tokens":300}"#);
        assert!(priced.contains(r#""cost_usd":"0.0081""#) && priced.contains(r#""cost_source":"catalog""#), "{priced}");
        let unknown = said(r#"{"provider":"claude","model":"nobody-knows"}"#);
        assert!(unknown.contains(r#""cost_usd":null"#), "{unknown}");
        let stated = said(r#"{"provider":"x","cost_usd":"0.5"}"#);
        assert!(stated.contains(r#""cost_usd":"0.5""#) && stated.contains("client"), "{stated}");
        assert!(said(r#"{"model":"m"}"#).contains(r#""field":"provider""#));
        assert!(said("{").contains("error"));
    }
}
