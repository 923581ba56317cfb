//! Producers' high-water marks, which make a resend after a crash harmless.
//!
//! A producer's mark is its highest sequence number in the WAL. It becomes durable with the records themselves (it is
//! in the header of their value), and each segment begins with a snapshot of all marks, so the newest segment alone
//! restores them. Only the writer thread changes this table.
//!
//! A producer is a name *and* the digest of a secret ([`crate::identity`]): a client that uses another's name has a
//! mark of its own. Two live connections with one name and two secrets are two processes that share a name by accident,
//! or an imitation. Both are warned, the event is counted and logged, and each keeps its own numbers.
//!
//! ## Bounds
//! A producer without a durable record does not have a place in the table. It is remembered while its connection lives,
//! and the number of such producers is bounded: a handshake alone displaces nobody. The first record takes a place. A
//! full table makes room for it as follows:
//!
//! * A **request** with a key of its own (`pipeline/batch.rs`), of which there may be many, displaces the oldest
//!   requests. Requests are forgotten after a day.
//! * A **named** producer displaces named ones that were idle for longer than `grace` and do not have a connection, the
//!   longest idle first. After these it displaces requests, as far as they have more than a quarter of the table, and
//!   last imports that were idle for as long as an idle name is kept.
//! * An **import** does the same, and all imports together have at most a quarter of the table. Their names identify a
//!   file's content, so that a second import of it adds nothing; so they are not forgotten for being idle.
//!
//! If there is still no room, the new producer is refused ([`Closed::Crowded`]): nothing of it is stored or
//! acknowledged, and it tries again later. A producer that is connected, or was active within `grace`, is never
//! displaced: it may be about to resend unacknowledged records, which would count twice.
//!
//! The wall clock may jump by years, so a producer counts as idle only if it was not active within [`GRACE`] by a
//! monotonic clock.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tallyd_protocol::limits;

use crate::channel::{Closed, ConnectionOrigin};
use crate::identity::{IMPORT_PREFIX, ProducerIdentity, Proof, REQUEST_PREFIX};
use tallyd_base::registry;

/// Time for which a name is kept regardless of the wall clock.
pub const GRACE: Duration = Duration::from_secs(60 * 60);

/// Time for which a request's name is remembered: repetitions come sooner.
const REQUEST_IDLE_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Divisor of the table's size: the share that is freed at once, because finding the oldest means a walk over all.
const FORGOTTEN_PART: usize = 16;
/// Divisor of the table's size: the bound of all imports, and the share that requests keep.
const KEPT_PART: usize = 4;
/// The pause after a walk that found no room.
const WALK_PAUSE: Duration = Duration::from_secs(1);
/// Connections of one name that are checked for a second process.
const WATCHED: usize = 8;
/// Number of producers without a record from which on those of ended connections are removed.
const GREETED_MIN: usize = 1024;
/// Shortest time between two logs about one shared name; between logs about any names it is [`WALK_PAUSE`].
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// One producer's state, in the form of a segment's snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    /// The producer's name.
    pub name: String,
    /// Its proof in hex; empty without one, as in snapshots of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proof: String,
    /// Its highest durable sequence number.
    pub last_seq: u64,
    /// Time of its last activity, microseconds since 1970.
    pub seen_us: i64,
}

impl ProducerState {
    fn of((identity, state): (&ProducerIdentity, &State)) -> Self {
        let proof = if identity.proof == Proof::NONE { String::new() } else { identity.proof.to_hex() };
        Self { name: identity.name.to_string(), proof, last_seq: state.last_seq, seen_us: state.seen_us }
    }

    /// The producer of this state. None for a proof that this version cannot read.
    #[must_use]
    pub fn identity(&self) -> Option<ProducerIdentity> {
        let proof = if self.proof.is_empty() { Proof::NONE } else { Proof::from_hex(&self.proof)? };
        Some(ProducerIdentity { name: self.name.as_str().into(), proof })
    }
}

/// A producer's kind, given by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Named,
    Import,
    Request,
}

const KINDS: usize = 3;

impl Kind {
    fn of(identity: &ProducerIdentity) -> Self {
        match &*identity.name {
            name if name.starts_with(IMPORT_PREFIX) => Self::Import,
            name if name.starts_with(REQUEST_PREFIX) => Self::Request,
            _ => Self::Named,
        }
    }
}

#[derive(Debug, Clone)]
struct State {
    last_seq: u64,
    seen_us: i64,
    /// Time of its last activity, or of its recovery, by a monotonic clock.
    heard: Instant,
    /// Number of its session: that of the `Hello` of its present connection.
    session: u64,
    /// The session's connection, while it lives.
    owner: Weak<ConnectionOrigin>,
}

impl State {
    fn new(last_seq: u64, seen_us: i64) -> Self {
        Self { last_seq, seen_us, heard: Instant::now(), session: 0, owner: Weak::new() }
    }

