//! Row 35: a neighbour on the same socket takes others' names, skips ahead in their numbers, uses reserved names, and
//! tries to get other producers forgotten.

use rand::RngExt;
use rand::seq::IndexedRandom;
use tallyd_client::{Endpoint, HelloOptions, Record, Session, SessionError};
use tallyd_protocol::limits;
use tallyd_wal::identity::import_name;

use crate::rig::Rig;
use crate::run::Run;

/// Producers that the WAL remembers: few, so that a flood of names fills the table.
const PRODUCERS_MAX: u64 = 64;
/// Honest producers at work.
const HONEST: u64 = 3;

/// Lies of each kind while honest producers send. After a kill now and then, resent records must be recognised.
pub fn hostile_producers(run: &mut Run) {
    let mut rig = Rig::start(run, |daemon| daemon.with("TALLYD_WAL_MAX_PRODUCERS", &PRODUCERS_MAX.to_string()));
    rig.produce(HONEST);
    rig.until_acked(200);
    // One honest producer more, which is silent until the end.
    rig.fresh_record();
    let (mut crowded, mut refused) = (0, 0);
    for round in run.rounds() {
        let mut held = Vec::new();
        for number in 0..2 * PRODUCERS_MAX {
            match lie(run, &rig, u64::from(round) * 1_000 + number) {
                Ok(session) => held.push(session),
                Err(SessionError::Refused { code, .. }) if code == "too_many_producers" => crowded += 1,
                Err(SessionError::Refused { code, .. }) if ["reserved_name", "sequence"].contains(&code.as_str()) => {
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        rig.until_acked(100);
        if run.rng.random() {
            rig.kill_and_restart();
            rig.until_acked(100);
        }
        run.step();
    }
    assert!(crowded > 0 && refused > 0, "{crowded} and {refused}: the test proves nothing");
    run.figure("crowded", crowded);
    run.figure("refused", refused);
    rig.judge_without_foreign(run);
    assert!(!rig.daemon.log().contains("panicked"));
}

/// One lie. Its session stays open if the daemon accepts it.
fn lie(run: &mut Run, rig: &Rig, number: u64) -> Result<Session, SessionError> {
    let records = [Record::rentcast("/hostile")];
    let connect = |options| Session::connect(&Endpoint::unix(rig.daemon.socket()), options);
    let send = |mut session: Session, first_seq| {
        session.send(first_seq, &records)?;
        session.recv_ack().map(|_| session)
    };
    let victim = format!("faults-{}", run.rng.random_range(0..HONEST));
    match run.rng.random_range(0..6) {
        // Another producer's name: its mark would skip ahead, or its next numbers would be taken.
        0 => send(connect(HelloOptions::new(victim))?, run.rng.random_range(1..=limits::SEQ_JUMP)),
        1 => {
            let leaps = [limits::SEQ_JUMP + 2, limits::SEQ_MAX + 1, 1 << 62, u64::MAX - 1];
            let leap = *leaps.choose(&mut run.rng).expect("there are some");
            send(connect(HelloOptions::new(victim))?, leap)
        }
        2 => connect(HelloOptions::new(victim)),
        // Names that are never forgotten.
        3 => connect(HelloOptions::new(format!("{}{number}", ["import:", "request:"][run.rng.random_range(0..2)]))),
        4 => {
            let secret = format!("{:064x}", run.rng.random::<u128>());
            send(connect(HelloOptions { secret: secret.clone(), ..HelloOptions::new(import_name(&secret)) })?, 1)
        }
        // An unbounded number of names.
        _ => send(connect(HelloOptions::new(format!("flood-{number}")))?, 1),
    }
}
