//! A report as an HTML document for e-mail: one column, tables, styles beside their elements, nothing from another host.

use super::text::{by, calls, change, closings, name, signed, title, unpriced};
use super::{Report, ReportMovers};
use crate::pricing::Usd;
use crate::quote;
use crate::wording::usd;

const BODY: &str = "margin:0;padding:24px;background:#f4f4f1;color:#1c1c1a;font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif";
const CARD: &str =
    "max-width:600px;margin:0 auto;padding:24px 28px;background:#ffffff;border:1px solid #e2e2dc;border-radius:8px";
const SMALL: &str = "margin:0;color:#5c5c56;font-size:13px";
const TABLE: &str = "width:100%;border-collapse:collapse;font-size:14px";
const CELL: &str = "padding:6px 0;border-bottom:1px solid #ecece7";
const NUMBER: &str = "padding:6px 0 6px 12px;border-bottom:1px solid #ecece7;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums";
const NAME: &str = "padding:6px 0;border-bottom:1px solid #ecece7;overflow-wrap:anywhere";

/// The document.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut body = format!(
        "<p style=\"{SMALL}\">tallyd · {}</p>\
         <h1 style=\"margin:4px 0 0;font-size:28px;line-height:1.3\">{} USD</h1>\
         <p style=\"margin:0 0 8px;font-size:16px\">{}</p><p style=\"{SMALL}\">{}</p>",
        escaped(&title(report)),
        escaped(&usd(report.total.cost_usd, false)),
        escaped(&change(report)),
        escaped(&calls(&report.total, &report.before)),
    );
    if let Some(sentence) = unpriced(report) {
        body.push_str(&format!(
            "<p style=\"margin:12px 0 0;padding:8px 12px;background:#fff6dd;border-radius:6px;font-size:14px\">{}</p>",
            escaped(&sentence)
        ));
    }
    for vendor in &report.closings {
        body.push_str(&format!("<p style=\"{SMALL};margin-top:8px\">{}</p>", escaped(&closings(vendor))));
    }
    report.movers.iter().filter(|group| !group.movers.is_empty()).for_each(|group| body.push_str(&movers(group)));
    if !report.budgets.is_empty() {
        body.push_str(&budgets(report));
    }
    body.push_str(&format!(
        "<p style=\"{SMALL};margin-top:24px\">Days of {}. Sums are those of the rollups, rounded to cents.</p>",
        escaped(&report.time_zone)
    ));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title></head>\
         <body style=\"{BODY}\"><div style=\"{CARD}\">{body}</div></body></html>\n",
        escaped(&title(report))
    )
}

fn movers(group: &ReportMovers) -> String {
    let row = |mover: &super::ReportMover| {
        let color = if mover.change() > Usd::ZERO { "#b3261e" } else { "#1a6b3c" };
        format!(
            "<tr><td style=\"{NAME}\">{}</td><td style=\"{NUMBER};width:96px\">{}</td>\
             <td style=\"{NUMBER};width:96px;color:{color}\">{}</td></tr>",
            escaped(&name(&mover.name)),
            escaped(&usd(mover.cost_usd, false)),
            escaped(&signed(mover.change())),
        )
    };
    let rows: String = group.movers.iter().map(row).collect();
    let title = format!("Top movers by {}", by(&group.by, group.whole_from));
    table(&title, &["", "USD", "Change"], &rows)
}

fn budgets(report: &Report) -> String {
    let row = |budget: &super::ReportBudget| {
        let forecast = budget.forecast_usd.map_or_else(|| "–".to_owned(), |forecast| usd(forecast, false));
        format!(
            "<tr><td style=\"{NAME}\">{}</td><td style=\"{NUMBER}\">{} of {}</td><td style=\"{NUMBER}\">{} %</td>\
             <td style=\"{NUMBER}\">{}</td></tr>",
            escaped(&budget.name),
            escaped(&usd(budget.spent_usd, false)),
            escaped(&usd(budget.amount_usd, false)),
            budget.used_percent,
            escaped(&forecast),
        )
    };
    let rows: String = report.budgets.iter().map(row).collect();
    table("Budgets", &["", "USD", "Used", "Forecast"], &rows)
}

fn table(title: &str, columns: &[&str], rows: &str) -> String {
    let head = |(at, column): (usize, &&str)| {
        let align = if at == 0 { "left" } else { "right" };
        format!("<th style=\"{CELL};text-align:{align};font-weight:500;color:#5c5c56;font-size:13px\">{column}</th>")
    };
    let heads: String = columns.iter().enumerate().map(head).collect();
    format!(
        "<h2 style=\"margin:24px 0 4px;font-size:16px\">{}</h2><table style=\"{TABLE}\"><tr>{heads}</tr>{rows}</table>",
        escaped(title)
    )
}

/// Text for HTML: senders choose the names of models, users and values.
fn escaped(text: &str) -> String {
    let text = quote::line(text);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
