//! Figures, the table of them, and `report.json`.

use std::fmt::Write as _;

use serde_json::{Value, json};

use tallyd_base::clock::{Clock, SystemClock};

use super::options::Options;
use crate::support::{Cluster, median};

/// The goal of a figure.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Without a goal, for comparison.
    Shown,
}

/// One line of the table: a figure for each round.
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub goal: Goal,
    pub rounds: Vec<f64>,
}

/// One bar of the picture: records a second of a side.
pub struct Side {
    pub name: &'static str,
    pub rates: Vec<f64>,
}

pub struct Report {
    machine: Value,
    rounds: usize,
    pub figures: Vec<Figure>,
    pub sides: Vec<Side>,
}

impl Report {
    pub fn new(options: &Options) -> Self {
        let postgresql = Cluster::start().describe();
        Self { machine: machine(&postgresql), rounds: options.rounds, figures: Vec::new(), sides: Vec::new() }
    }

    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, goal: Goal, rounds: Vec<f64>) {
        let figure = Figure { name: name.into(), unit, goal, rounds };
        println!("{}", figure.line());
        self.figures.push(figure);
    }

    /// The ratio of two sides that took turns.
    pub fn add_ratio(&mut self, name: impl Into<String>, goal: Goal, over: &[f64], under: &[f64]) {
        let ratios = over.iter().zip(under).map(|(over, under)| over / under).collect();
        self.add(name, "×", goal, ratios);
    }

    pub fn machine(&self) -> String {
        let text = |key: &str| self.machine[key].as_str().unwrap_or_default().to_owned();
        format!(
            "{}, {} cores, {} GiB; {}",
            text("cpu"),
            self.machine["cores"],
            self.machine["memory_gib"],
            text("postgresql")
        )
    }

    pub fn table(&self) -> String {
        let mut table = String::from("| what | goal | reached (median, range) | rounds | |\n|---|---|---|---|---|\n");
        for figure in &self.figures {
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "| {} | {} | {} | {} | {} |",
                figure.name,
                figure.goal_text(),
                figure.reached(),
                figure.rounds.len(),
                figure.verdict()
            );
        }
        table
    }

    pub fn write(&self, options: &Options) {
        if let Some(folder) = options.json.parent() {
            std::fs::create_dir_all(folder).expect("the report's folder");
        }
        let sides: Vec<Value> = self
            .sides
            .iter()
            .map(|side| json!({"name": side.name, "records_per_second": median(&side.rates), "runs": side.rates}))
            .collect();
        let report = json!({
            "measured_at": chrono::DateTime::from_timestamp_micros(SystemClock.now_us()).map(|now| now.to_rfc3339()),
            "machine": self.machine,
            "rounds": self.rounds,
            "goals": self.figures.iter().map(Figure::json).collect::<Vec<_>>(),
            "sides": sides,
        });
        std::fs::write(&options.json, format!("{report:#}\n")).expect("the report");
    }
}

impl Figure {
    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::AtLeast(goal) => Some(median(&self.rounds) >= goal),
            Goal::AtMost(goal) => Some(median(&self.rounds) <= goal),
            Goal::Shown => None,
        }
    }

    fn verdict(&self) -> &'static str {
        match self.met() {
            Some(true) => "met",
            Some(false) => "missed",
            None => "",
        }
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::AtLeast(goal) => format!("≥ {}", self.amount(goal)),
            Goal::AtMost(goal) => format!("≤ {}", self.amount(goal)),
            Goal::Shown => String::new(),
        }
    }

    fn reached(&self) -> String {
        let low = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let high = self.rounds.iter().copied().fold(0.0, f64::max);
        format!("{} ({} to {})", self.amount(median(&self.rounds)), number(low), number(high))
    }

    fn amount(&self, value: f64) -> String {
        if self.unit == "×" { number(value) } else { format!("{} {}", number(value), self.unit) }
    }

    fn line(&self) -> String {
        let goal = self.goal_text();
        let goal = if goal.is_empty() { String::new() } else { format!("; goal {goal}: {}", self.verdict()) };
        format!("{}: {}{goal}", self.name, self.reached())
    }

    fn json(&self) -> Value {
        let (at_least, at_most) = match self.goal {
            Goal::AtLeast(goal) => (Some(goal), None),
            Goal::AtMost(goal) => (None, Some(goal)),
            Goal::Shown => (None, None),
        };
        json!({
            "name": self.name,
            "unit": self.unit,
            "goal": at_least.or(at_most),
            "goal_is": at_least.map(|_| "at least").or(at_most.map(|_| "at most")),
            "reached": median(&self.rounds),
            "met": self.met(),
            "runs": self.rounds.len(),
            "rounds": self.rounds,
        })
    }
}

/// A number with three significant digits.
fn number(value: f64) -> String {
    if value >= 1_000.0 {
        let digits = format!("{value:.0}");
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn machine(postgresql: &str) -> Value {
    let file = |path| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let kib: u64 = after(&file("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    json!({
        "cpu": after(&file("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gib": kib >> 20,
        "kernel": file("/proc/sys/kernel/osrelease").trim(),
        "postgresql": postgresql,
    })
}
