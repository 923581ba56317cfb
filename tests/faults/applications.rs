//! An application is killed, and with it its recorder, which has a spool.
//!
//! The application is this program, started again for one test that does nothing otherwise. Its threads record calls and
//! write a line after each `record()` that has returned true.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread::{scope, sleep};
use std::time::Duration;

use rand::RngExt;
use tallyd_client::{Endpoint, FlushOutcome, Record, Recorder};

use crate::rig::Rig;
use crate::run::Run;
use crate::support::{PATIENCE, bound_to_us, until};

/// Socket, folder, and the life's number.
const TASK: &str = "FAULTS_APPLICATION";
/// Threads of an application.
const THREADS: u64 = 3;
/// The application's name in its records.
const APP: &str = "spooling";

fn recorder(socket: &Path, folder: &Path) -> Recorder {
    let (min, max) = (Duration::from_millis(1), Duration::from_millis(20));
    let builder = Recorder::builder(Endpoint::unix(socket)).app(APP).reconnect_backoff(min, max).quiet();
    builder.spool(folder).spool_bytes(1).build()
}

/// The application's program. Each thread's calls are numbered from 1 on.
#[test]
fn application() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut task = task.split('|');
    let mut next = || task.next().expect("a task has three parts");
    let (socket, folder, life) = (next(), next(), next());
    let recorder = recorder(Path::new(socket), Path::new(folder));
    let recorder = &recorder;
    scope(|scope| {
        for thread in 0..THREADS {
            let user = format!("{life}-{thread}");
            scope.spawn(move || {
                for number in 1.. {
                    let record = Record::claude("m", number, 0).user(user.clone());
                    if recorder.record(record) {
                        writeln!(std::io::stdout(), "taken {user} {number}").unwrap();
                    }
                    if number % 16 == thread {
                        sleep(Duration::from_micros(500));
                    }
                }
            });
        }
    });
}

/// Row 40: SIGKILL of the application at random moments, some during its start, while it delivers the records that its last life
/// left. In some rounds the daemon is killed, too. Each call whose `record()` returned is there once.
pub fn killed_with_its_spool(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("spool");
    let mut taken = BTreeMap::<String, u64>::new();
    for life in run.rounds() {
        let mut command = bound_to_us(std::env::current_exe().unwrap());
        command.args(["--exact", "applications::application", "--nocapture"]).env_remove("TALLYD_DISABLED");
        command.env(TASK, format!("{}|{}|{life}", rig.daemon.socket().display(), folder.display()));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        if run.rng.random_range(0..4) > 0 {
            while !said.contains("taken") {
                said.clear();
                assert!(lines.read_line(&mut said).unwrap() > 0, "the application ended by itself");
            }
        }
        sleep(Duration::from_micros(run.rng.random_range(0..60_000)));
        if run.rng.random_range(0..5) == 0 {
            rig.kill_and_restart();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.read_to_string(&mut said).unwrap();
        // The last line may be cut short.
        for line in said.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let mut words = line.split_whitespace();
            if let (Some("taken"), Some(user), Some(number)) = (words.next(), words.next(), words.next()) {
                taken.insert(user.to_owned(), number.parse().unwrap());
            }
        }
        run.step();
    }
    assert!(taken.len() > 1, "no application has recorded anything: the test proves nothing");
    let last = recorder(&rig.daemon.socket(), &folder);
    until("all spools are delivered", || {
        let files = std::fs::read_dir(&folder).unwrap().count();
        if files == 1 { Ok(()) } else { Err(format!("{files} files")) }
    });
    run.figure("recovered", last.stats().recovered);
    assert_eq!(last.close(PATIENCE), FlushOutcome::Settled);
    rig.drain();
    compare(run, &rig, &taken);
    rig.judge_without_foreign(run);
}

/// A thread's calls in the database are those from 1 on, each once; the one after its last line may be there, too.
fn compare(run: &mut Run, rig: &Rig, taken: &BTreeMap<String, u64>) {
    let sql = format!(
        "SELECT user_id, count(*), count(DISTINCT input_tokens), max(input_tokens) FROM api_usage_log \
         WHERE app = '{APP}' GROUP BY 1"
    );
    let found = rig.postgres.psql(&sql);
    let found: BTreeMap<&str, [u64; 3]> = found
        .lines()
        .map(|line| {
            let mut cells = line.split('|');
            (cells.next().unwrap(), [0; 3].map(|_: u64| cells.next().unwrap().parse().unwrap()))
        })
        .collect();
    let (mut lost, mut doubled) = (0, 0);
    for (user, [count, distinct, max]) in &found {
        doubled += count - distinct;
        lost += max - distinct;
        assert!(
            *max <= taken.get(*user).copied().unwrap_or(0) + 1,
            "{user} has recorded {taken:?}, and {max} are there"
        );
    }
    for (user, number) in taken {
        lost += number.saturating_sub(found.get(&**user).map_or(0, |[_, _, max]| *max));
    }
    run.figure("recorded", taken.values().sum::<u64>());
    run.figure("lost", lost);
    run.figure("doubled", doubled);
    assert_eq!((lost, doubled), (0, 0), "calls of the application: lost, doubled");
}
