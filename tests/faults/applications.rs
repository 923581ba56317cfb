//! An application is killed, and with it its recorder, which has a spool.
//!
//! The application is this program, started again for one test that does nothing otherwise. Its threads record calls and
//! write a line after each `record()` that has returned true.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::thread::{scope, sleep};
use std::time::Duration;

use rand::RngExt;
use tallyd_client::{Endpoint, FlushOutcome, Record, Recorder};

use crate::power::Tmpfs;
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

/// The application as a process.
struct Application {
    process: Child,
    lines: BufReader<ChildStdout>,
    said: String,
}

impl Application {
    fn start(socket: &Path, folder: &Path, life: u32) -> Self {
        let mut command = bound_to_us(std::env::current_exe().unwrap());
        command.args(["--exact", "applications::application", "--nocapture"]).env_remove("TALLYD_DISABLED");
        command.env(TASK, format!("{}|{}|{life}", socket.display(), folder.display()));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines, said: String::new() }
    }

    fn until_it_records(&mut self) {
        while !self.said.contains("taken") {
            self.said.clear();
            assert!(self.lines.read_line(&mut self.said).unwrap() > 0, "the application ended by itself");
        }
    }

    /// Adds each thread's last number, once the process was killed.
    fn end(mut self, taken: &mut BTreeMap<String, u64>) {
        self.process.wait().unwrap();
        self.lines.read_to_string(&mut self.said).unwrap();
        // The last line may be cut short.
        for line in self.said.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let mut words = line.split_whitespace();
            if let (Some("taken"), Some(user), Some(number)) = (words.next(), words.next(), words.next()) {
                taken.insert(user.to_owned(), number.parse().unwrap());
            }
        }
    }
}

/// Row 40: SIGKILL of the application at random moments, some during its start, while it delivers the records that its last life
/// left. In some rounds the daemon is killed, too. Each call whose `record()` returned is there once.
pub fn killed_with_its_spool(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon);
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("spool");
    let (mut taken, mut lives) = (BTreeMap::<String, u64>::new(), 0);
    for _ in run.rounds() {
        // In some rounds two processes share the folder.
        let together = if run.rng.random_range(0..4) == 0 { 2 } else { 1 };
        let mut applications: Vec<_> =
            (lives..lives + together).map(|life| Application::start(&rig.daemon.socket(), &folder, life)).collect();
        lives += together;
        if run.rng.random_range(0..4) > 0 {
            applications[0].until_it_records();
        }
        sleep(Duration::from_micros(run.rng.random_range(0..60_000)));
        if run.rng.random_range(0..5) == 0 {
            rig.kill_and_restart();
        }
        applications.iter_mut().for_each(|application| application.process.kill().unwrap());
        applications.into_iter().for_each(|application| application.end(&mut taken));
        run.step();
    }
    run.figure("processes", lives);
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

/// Row 40 on a small disk, which fills up before a recorder is made, or after. Then records are in memory alone, or the file
/// has its room already. No write ends the application by a signal.
pub fn on_a_full_disk(run: &mut Run) {
    let Some(disk) = Tmpfs::mounted(run, 8 << 20) else { return };
    let mut rig = Rig::start(run, |daemon| daemon);
    let (mut taken, mut without) = (BTreeMap::<String, u64>::new(), 0);
    for life in run.rounds() {
        let is_full = run.rng.random();
        disk.fill(if is_full { run.rng.random_range(0..4 << 20) } else { 5 << 20 });
        let recorder = recorder(&rig.daemon.socket(), &disk.data());
        let error = recorder.stats().last_error.unwrap_or_default();
        assert_eq!(error.contains("in memory alone"), is_full, "{error}");
        without += u32::from(is_full);
        disk.free();
        disk.fill(0);
        let (user, calls) = (format!("{life}-0"), run.rng.random_range(1..20_000));
        for number in 1..=calls {
            assert!(recorder.room(PATIENCE) && recorder.record(Record::claude("m", number, 0).user(user.clone())));
        }
        taken.insert(user, calls);
        assert_eq!(recorder.close(PATIENCE), FlushOutcome::Settled);
        disk.free();
        run.step();
    }
    run.figure("without_a_spool", without);
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
