//! A row's equipment: a PostgreSQL, a daemon, producers, and the call of the oracle at the end.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::calls;
use crate::oracle::{self, Verdict};
use crate::producers::{Acked, Ledger, Producers};
use crate::run::Run;
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::{PATIENCE, until};

/// The producer of fresh records.
const FRESH: u64 = u64::MAX;

/// Everything that a row may break.
pub struct Rig {
    pub postgres: Postgres,
    /// Between the daemon and the database, if the rig was made with [`Rig::through_proxy`].
    pub proxy: Option<Proxy>,
    pub daemon: Daemon,
    producers: Option<Producers>,
    /// Ledgers of producers that have ended.
    ledgers: Vec<Ledger>,
    next_producer: u64,
    fresh: Ledger,
}

/// Small segments and batches, so that faults meet rotation, trimming and every step of a transaction.
fn small(daemon: Daemon) -> Daemon {
    daemon.with("TALLYD_WAL_SEGMENT_BYTES", "65536").with("TALLYD_FLUSHER_MAX_BATCH_RECORDS", "500")
}

impl Rig {
    /// PostgreSQL and a daemon that accepts records; `change` may change its settings before its first start.
    pub fn start(run: &Run, change: impl FnOnce(Daemon) -> Daemon) -> Self {
        let mut rig = Self::stopped(run, change);
        rig.daemon.up();
        rig
    }

    /// Like [`Rig::start`], with the daemon not started yet.
    pub fn stopped(_run: &Run, change: impl FnOnce(Daemon) -> Daemon) -> Self {
        let postgres = Postgres::start();
        let daemon = change(small(Daemon::on(&postgres.url())));
        Self::of(postgres, None, daemon)
    }

    /// Like [`Rig::start`], with a proxy between the two.
    pub fn through_proxy(_run: &Run, change: impl FnOnce(Daemon) -> Daemon) -> Self {
        let postgres = Postgres::start();
        let proxy = Proxy::to(&postgres.sockets());
        let daemon = change(small(Daemon::on(&crate::support::postgres::url(&proxy.sockets()))));
        let mut rig = Self::of(postgres, Some(proxy), daemon);
        rig.daemon.up();
        rig
    }

    fn of(postgres: Postgres, proxy: Option<Proxy>, daemon: Daemon) -> Self {
        let fresh = Ledger { producer: FRESH, ..Ledger::default() };
        Self { postgres, proxy, daemon, producers: None, ledgers: Vec::new(), next_producer: 0, fresh }
    }

    /// Starts this many new producers. Earlier ones end first.
    pub fn produce(&mut self, producers: u64) {
        let first = self.next_producer;
        self.produce_from(first, producers);
    }

    /// Like [`Rig::produce`], with producers that send no record to be refused.
    pub fn produce_flawless(&mut self, producers: u64) {
        let first = self.next_producer + calls::FLAWLESS;
        self.produce_from(first, producers);
    }

    fn produce_from(&mut self, first: u64, producers: u64) {
        self.rest();
        self.next_producer += producers;
        let numbers = first..first + producers;
        self.producers = Some(Producers::start(&self.daemon.socket(), numbers));
    }

    /// Ends the producers once all their records are acknowledged. The daemon must be running.
    pub fn rest(&mut self) {
        if let Some(producers) = self.producers.take() {
            self.ledgers.extend(producers.finish());
        }
    }

    /// Acknowledged records of the producers at work.
    pub fn acked(&self) -> u64 {
        self.producers.as_ref().map_or(0, Producers::acked)
    }

    /// Waits until `more` further records are acknowledged.
    #[track_caller]
    pub fn until_acked(&self, more: u64) {
        self.producers.as_ref().expect("producers are at work").until_acked(more);
    }

    /// The ledgers of all producers, as they are now.
    pub fn ledgers(&self) -> Vec<Ledger> {
        let at_work = self.producers.as_ref().map(Producers::ledgers).unwrap_or_default();
        self.ledgers.iter().cloned().chain(at_work).chain([self.fresh.clone()]).collect()
    }

