//! Texts of `tallyd adopt`.

use super::super::output::{amounts_apart, count, noun, usd_text};
use tallyd_store::adopt::{Adopted, DailyInspection, Inspection, LogInspection, Problem, SCHEMA};

/// The most lines of a list; `--json` has them all.
const LINES: usize = 10;

/// Prints the tables that were found, and the effect of taking them over.
pub(super) fn found(found: &Inspection) {
    if let Some(log) = &found.log {
        show_log(log);
    }
    if let Some(daily) = &found.daily {
        show_daily(daily);
    }
}

fn number(rows: i64) -> String {
    count(rows.unsigned_abs())
}

fn calls(number: i64) -> String {
    noun(number.unsigned_abs(), "call", "calls")
}

fn show_log(log: &LogInspection) {
    println!("{}: {}", log.table, noun(log.rows.unsigned_abs(), "row", "rows"));
    let read = |(field, column): (&&str, &String)| {
        if field == column { column.clone() } else { format!("{field} from {column}") }
    };
    let columns: Vec<String> = log.columns.iter().map(read).collect();
    println!("  read: {}", columns.join(", "));
    if !log.unread.is_empty() {
        println!("  not read: {}", log.unread.join(", "));
    }
    let period = match (log.first_at, log.last_at) {
        (Some(first), Some(last)) => format!(", {} to {}", first.format("%Y-%m-%d"), last.format("%Y-%m-%d")),
        _ => String::new(),
    };
    println!(
        "  {}, {} USD{period}; {} of them taken already",
        calls(log.calls),
        usd_text(&log.cost_usd),
        number(log.taken)
    );
    for (rows, what) in [
        (log.without_user, "have no user: they count for the empty user id"),
        (log.without_model, "name no model"),
        (log.without_cost, "have no cost: they become unpriced calls"),
        (log.dropped_since, "were taken before, and have been dropped from the old log since"),
    ] {
        if rows > 0 {
            println!("  {} {what}", number(rows));
        }
    }
    if log.other_date > 0 {
        let explained =
            log.date_zone.as_ref().map_or("no usual zone explains it".into(), |zone| format!("the dates are {zone}'s"));
        println!("  {} have another date than the day on which they will count ({explained})", number(log.other_date));
    }
    for model in log.models.iter().take(LINES) {
        let name = if model.model.is_empty() { "(no model)" } else { &model.model };
        let known = if model.is_known || model.model.is_empty() {
            ""
        } else {
            "; not in the price catalog, costs stay as recorded"
        };
        println!("    {} {name}: {}, {} USD{known}", model.provider, calls(model.calls), usd_text(&model.cost_usd));
    }
    if log.models.len() > LINES {
        println!("    and {} more (--json has them)", log.models.len() - LINES);
    }
    show_problems(&log.problems, "id");
}

fn show_daily(daily: &DailyInspection) {
    let days = noun(daily.equal.unsigned_abs(), "day by provider equals", "days by provider equal");
    println!("{}: {days} the log", daily.table);
    if daily.rounded > 0 {
        println!(
            "  {} more differ only by the rounding of the old column, {} USD in all; the old log counts",
            number(daily.rounded),
            usd_text(&daily.rounded_usd)
        );
    }
    if !daily.differing.is_empty() {
        println!(
            "  {} differ in calls or cost; the calls of the old log count, and the rest of the sums:",
            daily.differing.len()
        );
    }
    for day in daily.differing.iter().take(LINES) {
        let none = || "none".to_owned();
        let (of_log, of_sums) = match &day.daily_cost_usd {
            Some(daily) => amounts_apart(&day.log_cost_usd, daily),
            None => (usd_text(&day.log_cost_usd), none()),
        };
        println!(
            "    {} {}: {} and {of_log} USD in the log, {} and {of_sums} in the sums",
            day.day,
            day.provider,
            number(day.log_calls),
            day.daily_calls.map_or_else(none, number)
        );
    }
    if daily.differing.len() > LINES {
        println!("    and {} more (--json has them)", daily.differing.len() - LINES);
    }
    let missing = &daily.missing;
    if let (Some(first), Some(last)) = (missing.first, missing.last) {
        println!(
            "  {} in the sums alone, by provider, model and endpoint from {first} to {last}: {}, {} USD, kept as sums; {} of \
             them taken already",
            noun(missing.days.unsigned_abs(), "day is", "days are"),
            calls(missing.calls),
            usd_text(&missing.cost_usd),
            number(missing.taken)
        );
    }
    if missing.beside_log > 0 {
        println!(
            "  {} the rest of a day of which the old log has a part (calls that were deleted with their users, for example): \
             {}, {} USD, kept as calls without a user",
            noun(missing.beside_log.unsigned_abs(), "of these is", "of these are"),
            calls(missing.beside_log_calls),
            usd_text(&missing.beside_log_cost_usd)
        );
    }
    show_problems(&daily.problems, "day");
}

fn show_problems(problems: &[Problem], what: &str) {
    for problem in problems {
        println!(
            "  {} left in place, because {} ({what} {})",
            noun(problem.rows.unsigned_abs(), "row is", "rows are"),
            problem.reason,
            problem.example
        );
    }
}

/// The hint after a look that changed nothing.
pub(super) fn next_step(found: &Inspection) -> String {
    if found.occupied.is_empty() {
        return "nothing was changed: --yes takes it over".to_owned();
    }
    format!(
        "nothing was changed. tallyd's own tables need the names {}: stop the programs that write to them, then --move-aside --yes moves them to \
         the schema {SCHEMA}, as they are, and takes them over",
        found.occupied.join(", ")
    )
}

pub(super) fn done(moved: &[String], done: &Adopted) {
    for name in moved {
        println!("moved {name} to {SCHEMA}");
    }
    println!("took {}, {} USD", calls(done.calls), usd_text(&done.cost_usd));
    if done.days > 0 {
        let (days, calls) = (noun(done.days.unsigned_abs(), "day", "days"), calls(done.days_calls));
        println!("took {days} of which there were only sums: {calls}, {} USD", usd_text(&done.days_cost_usd));
    }
}
