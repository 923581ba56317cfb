//! Loads the readable records of a damaged WAL segment, each record once.
//!
//! ## Loaded records are found by id
//! A watermark cannot tell them. Parts of a damaged segment and its surroundings may have been loaded before the
//! damage. Since then keys have leapt, and the lanes' watermarks with them; and a restored database may have lost
//! records that its watermark once covered.
//!
//! But each accepted record has an id, the sender's or the daemon's, that stands both in the segment and in the call
//! log. So one transaction takes a lock that every replay takes, and finds which of a batch's ids the call log has (at
//! their exact times, which partitions and their BRIN answer). It loads the others with their rollups, and commits.
//! Repeated, killed or raced, it finds the records of an earlier run. A refused record has its place in the WAL as a
//! unique key in `dead_letters`. Refused records of which only the number was kept are left out, because nobody can
//! tell whether they were counted.
//!
//! ## Uncertain records
//! * Of a day that retention deleted (the rollups have it, the call log does not), nobody can say which rows were
//!   there. Such records are counted as *expired*, and stay in the segment.
//! * A record without an id that its client sent again after the damage has two ids. It is counted twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::load::FlushError;
use crate::load::dead_letters::DeadLetters;
use crate::load::direct::DirectLoader;
use crate::load::poison::Poison;
use crate::locks::Lock;
use tallyd_model::call::Call;
use tallyd_wal::WalError;
use tallyd_wal::chunk::{Entry, PayloadReader};
use tallyd_wal::inspect::SegmentContents;
use tallyd_wal::recent::StoredChunk;

/// Calls in one transaction.
const BATCH_CALLS: u32 = 5_000;

/// Outcome for a segment's records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Calls loaded by this run.
    pub loaded: u64,
    /// Calls that the call log already had.
    pub there: u64,
    /// Calls of days that retention deleted: left out.
    pub expired: u64,
    /// Calls that PostgreSQL refused, now dead letters.
    pub poison: u64,
    /// Refused records that this run added to the dead letters.
    pub letters: u64,
}

/// Loads one segment's calls and refused records.
pub struct Replay<'d> {
    direct: &'d DirectLoader,
    buffer_id: Uuid,
}

impl<'d> Replay<'d> {
    /// A replay into the dead letters of this WAL.
    #[must_use]
    pub fn new(direct: &'d DirectLoader, buffer_id: Uuid) -> Self {
        Self { direct, buffer_id }
    }

