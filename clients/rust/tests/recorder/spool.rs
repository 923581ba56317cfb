//! A spool keeps records over the end of a process, and the next one delivers them once.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tallyd_client::{FlushOutcome, Record};

use crate::support::{Daemon, PATIENCE, Script, until};
use crate::{assert_complete, builder, record_numbers, socket};

fn spools(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn the_next_recorder_delivers_what_the_last_one_left_as_the_same_producer() {
    let (dir, path) = socket();
    let folder = dir.path().join("spool");
    let of = || builder(&path).spool(&folder).quiet();
    // The daemon keeps two frames of the first recorder, and acknowledges one of them.
    let daemon = Daemon::start(&path, [Script::KeepThenClose(2), Script::Stuck]);
    let first = of().build();
    record_numbers(&first, 1..=5000);
    daemon.state.wait("some are kept", |kept| kept.frames.len() == 2);
    let kept = daemon.state.with(|kept| kept.last_seq);
    assert!(kept < 5000, "{kept}");
    let FlushOutcome::Outstanding(left) = first.close(Duration::from_millis(50)) else { panic!("all are settled") };
    assert!(left >= 5000 - kept, "{left}");
    assert_eq!(spools(&folder), 1);
    let state = daemon.kill();
    state.with(|kept| kept.scripts.clear());
    let daemon = Daemon::restart(&path, state);
    let second = of().build();
    until("all are delivered", || second.stats().recovered == 5000 - kept);
    assert_complete(&daemon.state, 5000);
    let secrets = daemon.state.with(|kept| kept.hellos.iter().map(|hello| hello.secret.clone()).collect::<Vec<_>>());
    let same = secrets.iter().filter(|secret| **secret == secrets[0]).count();
    assert!(same >= 2 && same < secrets.len(), "the second recorder is also a producer of its own");
    assert_eq!(second.close(PATIENCE), FlushOutcome::Settled);
    assert_eq!(spools(&folder), 0, "nothing is left, so no file is");
}

#[test]
fn a_spool_that_cannot_be_made_is_told_and_the_ring_takes_its_place() {
    let (dir, path) = socket();
    let (file, open) = (dir.path().join("file"), dir.path().join("open"));
    std::fs::write(&file, "").unwrap();
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    // Nobody can make a folder in /proc, not even root.
    let cases = [(&*file, "os error"), (&open, "everybody may write to it"), (Path::new("/proc/spool"), "os error")];
    for (place, why) in cases {
        let daemon = Daemon::start(&path, []);
        let recorder = builder(&path).spool(place).quiet().build();
        let error = recorder.stats().last_error.unwrap();
        assert!(error.contains("in memory alone") && error.contains(why), "{error}");
        record_numbers(&recorder, 1..=100);
        assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
        assert_complete(&daemon.state, 100);
    }
    assert_eq!(spools(&open), 0, "no file is left");
}

#[test]
fn what_cannot_be_delivered_stays_and_does_not_hold_up_the_rest() {
    let (dir, path) = socket();
    let folder = dir.path().join("spool");
    let of = || builder(&path).spool(&folder).quiet();
    // Two processes with one folder, which both end without a daemon.
    let both = [of().build(), of().build()];
    both.iter().for_each(|recorder| record_numbers(recorder, 1..=10));
    for recorder in both {
        assert_eq!(recorder.close(Duration::ZERO), FlushOutcome::Outstanding(10));
    }
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    let is_left = |path| File::open(path).unwrap().try_lock().is_ok();
    until("the recorders' threads have ended", || files.iter().all(is_left));
    let refused = &files[0];
    let secret = String::from_utf8(std::fs::read(refused).unwrap()[192..224].to_vec()).unwrap();
    std::fs::create_dir(folder.join("0.spool")).unwrap();
    std::fs::write(folder.join("1.spool"), "not a spool").unwrap();
    let daemon = Daemon::start(&path, []);
    daemon.state.with(|kept| kept.refuses = Some(secret));
    let next = of().build();
    until("the other process's records are delivered", || next.stats().recovered == 10);
    until("the refusal is told", || next.stats().last_error.is_some_and(|error| error.contains("(secret)")));
    let begun = Instant::now();
    assert_eq!(next.close(PATIENCE), FlushOutcome::Settled);
    assert!(begun.elapsed() < PATIENCE, "it does not wait for a file that is refused");
    assert_eq!(spools(&folder), 3, "the folder, the text, and the refused file");
    assert!(refused.exists());
}

#[test]
fn a_record_gets_the_recorders_values_and_its_refusal_is_told() {
    let (dir, path) = socket();
    let daemon = Daemon::start(&path, []);
    let recorder = builder(&path).app("web").tag("team", "search").spool(dir.path().join("spool")).quiet().build();
    record_numbers(&recorder, 1..=1);
    assert!(recorder.record(Record { metadata: Some("x".repeat(2 << 20).into()), ..Record::rentcast("/avm") }));
    assert!(recorder.record(Record::rentcast("/avm")));
    assert_eq!(recorder.flush(PATIENCE), FlushOutcome::Settled);
    // The second was too large for any frame, so its number was never sent.
    daemon.state.with(|kept| {
        assert_eq!(kept.records.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 3]);
        let has = |text: &str| {
            kept.records.iter().all(|(_, record)| record.windows(text.len()).any(|at| at == text.as_bytes()))
        };
        assert!(has("web") && has("team") && has("search"));
    });
    let stats = recorder.stats();
    assert_eq!((stats.recorded, stats.acked, stats.rejected, stats.in_flight), (3, 2, 1, 0));
}