    fn is_connected(&self) -> bool {
        self.owner.strong_count() > 0
    }

    fn hear(&mut self, now_us: i64) {
        self.seen_us = now_us;
        self.heard = Instant::now();
    }

    fn advance(&mut self, last_seq: u64, now_us: i64) {
        self.last_seq = self.last_seq.max(last_seq);
        self.hear(now_us);
    }
}

/// All remembered producers.
pub struct Producers {
    states: HashMap<ProducerIdentity, State>,
    /// Producers that said `hello` and do not have a record yet.
    greeted: HashMap<ProducerIdentity, State>,
    /// Live connections by name.
    names: HashMap<Arc<str>, Vec<Weak<ConnectionOrigin>>>,
    sweep_at: usize,
    imports: usize,
    sessions: u64,
    max: usize,
    idle_us: i64,
    grace: Duration,
    /// For each kind, the time of the last walk that found no room.
    crowded: [Option<Instant>; KINDS],
    /// The shared name that was logged last, and the time.
    logged: Option<(Arc<str>, Instant)>,
}

impl Producers {
    /// An empty table of at most `max` names. It forgets a name after `idle_us` microseconds without activity, but not
    /// before `grace`, usually [`GRACE`].
    #[must_use]
    pub fn new(max: usize, idle_us: i64, grace: Duration) -> Self {
        Self {
            states: HashMap::new(),
            greeted: HashMap::new(),
            names: HashMap::new(),
            sweep_at: GREETED_MIN,
            imports: 0,
            sessions: 0,
            max,
            idle_us,
            grace,
            crowded: [None; KINDS],
            logged: None,
        }
    }

    /// The number of producers with a durable record.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// True if no producer has a durable record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Restores one state. A higher mark wins: snapshots and headers may be replayed in any order.
    pub fn restore(&mut self, identity: ProducerIdentity, last_seq: u64, seen_us: i64) {
        if identity.is_nobody() {
            return;
        }
        let is_import = Kind::of(&identity) == Kind::Import;
        let known = self.states.len();
        let state = self.states.entry(identity).or_insert_with(|| State::new(last_seq, seen_us));
        state.last_seq = state.last_seq.max(last_seq);
        state.seen_us = state.seen_us.max(seen_us);
        self.imports += usize::from(is_import && self.states.len() > known);
    }

    /// Begins a connection's session of its producer. Returns the producer's mark. `former` is the name under which an
    /// earlier version may know it.
    pub(crate) fn open_session(&mut self, origin: &Arc<ConnectionOrigin>, former: Option<&str>, now_us: i64) -> u64 {
        if self.greeted.len().max(self.names.len()) >= self.sweep_at {
            self.sweep();
        }
        if Kind::of(&origin.identity) != Kind::Request {
            self.watch_name(origin);
        }
        let former = former.map_or(0, |name| self.last_seq(&ProducerIdentity::without_secret(name)));
        // A larger number, which clients may not use, comes from a version without that bound.
        let former = if former > limits::SEQ_MAX { 0 } else { former };
        self.sessions += 1;
        origin.set_session(self.sessions);
        let state = match self.states.get_mut(&origin.identity) {
            Some(state) => state,
            None => self.greeted.entry(origin.identity.clone()).or_insert_with(|| State::new(former, now_us)),
        };
        state.session = self.sessions;
        state.owner = Arc::downgrade(origin);
        state.hear(now_us);
        state.last_seq
    }

    /// Updates a producer by its chunk.
    ///
    /// # Errors
    /// [`Closed::Fenced`] if another connection has taken over, [`Closed::Crowded`] if the producer is new and the
    /// table is full. In both cases the chunk must not be stored.
    pub fn advance(&mut self, origin: &ConnectionOrigin, last_seq: u64, now_us: i64) -> Result<(), Closed> {
        let identity = &origin.identity;
        if let Some(state) = self.states.get_mut(identity) {
            if state.session != origin.session() {
                return Err(Closed::Fenced);
            }
            state.advance(last_seq, now_us);
            return Ok(());
        }
        let speaks = |state: &State| state.session == origin.session();
        if !self.greeted.get(identity).is_some_and(speaks) {
            return Err(Closed::Fenced);
        }
        let kind = Kind::of(identity);
        if !self.make_room(kind, now_us) {
            return Err(Closed::Crowded);
        }
        let Some((identity, mut state)) = self.greeted.remove_entry(identity) else { return Err(Closed::Fenced) };
        state.advance(last_seq, now_us);
        self.states.insert(identity, state);
        self.imports += usize::from(kind == Kind::Import);
        Ok(())
    }

    /// A producer's mark, 0 if it is not remembered.
    #[must_use]
    pub fn last_seq(&self, identity: &ProducerIdentity) -> u64 {
        self.states.get(identity).map_or(0, |state| state.last_seq)
    }

