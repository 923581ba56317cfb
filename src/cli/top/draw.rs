//! Draws the picture into any buffer of cells: a terminal's, a test's, or one that is printed as text.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, Widget, Wrap};

use super::sample::Sample;
use super::view::{Sort, View};
use crate::cli::output::{bytes, cost, count, usd};
use crate::http::{Health, ModelToday};
use tallyd_model::wording::noun;
use tallyd_store::budgets::BudgetStanding as Standing;
use tallyd_store::whole::Whole;

/// From this number of columns on, two panels stand side by side.
const WIDE: u16 = 76;
/// Lines of a panel, its border included.
const PANEL: u16 = 6;
/// Budgets on the screen: the most used ones.
const BUDGETS: usize = 3;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);

const KEYS: &str = "\
q, Esc, Ctrl-C  quit\n\
p               pause, go on\n\
Tab, → and ←    sort by another column\n\
↓ and ↑         scroll\n\
?               this help";

pub(super) fn draw(view: &View, area: Rect, buffer: &mut Buffer) {
    let budgets = budgets(view);
    let problem = problem(view);
    let wide = area.width >= WIDE;
    let [head, trouble, panels, table, foot, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(if problem.is_some() { 2 } else { 0 }),
        Constraint::Length(if wide { PANEL } else { 2 * PANEL }),
        Constraint::Min(4),
        Constraint::Length(u16::try_from(budgets.len()).unwrap_or(0)),
        Constraint::Length(1),
    ])
    .areas(area);
    title(view).render(head, buffer);
    if let Some(problem) = problem {
        Paragraph::new(problem).wrap(Wrap { trim: true }).render(trouble, buffer);
    }
    let halves = [Constraint::Ratio(1, 2), Constraint::Ratio(1, 2)];
    let halves = if wide { Layout::horizontal(halves) } else { Layout::vertical(halves) };
    let [left, right] = halves.areas(panels);
    Paragraph::new(rates(view, left.width)).block(Block::bordered().title(" Records a second ")).render(left, buffer);
    Paragraph::new(log(view, right.width)).block(Block::bordered().title(" Write-ahead log ")).render(right, buffer);
    models(view, table, buffer);
    Paragraph::new(budgets).render(foot, buffer);
    let paused = if view.paused { "PAUSED  " } else { "" };
    let line = Line::from(vec![Span::styled(paused, BOLD), Span::styled("q quit  p pause  Tab sort  ? help", FAINT)]);
    line.render(keys, buffer);
    if view.help {
        help(area, buffer);
    }
}

/// The picture as text, without a terminal and without blanks at the ends of lines.
pub(super) fn text(view: &View, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(view, area, &mut buffer);
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(line).collect()
}

fn health(health: Health) -> Span<'static> {
    match health {
        Health::Ok => Span::styled("ok", Style::new().fg(Color::Green)),
        Health::Degraded => Span::styled("degraded", Style::new().fg(Color::Yellow)),
        Health::Failing => Span::styled("FAILING", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)),
    }
}

fn title(view: &View) -> Line<'static> {
    let Some(sample) = &view.sample else { return Line::from(Span::styled("tallyd", BOLD)) };
    let status = &sample.status;
    let state = if view.gone.is_some() {
        Span::styled("GONE", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
    } else {
        health(status.health.status)
    };
    let up = up(status.uptime_seconds);
    Line::from(vec![
        Span::styled(format!("tallyd {}", status.version), BOLD),
        Span::raw("  "),
        state,
        Span::styled(format!("  up {up}  process {}", status.pid), FAINT),
    ])
}

fn up(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// The problem to show, if there is one.
fn problem(view: &View) -> Option<String> {
    if let Some(gone) = &view.gone {
        return Some(format!("{gone} (looking again)"));
    }
    let report = &view.sample.as_ref()?.status.health;
    let worst = [&report.ingest, &report.wal, &report.flusher].into_iter().max_by_key(|part| part.status)?;
    worst.message.clone()
}

fn rates(view: &View, width: u16) -> Vec<Line<'static>> {
    let rates = &view.rates;
    let room = usize::from(width).saturating_sub(24);
    let row = |name: &str, rate: f64, history: &std::collections::VecDeque<u64>| {
        let newest = history.iter().copied().skip(history.len().saturating_sub(room)).collect::<Vec<_>>();
        Line::from(vec![
            Span::raw(format!("{name:<10}")),
            Span::styled(format!("{:>9}  ", whole(rate)), BOLD),
            Span::styled(bars(&newest), Style::new().fg(Color::Cyan)),
        ])
    };
    let time = |seconds: Option<f64>| seconds.map_or("-".into(), |seconds| format!("{:.1} ms", seconds * 1e3));
    let (p50, p99) = (time(rates.commit_p50_s), time(rates.commit_p99_s));
    vec![
        row("acked", rates.acked, &view.acked),
        row("committed", rates.committed, &view.committed),
        Line::from(format!("{:<10}{:>9}", "refused", whole(rates.refused))),
        Line::from(format!("disk sync  p50 {p50}  p99 {p99}")),
    ]
}