    /// Adds the ledger of a producer that the row runs itself.
    pub fn add_ledger(&mut self, ledger: Ledger) {
        self.ledgers.push(ledger);
    }

    /// A number for a producer that the row runs itself.
    pub fn own_producer(&mut self) -> u64 {
        self.next_producer += 1;
        self.next_producer - 1
    }

    pub fn kill_and_restart(&mut self) {
        self.daemon.kill();
        self.daemon.up();
    }

    /// Waits until everything is loaded, without a time limit while loading proceeds.
    #[track_caller]
    pub fn drain(&mut self) -> Value {
        let mut least = (u64::MAX, Instant::now());
        loop {
            let status = self.daemon.until_status("the daemon answers", |_| true);
            let left = status["wal"]["unflushed_records"].as_u64().unwrap();
            if left == 0 && status["wal"]["channel_bytes"] == 0 {
                return status;
            }
            if left < least.0 {
                least = (left, Instant::now());
            }
            assert!(least.1.elapsed() < PATIENCE, "loading stands still: {status:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Judges the daemon: producers end, the WAL drains, the oracle compares, the rollups are reconciled, and a fresh
    /// record passes. Counts the verdict for the report.
    ///
    /// # Panics
    /// If anything is lost, doubled, altered or made up.
    #[track_caller]
    pub fn judge(&mut self, run: &mut Run) {
        self.rest();
        self.drain();
        self.fresh_record();
        let verdict = self.verdict();
        run.count(&verdict);
        assert!(verdict.is_clean(), "{verdict:#?}");
        self.daemon.assert_reconciled();
        // Health no longer reports a fault that has passed, not even in a lane without work.
        self.daemon.until_status("loading is well", |status| status["health"]["flusher"]["status"] == "ok");
    }

    /// Like [`Rig::judge`], where other clients have sent records that are in no ledger.
    #[track_caller]
    pub fn judge_without_foreign(&mut self, run: &mut Run) {
        self.rest();
        self.drain();
        self.fresh_record();
        let verdict = Verdict { foreign: 0, ..self.verdict() };
        run.count(&verdict);
        assert!(verdict.is_clean(), "{verdict:#?}");
        self.daemon.assert_reconciled();
    }

    /// Waits until `more` further records are in the call log, while producers send.
    #[track_caller]
    pub fn drain_under_load(&mut self, more: u64) {
        let count = "SELECT count(*) FROM api_usage_log";
        let mut before = None;
        until("records are loaded", || {
            let now: u64 = self.postgres.try_psql(count)?.parse().unwrap();
            let loaded = now - *before.get_or_insert(now);
            if loaded >= more { Ok(()) } else { Err(format!("{loaded} of {more}")) }
        });
    }

    /// The oracle's comparison alone, clean or not.
    #[track_caller]
    pub fn verdict(&mut self) -> Verdict {
        self.rest();
        self.drain();
        oracle::judge(&self.ledgers(), &self.postgres)
    }

    /// Follows a record from end to end. Its producer is new to the daemon or has long been silent.
    #[track_caller]
    pub fn fresh_record(&mut self) {
        let seq = self.fresh.sent + 1;
        let record = calls::call(FRESH, seq);
        let mut session = self.daemon.session("faults-fresh");
        self.fresh.sent = seq;
        session.send(seq, std::slice::from_ref(&record)).unwrap();
        assert_eq!(session.recv_ack().unwrap().seq, seq);
        self.fresh.acked.push(Acked { seq, print: calls::fingerprint(&record), refused: false });
        let id = uuid::Uuid::from_bytes(calls::id(FRESH, seq));
        let sql = format!("SELECT count(*) FROM api_usage_log WHERE id = '{id}'");
        until("a fresh record is in the log", || {
            let found = self.postgres.try_psql(&sql)?;
            if found == "1" { Ok(()) } else { Err(format!("it is there {found} times")) }
        });
    }
}