    /// The segment's chunks in batches, each for one [`Replay::load`].
    pub fn batches(contents: &SegmentContents) -> impl Iterator<Item = &[StoredChunk]> {
        let mut rest = contents.chunks.as_slice();
        std::iter::from_fn(move || {
            let mut calls = 0;
            let full = rest.iter().position(|chunk| {
                calls += chunk.records + chunk.refused;
                calls >= BATCH_CALLS
            });
            let (batch, after) = rest.split_at(full.map_or(rest.len(), |at| at + 1));
            rest = after;
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// Loads the calls that the call log lacks, in one transaction.
    ///
    /// # Errors
    /// [`FlushError`]; the connection must not be used afterwards. The batch can be tried again.
    pub async fn load(&self, client: &Client, chunks: &[StoredChunk]) -> Result<Replayed, FlushError> {
        let mut letters = DeadLetters::default();
        let mut calls = BTreeMap::new();
        let mut done = Replayed::default();
        for chunk in chunks {
            let payload = chunk.payload.held().ok_or(WalError::Unreadable { key: chunk.first_key })?;
            for (position, entry) in PayloadReader::new(payload).enumerate() {
                match entry? {
                    // One id at one time is one call, however often it is in the segment.
                    Entry::Call(call) => {
                        let again = calls.insert((call.occurred_at_us, call.id), (chunk, position, call));
                        done.there += u64::from(again.is_some());
                    }
                    Entry::Refused(refused) => letters.push_refused(chunk, position, &refused),
                }
            }
        }
        let mut calls: Vec<_> = calls.into_values().collect();
        let all: Vec<_> = calls.iter().map(|(_, _, call)| *call).collect();
        self.direct.prepare(client, &all).await?;

        self.direct.begin(client).await?;
        Lock::Replay.wait(client).await?;
        let there = present(client, &all, Duration::ZERO).await?;
        calls.retain(|(_, _, call)| !there.contains(&call.id));
        done.there += (all.len() - calls.len()) as u64;
        let before = calls.len();
        let expired = self.expired_days(client, calls.iter().map(|(_, _, call)| call)).await?;
        let mut days = self.direct.days();
        calls.retain(|(_, _, call)| !expired.contains(&days.of(call.occurred_at_us)));
        done.expired = (before - calls.len()) as u64;

        let missing: Vec<_> = calls.iter().map(|(_, _, call)| *call).collect();
        let poison = self.direct.load(client, &missing).await?;
        done.loaded = (missing.len() - poison.len()) as u64;
        done.letters = letters.insert_missing(client, self.buffer_id).await?;
        done.poison = self.bury(client, &calls, &poison).await?;
        self.direct.commit(client).await?;
        Ok(done)
    }

    /// Writes rows that PostgreSQL refuses into the dead letters. Returns how many were new.
    async fn bury(
        &self,
        client: &Client,
        calls: &[(&StoredChunk, usize, Call<'_>)],
        poison: &[Poison],
    ) -> Result<u64, tokio_postgres::Error> {
        let mut letters = DeadLetters::default();
        for Poison { place, code, said } in poison {
            let (chunk, position, call) = &calls[*place];
            letters.push_poison(chunk, *position, call, code, said);
        }
        letters.insert_missing(client, self.buffer_id).await
    }

    /// Days that the rollups have and the call log does not.
    async fn expired_days<'c>(
        &self,
        client: &Client,
        calls: impl Iterator<Item = &'c Call<'c>>,
    ) -> Result<HashSet<NaiveDate>, tokio_postgres::Error> {
        let mut days = self.direct.days();
        let days: BTreeSet<_> = calls.map(|call| days.of(call.occurred_at_us)).collect();
        let days: Vec<_> = days.into_iter().collect();
        let zone = self.direct.zone().name();
        let summed = "SELECT DISTINCT day FROM daily_api_costs WHERE day = ANY ($1)";
        // One query a day: on a distributed call log, one query about all days cannot run on the nodes.
        let logged = "SELECT EXISTS (SELECT 1 FROM api_usage_log WHERE occurred_at >= $1::date::timestamp AT TIME ZONE $2 \
             AND occurred_at < ($1::date + 1)::timestamp AT TIME ZONE $2 LIMIT 1)";
        let mut expired = HashSet::new();
        for row in client.query_typed(summed, &[(&days, Type::DATE_ARRAY)]).await? {
            let day: NaiveDate = row.get(0);
            let found = client.query_typed(logged, &[(&day, Type::DATE), (&zone, Type::TEXT)]).await?;
            if !found.first().is_some_and(|row| row.get(0)) {
                expired.insert(day);
            }
        }
        Ok(expired)
    }
}

/// The ids of those calls that the call log has, at their time or up to `within` from it. Takes the replay lock, so
/// that a caller which then loads the missing ones is alone until its transaction ends.
///
/// # Errors
/// PostgreSQL's.
pub async fn present(
    client: &Client,
    calls: &[Call<'_>],
    within: Duration,
) -> Result<HashSet<[u8; 16]>, tokio_postgres::Error> {
    if calls.is_empty() {
        return Ok(HashSet::new());
    }
    Lock::Replay.wait(client).await?;
    let mut named = Named::default();
    calls.iter().for_each(|call| named.ids.add(call));
    find(client, &named, within).await
}

/// The names of calls, by which the call log is searched.
#[derive(Debug, Default)]
pub(super) struct Named {
    ids: Places,
    /// Calls that are also named by their provider and the vendor's id.
    responses: Places,
    providers: Vec<String>,
    request_ids: Vec<String>,
}

/// Ids and times of calls.
#[derive(Debug, Default)]
struct Places {
    ids: Vec<Uuid>,
    times: Vec<DateTime<Utc>>,
}

impl Places {
    fn add(&mut self, call: &Call<'_>) {
        self.ids.push(Uuid::from_bytes(call.id));
        self.times.push(DateTime::from_timestamp_micros(call.occurred_at_us).unwrap_or_default());
    }

    fn range(&self) -> Option<(&DateTime<Utc>, &DateTime<Utc>)> {
        self.times.iter().min().zip(self.times.iter().max())
    }
}

impl Named {
    /// Adds a call with all of its names.
    pub(super) fn add(&mut self, call: &Call<'_>) {
        self.ids.add(call);
        if call.stated.response {
            self.responses.add(call);
            self.providers.push(call.provider.to_owned());
            self.request_ids.push(call.request_id.to_owned());
        }
    }
}

/// The ids of those calls that the call log has under one of their names, at their time or up to `within` from it.
///
/// # Errors
/// PostgreSQL's.
pub(super) async fn find(
    client: &Client,
    named: &Named,
    within: Duration,
) -> Result<HashSet<[u8; 16]>, tokio_postgres::Error> {
    let within = within.as_secs_f64();
    let mut found = HashSet::new();
    if let Some((first, last)) = named.ids.range() {
        let sql = "SELECT l.id FROM api_usage_log AS l \
             JOIN unnest($1::uuid[], $2::timestamptz[]) AS d (id, at) \
                 ON l.id = d.id AND l.occurred_at BETWEEN d.at - $5 * interval '1 s' AND d.at + $5 * interval '1 s' \
             WHERE l.occurred_at BETWEEN $3 - $5 * interval '1 s' AND $4 + $5 * interval '1 s'";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 5] = [
            (&named.ids.ids, Type::UUID_ARRAY),
            (&named.ids.times, Type::TIMESTAMPTZ_ARRAY),
            (first, Type::TIMESTAMPTZ),
            (last, Type::TIMESTAMPTZ),
            (&within, Type::FLOAT8),
        ];
        let rows = client.query_typed(sql, &parameters).await?;
        found.extend(rows.iter().map(|row| row.get::<_, Uuid>(0).into_bytes()));
    }
    if let Some((first, last)) = named.responses.range() {
        let sql = "SELECT d.id FROM api_usage_log AS l \
             JOIN unnest($1::uuid[], $2::timestamptz[], $6::text[], $7::text[]) AS d (id, at, provider, request_id) \
                 ON l.request_id = d.request_id AND l.provider = d.provider \
                     AND l.occurred_at BETWEEN d.at - $5 * interval '1 s' AND d.at + $5 * interval '1 s' \
             WHERE l.occurred_at BETWEEN $3 - $5 * interval '1 s' AND $4 + $5 * interval '1 s'";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 7] = [
            (&named.responses.ids, Type::UUID_ARRAY),
            (&named.responses.times, Type::TIMESTAMPTZ_ARRAY),
            (first, Type::TIMESTAMPTZ),
            (last, Type::TIMESTAMPTZ),
            (&within, Type::FLOAT8),
            (&named.providers, Type::TEXT_ARRAY),
            (&named.request_ids, Type::TEXT_ARRAY),
        ];
        let rows = client.query_typed(sql, &parameters).await?;
        found.extend(rows.iter().map(|row| row.get::<_, Uuid>(0).into_bytes()));
    }
    Ok(found)
}

impl std::ops::AddAssign for Replayed {
    fn add_assign(&mut self, other: Self) {
        self.loaded += other.loaded;
        self.there += other.there;
        self.expired += other.expired;
        self.poison += other.poison;
        self.letters += other.letters;
    }
}
