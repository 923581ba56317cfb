//! The command line.

use std::path::PathBuf;

use tallyd_client::Record;

use super::goal;

const HELP: &str = "\
Measures tallyd against its goals and against what it replaces.

Usage: cargo bench --bench goals -- [FLAGS]        for example: --only end-to-end --users 500

  --only NAME[,NAME]   these alone; see the list below
  --rounds N           rounds of each comparison (5)
  --records N          records of a round of loading (1000000)
  --users N            distinct users of a round of loading; without it both 500 and 10000. users: the row
                       with that number alone; bloat: 1000000
  --ids KIND           whose ids the records of a round of loading have: a client library's (made),
                       or the application's (stated) (made)
  --backlog N          records of the backlog (10000000)
  --log-rows N         rows of the larger log behind the questions (50000000)
  --log-users N        users of the log behind each view's question (10000000)
  --seconds N          seconds of loading before sizes are taken (bloat) (3600)
  --against BINARY     another build of the daemon, measured in turn with this one, without the
                       slower sides (end-to-end, users, user-index, start, ack)
  --json FILE          where the report goes (target/bench/report.json)
  --plot FILE          where the picture goes (target/bench/sides.svg)
";

pub struct Options {
    only: Vec<String>,
    pub rounds: usize,
    pub records: usize,
    /// Numbers of distinct users, on which the cost of the users' rollups depends.
    pub users: Vec<usize>,
    /// The number of distinct users, if the command line has one.
    pub stated_users: Option<usize>,
    /// The origin of the records' ids.
    pub ids: Ids,
    pub backlog: usize,
    pub log_rows: usize,
    pub log_users: usize,
    /// Seconds of loading before sizes are taken.
    pub seconds: usize,
    /// Another build of the daemon, to be measured in turn with this one.
    pub against: Option<PathBuf>,
    pub json: PathBuf,
    pub plot: PathBuf,
}

/// The origin of the records' ids.
#[derive(Clone, Copy)]
pub enum Ids {
    /// Made by a client library: not looked up.
    Made,
    /// Stated by the application: each is looked up and remembered.
    Stated,
}

impl Ids {
    fn named(name: &str) -> Self {
        match name {
            "made" => Self::Made,
            "stated" => Self::Stated,
            _ => wrong(&format!("--ids takes made or stated, not {name:?}")),
        }
    }

    /// Marks the records' ids as made or stated.
    pub fn tell(self, records: &mut [Record]) {
        for record in records {
            record.made_id = matches!(self, Self::Made);
        }
    }
}

impl Options {
    pub fn from_arguments() -> Self {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench");
        let mut options = Self {
            only: Vec::new(),
            rounds: 5,
            records: 1_000_000,
            users: vec![500, 10_000],
            stated_users: None,
            ids: Ids::Made,
            backlog: 10_000_000,
            log_rows: 50_000_000,
            log_users: 10_000_000,
            seconds: 3_600,
            against: None,
            json: target.join("report.json"),
            plot: target.join("sides.svg"),
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(flag) = arguments.next() {
            if flag == "--help" {
                print!("{HELP}");
                for name in names() {
                    println!("  {name}{}", if goal::is_long(name) { "  (only if it is named)" } else { "" });
                }
                std::process::exit(0);
            }
            let Some(value) = arguments.next() else { wrong(&format!("{flag} takes a value")) };
            let count = || match value.parse() {
                Ok(count) if count > 0 => count,
                _ => wrong(&format!("{flag} takes a number above 0, not {value:?}")),
            };
            match flag.as_str() {
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--rounds" => options.rounds = count(),
                "--records" => options.records = count(),
                "--users" => {
                    options.users = vec![count()];
                    options.stated_users = Some(count());
                }
                "--ids" => options.ids = Ids::named(&value),
                "--backlog" => options.backlog = count(),
                "--log-rows" => options.log_rows = count(),
                "--log-users" => options.log_users = count(),
                "--seconds" => options.seconds = count(),
                "--against" => options.against = Some(value.into()),
                "--json" => options.json = value.into(),
                "--plot" => options.plot = value.into(),
                _ => wrong(&format!("{flag} is not known")),
            }
        }
        if let Some(name) = options.only.iter().find(|name| !names().contains(&name.as_str())) {
            wrong(&format!("there is no {name:?}, only: {}", names().join(", ")));
        }
        options
    }

    pub fn wants(&self, name: &str) -> bool {
        if self.only.is_empty() { !goal::is_long(name) } else { self.only.iter().any(|only| only == name) }
    }
}

fn names() -> Vec<&'static str> {
    goal::ALL.iter().map(|(name, _)| *name).collect()
}

fn wrong(message: &str) -> ! {
    eprintln!("{message}; see --help");
    std::process::exit(2);
}
