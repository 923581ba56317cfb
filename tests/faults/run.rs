//! One row's run: its depth, its progress, and its entry in the report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::oracle::Verdict;
use crate::support::daemon::peak_resident_bytes;

/// Bound of a daemon's resident memory under every fault: 256 MiB.
pub const MEMORY_MAX: u64 = 256 << 20;

/// A row at work.
pub struct Run {
    /// Seeded; `TALLYD_TEST_SEED` repeats it.
    pub rng: StdRng,
    fault: u32,
    name: &'static str,
    times: u32,
    deep: bool,
    started: Instant,
    done: u32,
    acked: u64,
    lost: u64,
    doubled: u64,
    oracle_found: u64,
    figures: BTreeMap<&'static str, Value>,
    missing: Option<String>,
}

impl Run {
    /// A run of `brief` rounds. With `TALLYD_FAULTS` it has `deep` rounds, or that percentage of them.
    pub fn of(fault: u32, name: &'static str, brief: u32, deep: u32) -> Self {
        let asked = std::env::var("TALLYD_FAULTS").unwrap_or_default();
        let times = match asked.as_str() {
            "" => brief,
            "deep" => deep,
            percent => {
                let percent: u32 = percent.parse().expect("TALLYD_FAULTS is `deep`, or per cent of it");
                (deep * percent / 100).max(brief)
            }
        };
        let given = std::env::var("TALLYD_TEST_SEED").ok();
        let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("TALLYD_TEST_SEED is a number"));
        println!("{name}: {times} rounds; TALLYD_TEST_SEED={seed} repeats this");
        Self {
            rng: StdRng::seed_from_u64(seed),
            fault,
            name,
            times,
            deep: !asked.is_empty(),
            started: Instant::now(),
            done: 0,
            acked: 0,
            lost: 0,
            doubled: 0,
            oracle_found: 0,
            figures: BTreeMap::new(),
            missing: None,
        }
    }

    /// Runs the row, and checks the peak memory of its daemons.
    pub fn row(mut self, row: fn(&mut Self)) {
        row(&mut self);
        let peak = peak_resident_bytes();
        self.figure("peak_rss_bytes", peak);
        assert!(peak < MEMORY_MAX, "a daemon had {peak} bytes of resident memory");
    }

    /// The rounds' numbers, from 0 on.
    pub fn rounds(&self) -> std::ops::Range<u32> {
        0..self.times
    }

    /// The rounds' numbers in series of at most `rounds`, for rounds that share a rig.
    pub fn series(&self, rounds: u32) -> impl Iterator<Item = std::ops::Range<u32>> + use<> {
        let times = self.times;
        (0..times).step_by(rounds as usize).map(move |first| first..(first + rounds).min(times))
    }

    /// True if more than a brief run was asked for.
    pub fn is_deep(&self) -> bool {
        self.deep
    }

    /// Counts a round, and shows it in a deep run.
    pub fn step(&mut self) {
        self.done += 1;
        let every = (self.times / 20).max(1);
        if self.deep && self.done.is_multiple_of(every) {
            let seconds = self.started.elapsed().as_secs();
            eprintln!("fault {:>2}  {:<48} {:>5} of {}  {seconds} s", self.fault, self.name, self.done, self.times);
        }
    }

    pub fn count(&mut self, verdict: &Verdict) {
        self.acked += verdict.acked;
        self.lost += verdict.lost;
        self.doubled += verdict.doubled;
    }

    /// Counts acknowledged records only, in a row where records of damaged segments may be missing.
    pub fn count_acked(&mut self, verdict: &Verdict) {
        self.acked += verdict.acked;
    }

    /// Counts the oracle's finds in a daemon that was made to lose or double records, apart from real losses.
    pub fn noticed(&mut self, verdict: &Verdict) {
        self.acked += verdict.acked;
        self.oracle_found += verdict.lost + verdict.doubled;
        self.figures.insert("oracle_found", self.oracle_found.into());
    }

    /// A figure of this row alone, for the report.
    pub fn figure(&mut self, name: &'static str, value: impl Into<Value>) {
        self.figures.insert(name, value.into());
    }

    /// Reports that the row cannot run here. A deep run fails then.
    pub fn not_run(&mut self, why: &str) {
        assert!(!self.deep, "fault {} cannot run: {why}", self.fault);
        println!("NOT RUN: {}: {why}", self.name);
        self.missing = Some(why.to_owned());
    }

    fn entry(&self) -> Value {
        let mut entry = json!({
            "fault": self.fault,
            "name": self.name,
            "runs": self.done,
            "acked": self.acked,
            "lost": self.lost,
            "doubled": self.doubled,
            "seconds": (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            "passed": !std::thread::panicking() && self.missing.is_none(),
        });
        for (name, value) in &self.figures {
            entry[*name] = value.clone();
        }
        if let Some(why) = &self.missing {
            entry["not_run"] = why.as_str().into();
        }
        entry
    }
}

/// The row is in the report however it ends.
impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = report(self.entry()) {
            eprintln!("the report cannot be written: {error}");
        }
    }
}

/// Writes an entry into the report in place of an earlier one of its name. Rows may run in parallel processes.
fn report(entry: Value) -> std::io::Result<()> {
    let folder = target().join("faults");
    std::fs::create_dir_all(&folder)?;
    let writing = std::fs::File::create(folder.join("report.lock"))?;
    writing.lock()?;
    let path = folder.join("report.json");
    let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let known = known.and_then(|report| report["faults"].as_array().cloned()).unwrap_or_default();
    let mut faults: Vec<_> = known.into_iter().filter(|known| known["name"] != entry["name"]).collect();
    faults.push(entry);
    faults.sort_by_key(|entry| (entry["fault"].as_u64(), entry["name"].to_string()));
    std::fs::write(path, serde_json::to_string_pretty(&json!({ "faults": faults }))?)
}

/// The build's folder.
pub fn target() -> PathBuf {
    // Cargo makes `tmp` in it.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in the target folder").to_owned()
}