fn log(view: &View, width: u16) -> Vec<Line<'static>> {
    let Some(Sample { status, counters, .. }) = &view.sample else { return Vec::new() };
    let (wal, database) = (&status.wal, &status.database);
    let holds = database.lanes.iter().filter(|lane| lane.hold).count();
    let lanes = match (holds, database.lanes.len()) {
        (0, lanes) => noun(lanes as u64, "lane", "lanes"),
        (holds, lanes) => {
            format!("{holds} of {} {}", noun(lanes as u64, "lane", "lanes"), if holds == 1 { "HOLDS" } else { "HOLD" })
        }
    };
    let full = if counters.wal_max_bytes > 0.0 { wal.bytes as f64 / counters.wal_max_bytes } else { 0.0 };
    let room = usize::from(width).saturating_sub(36).min(20);
    // At most 20 cells.
    let filled = ((full * room as f64).ceil() as usize).min(room);
    let gauge = "█".repeat(filled) + &"·".repeat(room - filled);
    let bound = bytes(counters.wal_max_bytes as u64);
    vec![
        Line::from(vec![
            Span::raw("not loaded  "),
            Span::styled(count(wal.unflushed_records), BOLD),
            Span::raw(format!("  oldest {:.1} s", wal.oldest_unflushed_seconds)),
        ]),
        Line::from(format!("size        {} of {bound}  {gauge}", bytes(wal.bytes))),
        Line::from(format!("segments    {}  {lanes}", wal.segments)),
        Line::from(format!(
            "committed   {}  dead letters {}",
            database.committed_records.map_or("(no answer)".into(), count),
            whole(counters.dead_letters)
        )),
    ]
}

fn models(view: &View, area: Rect, buffer: &mut Buffer) {
    let today = view.sample.as_ref().and_then(|sample| sample.today.as_ref());
    let title = today.map_or(" Today: the database does not answer ".to_owned(), |today| {
        format!(
            " {} ({}): {} USD, {} ",
            today.day,
            today.time_zone,
            usd(today.cost_usd, false),
            noun(today.calls.to_u64(), "call", "calls")
        )
    });
    let (tokens, calls) = (area.width >= 60, area.width >= 44);
    let heading = |name: &str, sort: Sort| if view.sort == sort { format!("{name} ▼") } else { name.to_owned() };
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let mut widths = vec![Constraint::Min(12)];
    let by = today.and_then(|today| today.by.as_deref()).unwrap_or("model");
    let mut head = vec![Cell::from(heading(by, Sort::Model))];
    if calls {
        widths.push(Constraint::Length(10));
        head.push(right(heading("calls", Sort::Calls)));
    }
    if tokens {
        widths.extend([Constraint::Length(10), Constraint::Length(10)]);
        head.extend([right(heading("in", Sort::Tokens)), right("out".into())]);
    }
    widths.push(Constraint::Length(14));
    head.push(right(heading("USD", Sort::Cost)));
    let row = |model: &&ModelToday| {
        let (of_calls, unpriced) = (model.calls.to_u64(), model.unpriced_calls.to_u64());
        let mark = if unpriced > 0 && unpriced < of_calls { "?" } else { "" };
        let name = match (model.model.as_str(), model.provider.as_str()) {
            ("", "") => format!("(no {by})"),
            ("", provider) => provider.to_owned(),
            (model, _) => model.to_owned(),
        };
        let mut cells = vec![Cell::from(name)];
        if calls {
            cells.push(right(number(model.calls)));
        }
        if tokens {
            cells.extend([right(short(model.input_tokens)), right(short(model.output_tokens))]);
        }
        cells.push(right(format!("{}{mark}", cost(model.cost_usd, of_calls, unpriced, false))));
        Row::new(cells)
    };
    let all = view.models();
    let rows = all.iter().skip(view.scroll).map(row);
    let table = Table::new(rows, widths).header(Row::new(head).style(BOLD)).block(Block::bordered().title(title));
    Widget::render(table, area, buffer);
}

fn budgets(view: &View) -> Vec<Line<'static>> {
    let today = view.sample.as_ref().and_then(|sample| sample.today.as_ref());
    let mut budgets: Vec<_> = today.map(|today| today.budgets.iter().collect()).unwrap_or_default();
    budgets.sort_by_key(|budget| std::cmp::Reverse(budget.used_percent));
    let line = |budget: &&crate::http::BudgetToday| {
        let style = match budget.status {
            Standing::Normal => Style::new(),
            Standing::Warning => Style::new().fg(Color::Yellow),
            Standing::Exceeded => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        };
        let text =
            format!("budget {}: {} % of {} USD", budget.name, budget.used_percent, usd(budget.amount_usd, false));
        Line::from(Span::styled(text, style))
    };
    budgets.iter().take(BUDGETS).map(line).collect()
}

fn help(area: Rect, buffer: &mut Buffer) {
    let (width, height) = (44.min(area.width), 7.min(area.height));
    let middle = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    Clear.render(middle, buffer);
    Paragraph::new(KEYS).block(Block::bordered().title(" Keys ")).render(middle, buffer);
}

/// A bar for each value; the largest is full.
fn bars(values: &[u64]) -> String {
    let largest = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: u64| BARS[usize::try_from(value * 7 / largest).unwrap_or(7)];
    values.iter().map(|value| bar(*value)).collect()
}

fn whole(rate: f64) -> String {
    // A count or a rate: not negative, and far below 2^53.
    count(rate.round() as u64)
}

fn number(calls: Whole) -> String {
    count(calls.to_u64())
}

/// Tokens, rounded: `1.2 M`.
fn short(tokens: Whole) -> String {
    let value = tokens.0 as f64;
    match tokens.0 {
        ..10_000 => number(tokens),
        10_000..1_000_000 => format!("{:.1} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.1} G", value / 1e9),
    }
}

#[cfg(test)]
mod tests;
