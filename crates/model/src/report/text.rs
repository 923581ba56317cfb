//! A report as lines of text, for chats and e-mail without HTML.

use super::{Report, ReportClosings, ReportMover, ReportSums};
use crate::pricing::Usd;
use crate::wording::{count, named, noun, usd};

/// The report in one line.
#[must_use]
pub fn headline(report: &Report) -> String {
    format!("tallyd: {}: {} USD, {}", title(report), usd(report.total.cost_usd, false), change(report))
}

/// All of it, a line each; the first is the headline.
#[must_use]
pub fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![headline(report), calls(&report.total, &report.before)];
    if let Some(unpriced) = unpriced(report) {
        lines.push(unpriced);
    }
    lines.extend(report.closings.iter().map(closings));
    for group in report.movers.iter().filter(|group| !group.movers.is_empty()) {
        lines.push(String::new());
        lines.push(format!("Top movers by {}", by(&group.by, group.whole_from)));
        lines.extend(group.movers.iter().map(mover));
    }
    if !report.budgets.is_empty() {
        lines.extend([String::new(), "Budgets".to_owned()]);
    }
    for budget in &report.budgets {
        let forecast = budget.forecast_usd.map(|forecast| format!(", forecast {}", usd(forecast, false)));
        lines.push(format!(
            "  {}: {} of {} USD, {} % used{}",
            budget.name,
            usd(budget.spent_usd, false),
            usd(budget.amount_usd, false),
            budget.used_percent,
            forecast.unwrap_or_default()
        ));
    }
    lines
}

/// `Week 2026-11-23 to 2026-11-29`.
pub(super) fn title(report: &Report) -> String {
    match report.period.as_str() {
        "day" => format!("Day {}", report.first),
        "month" => format!("Month {}", report.first.format("%Y-%m")),
        _ => format!("Week {} to {}", report.first, report.last),
    }
}

/// `12.50 more than the week before (+8.1 %)`.
pub(super) fn change(report: &Report) -> String {
    let percent = report.change_percent.map(|percent| {
        let sign = if percent > Usd::ZERO { "+" } else { "" };
        format!(" ({sign}{percent} %)")
    });
    let percent = percent.unwrap_or_default();
    let amount = usd(Usd::from_attos(report.change_usd.attos().saturating_abs()), false);
    match report.change_usd {
        Usd::ZERO => format!("as much as the {} before", report.period),
        change if change > Usd::ZERO => format!("{amount} more than the {} before{percent}", report.period),
        _ => format!("{amount} less than the {} before{percent}", report.period),
    }
}

pub(super) fn calls(total: &ReportSums, before: &ReportSums) -> String {
    format!(
        "{} ({} before), {}, {}",
        noun(total.calls, "call", "calls"),
        count(before.calls),
        noun(total.errors, "error", "errors"),
        noun(total.tokens, "token", "tokens")
    )
}

/// The unpriced calls in a sentence; none without any.
pub(super) fn unpriced(report: &Report) -> Option<String> {
    if report.total.unpriced_calls == 0 {
        return None;
    }
    let names: Vec<String> = report
        .unpriced
        .iter()
        .map(|model| {
            let name = if model.model.is_empty() { &model.provider } else { &model.model };
            format!("{} {}", named(name), count(model.calls))
        })
        .collect();
    let noun = noun(report.total.unpriced_calls, "unpriced call is", "unpriced calls are");
    Some(format!("{noun} not in these sums: {}", names.join(", ")))
}

/// `bill of anthropic: 6 of 7 days closed, 1 differs (-12.50 USD): unrecorded model, price`.
pub(super) fn closings(closings: &ReportClosings) -> String {
    let closed = closings.matched + closings.differs;
    let days = noun(closed + closings.open, "day", "days");
    let mut text = format!("bill of {}: {} of {days} closed", closings.vendor, count(closed));
    if closings.differs > 0 {
        let verb = if closings.differs == 1 { "differs" } else { "differ" };
        let difference = signed(closings.difference_usd);
        text.push_str(&format!(", {} {verb} ({difference} USD)", count(closings.differs)));
    }
    if !closings.parts.is_empty() {
        let parts: Vec<&str> = closings.parts.iter().map(|kind| kind.words()).collect();
        text.push_str(&format!(": {}", parts.join(", ")));
    }
    text
}

/// `team (all costs count from 2026-11-20 on)`.
pub(super) fn by(name: &str, whole_from: Option<chrono::NaiveDate>) -> String {
    whole_from.map_or_else(|| name.to_owned(), |day| format!("{name} (all costs count from {day} on)"))
}

fn mover(mover: &ReportMover) -> String {
    format!("  {}: {} USD, {}", name(&mover.name), usd(mover.cost_usd, false), signed(mover.change()))
}

/// A name in quotes, or `(none)`.
pub(super) fn name(name: &str) -> String {
    if name.is_empty() { "(none)".to_owned() } else { named(name) }
}

/// An amount with its sign.
pub(super) fn signed(change: Usd) -> String {
    let amount = usd(Usd::from_attos(change.attos().saturating_abs()), false);
    match change.attos().signum() {
        1 => format!("+{amount}"),
        0 => "no change".to_owned(),
        _ => format!("-{amount}"),
    }
}