    /// All states, for a segment's beginning; forgets producers that were idle for too long.
    pub fn snapshot(&mut self, now_us: i64) -> Vec<ProducerState> {
        let oldest_us = now_us.saturating_sub(self.idle_us);
        let oldest_request_us = oldest_us.max(now_us.saturating_sub(REQUEST_IDLE_US));
        let grace = self.grace;
        self.states.retain(|identity, state| {
            let oldest_us = match Kind::of(identity) {
                Kind::Import => i64::MIN,
                Kind::Named => oldest_us,
                Kind::Request => oldest_request_us,
            };
            state.seen_us >= oldest_us || state.heard.elapsed() < grace || state.is_connected()
        });
        self.sweep();
        let mut all: Vec<_> = self.states.iter().map(ProducerState::of).collect();
        all.sort_by(|a, b| (&a.name, &a.proof).cmp(&(&b.name, &b.proof)));
        all
    }

    /// Makes room for another producer; returns false if that is not possible.
    fn make_room(&mut self, kind: Kind, now_us: i64) -> bool {
        let kept = self.max / KEPT_PART;
        let is_share_used = kind == Kind::Import && self.imports >= kept.max(1);
        if self.states.len() < self.max && !is_share_used {
            return true;
        }
        if self.crowded[kind as usize].is_some_and(|at| at.elapsed() < WALK_PAUSE) {
            return false;
        }
        let oldest_us = now_us.saturating_sub(self.idle_us);
        let grace = self.grace;
        let is_gone = move |state: &State| state.heard.elapsed() >= grace && !state.is_connected();
        let old_imports =
            move |of: Kind, state: &State| of == Kind::Import && is_gone(state) && state.seen_us < oldest_us;
        let has_room = match kind {
            Kind::Request => self.forget(|of, _| of == Kind::Request),
            _ if is_share_used => self.forget(old_imports),
            _ => {
                let requests = self.states.keys().filter(|identity| Kind::of(identity) == Kind::Request).count();
                self.forget(|of, state| of == Kind::Named && is_gone(state))
                    || (requests > kept && self.forget(|of, _| of == Kind::Request))
                    || self.forget(old_imports)
            }
        };
        self.crowded[kind as usize] = (!has_room).then(Instant::now);
        if !has_room {
            tracing::warn!(
                ?kind,
                max = self.max,
                imports = self.imports,
                "too many producers: a new one is refused, and none that may send again is forgotten for it; see \
                 wal.max_producers"
            );
        }
        has_room
    }

    /// Forgets the longest idle of these. Returns false if there are none.
    fn forget(&mut self, which: impl Fn(Kind, &State) -> bool) -> bool {
        let these = self.states.iter().filter(|(identity, state)| which(Kind::of(identity), state));
        let mut seen: Vec<i64> = these.map(|(_, state)| state.seen_us).collect();
        if seen.is_empty() {
            return false;
        }
        let last = (seen.len() / FORGOTTEN_PART).min(seen.len() - 1);
        let (_, until_us, _) = seen.select_nth_unstable(last);
        let until_us = *until_us;
        self.states.retain(|identity, state| state.seen_us > until_us || !which(Kind::of(identity), state));
        self.imports = self.states.keys().filter(|identity| Kind::of(identity) == Kind::Import).count();
        true
    }

    /// Warns the connections of this name that other processes use it.
    fn watch_name(&mut self, origin: &Arc<ConnectionOrigin>) {
        let name = &origin.identity.name;
        let others = self.names.entry(Arc::clone(name)).or_default();
        others.retain(|other| other.strong_count() > 0);
        let is_another = |other: &Arc<ConnectionOrigin>| other.identity != origin.identity && other.closed().is_none();
        let another: Vec<_> = others.iter().filter_map(Weak::upgrade).filter(is_another).collect();
        if others.len() < WATCHED {
            others.push(Arc::downgrade(origin));
        }
        if another.is_empty() {
            return;
        }
        another.iter().chain([origin]).for_each(|one| one.warn_of_shared_name());
        metrics::counter!(registry::PRODUCER_NAMES_SHARED).increment(1);
        let is_logged = self
            .logged
            .as_ref()
            .is_some_and(|(last, at)| at.elapsed() < if last == name { LOG_PAUSE } else { WALK_PAUSE });
        if !is_logged {
            self.logged = Some((Arc::clone(name), Instant::now()));
            tracing::warn!(
                producer = ?name,
                "two processes use one producer name at once; each keeps numbers of its own: give them two names"
            );
        }
    }

    /// Forgets producers and names of connections that have ended.
    fn sweep(&mut self) {
        self.greeted.retain(|_, state| state.is_connected());
        self.names.retain(|_, of| {
            of.retain(|one| one.strong_count() > 0);
            !of.is_empty()
        });
        self.sweep_at = GREETED_MIN.max(2 * self.greeted.len().max(self.names.len()));
    }
}

#[cfg(test)]
mod tests;
