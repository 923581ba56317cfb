//! Hostile input gets a clear error or no answer, costs bounded memory, and does not disturb other clients.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tallyd_client::Record;
use tallyd_protocol::{ClientMessage, message};

use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{hello, until};

/// Bound of the daemon's memory in a build without optimisation, with default settings.
const MEMORY_MAX: u64 = 256 << 20;

/// A daemon and a well-behaved client, whose records must always be accepted.
struct Neighbourhood {
    daemon: Daemon,
    _postgres: Postgres,
    recorded: u64,
}

impl Neighbourhood {
    fn new() -> Self {
        let postgres = Postgres::stopped();
        Self { daemon: Daemon::on(&postgres.url()).start(), _postgres: postgres, recorded: 0 }
    }

    #[track_caller]
    fn assert_undisturbed(&mut self) {
        let mut session = self.daemon.session("neighbour");
        assert_eq!(session.last_seq(), self.recorded);
        self.recorded += 1;
        session.send(self.recorded, &[Record::rentcast("/avm")]).unwrap();
        assert_eq!(session.recv_ack().unwrap().seq, self.recorded);
        let (_, most) = self.daemon.resident_bytes();
        assert!(most < MEMORY_MAX, "{} MiB", most >> 20);
        assert!(!self.daemon.log().contains("panicked"));
    }
}

fn greeted(daemon: &Daemon, producer: &str) -> UnixStream {
    let mut stream = daemon.connect();
    let mut out = Vec::new();
    ClientMessage::Hello(hello(producer)).write_frame(&mut out);
    stream.write_all(&out).unwrap();
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).unwrap();
    stream.read_exact(&mut vec![0; u32::from_be_bytes(prefix) as usize]).unwrap();
    stream
}

#[test]
fn garbage_on_any_connection_disturbs_nobody() {
    let mut street = Neighbourhood::new();
    let mut rng = StdRng::seed_from_u64(1);
    for round in 0..200 {
        let mut stream = match round % 3 {
            0 => street.daemon.connect(),
            _ => greeted(&street.daemon, &format!("garbage-{round}")),
        };
        let mut garbage = vec![0; rng.random_range(1..5_000)];
        rng.fill_bytes(&mut garbage);
        if round % 3 == 2 {
            // With the correct length in front, so that the bytes reach the decoder.
            stream.write_all(&(garbage.len() as u32).to_be_bytes()).unwrap();
        }
        // The daemon may close before it has read everything.
        let _ = stream.write_all(&garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    street.assert_undisturbed();
}

#[test]
fn a_claim_of_four_gigabytes_is_refused_before_anything_is_allocated() {
    let mut street = Neighbourhood::new();
    for number in 0..50 {
        let mut stream = greeted(&street.daemon, &format!("claims-{number}"));
        stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(String::from_utf8_lossy(&answer).contains("too_large"), "{answer:?}");
    }
    street.assert_undisturbed();
}

#[test]
fn a_frame_cut_short_by_its_clients_death_leaves_nothing_behind() {
    let mut street = Neighbourhood::new();
    let mut out = Vec::new();
    message::write_records_frame(&mut out, 1, &vec![Record::rentcast("/avm"); 100]);
    for cut in [1, 4, 5, 40, out.len() - 1] {
        let mut stream = greeted(&street.daemon, "dies");
        stream.write_all(&out[..cut]).unwrap();
    }
    assert_eq!(street.daemon.session("dies").last_seq(), 0);
    street.assert_undisturbed();
}

#[test]
fn slow_writers_and_clients_that_never_read_hold_up_nobody_else() {
    let mut street = Neighbourhood::new();
    let mut out = Vec::new();
    message::write_records_frame(&mut out, 1, &[Record::rentcast("/avm")]);
    let mut slow = greeted(&street.daemon, "slow");
    let (last, before) = out.split_last().unwrap();
    for byte in before {
        slow.write_all(&[*byte]).unwrap();
    }
    street.assert_undisturbed();
    // Sends lines and reads no answer, until the daemon stops reading.
    let mut deaf = street.daemon.connect();
    deaf.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let lines = "{\"provider\":\"rentcast\"}\n".repeat(1_000);
    let stopped = (0..2_000).any(|_| deaf.write_all(lines.as_bytes()).is_err());
    assert!(stopped, "the daemon reads on although nobody reads its answers");
    street.assert_undisturbed();
    slow.write_all(&[*last]).unwrap();
    until("the slow frame is recorded", || match street.daemon.session("asks").last_seq() {
        0 if slow.read(&mut [0; 64]).is_ok_and(|read| read > 0) => Ok(()),
        other => Err(format!("{other}")),
    });
    assert_eq!(street.daemon.session("slow").last_seq(), 1);
}

#[test]
fn a_line_without_an_end_is_refused_and_the_next_line_goes_on() {
    let mut street = Neighbourhood::new();
    let answers = street.daemon.lines(&format!(
        "{{\"provider\":\"rentcast\"}}\n{{\"provider\":\"{}\"}}\n{{\"provider\":\"rentcast\"}}\n",
        "x".repeat(5_000_000)
    ));
    let said: Vec<_> = answers.iter().map(|answer| answer["error"]["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(said, ["ok", "too_long", "ok"]);
    street.assert_undisturbed();
}

#[test]
fn two_thousand_idle_connections_cost_little() {
    let limits = getrlimit(Resource::Nofile);
    assert!(limits.maximum.is_none_or(|maximum| maximum >= 8_000), "`ulimit -Hn` is too low for this test");
    // The daemon inherits the limit. A higher one does not disturb this process's other tests.
    let raised = Rlimit { current: limits.maximum.map(|maximum| maximum.min(100_000)).or(Some(100_000)), ..limits };
    setrlimit(Resource::Nofile, raised).unwrap();
    let mut street = Neighbourhood::new();
    let mut idle: Vec<_> = (0..1_000).map(|_| street.daemon.connect()).collect();
    idle.extend((0..1_000).map(|number| greeted(&street.daemon, &format!("idle-{number}"))));
    street.assert_undisturbed();
    drop(idle);
    street.assert_undisturbed();
}
