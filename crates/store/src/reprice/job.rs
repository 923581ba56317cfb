//! A job's row: the scope and progress of a repricing.

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::row::instant;
use super::{RepriceError, RepriceOptions};
use crate::queries::audit::{self, Actor, Change};
use crate::retry::in_transaction;
use tallyd_model::pricing::Usd;

/// The job's position, microseconds since 1970 UTC.
const POSITION: &str = "(extract(epoch FROM position) * 1000000)::int8";

/// A job, as its row says.
pub(super) struct Job {
    pub id: i64,
    pub position_us: i64,
    /// Calls that earlier runs have read.
    pub read: u64,
    /// True if an earlier run had begun it.
    pub resumed: bool,
}

/// The numbers that one step adds to the row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Step {
    pub read: u64,
    pub changed: u64,
    pub priced: u64,
    pub difference: Usd,
}

impl Job {
    /// Continues the unfinished job of the same scope and prices, or begins a new one. Unfinished jobs of the same
    /// scope with other prices are superseded.
    pub(super) async fn take(
        client: &Client,
        options: &RepriceOptions,
        catalog: &str,
        by: &Actor<'_>,
    ) -> Result<Self, RepriceError> {
        let same = format!(
            "from_at = {} AND to_at = {} AND provider = $1 AND model = $2 AND include_client = $3 AND state = 'running'",
            instant(options.from_us),
            instant(options.to_us)
        );
        let question: [(&(dyn ToSql + Sync), Type); 4] = [
            (&options.provider, Type::TEXT),
            (&options.model, Type::TEXT),
            (&options.include_client, Type::BOOL),
            (&catalog, Type::TEXT),
        ];
        let supersede = format!("UPDATE public.reprice_jobs SET state = 'superseded' WHERE {same} AND catalog <> $4");
        client.query_typed(&supersede, &question).await?;
        let find = format!(
            "SELECT id, {POSITION}, calls_read FROM public.reprice_jobs WHERE {same} AND catalog = $4 ORDER BY id"
        );
        if let Some(row) = client.query_typed(&find, &question).await?.first() {
            let read = row.get::<_, i64>(2).unsigned_abs();
            return Ok(Self { id: row.get(0), position_us: row.get(1), read, resumed: true });
        }
        Ok(in_transaction(client, Self::begin(client, options, catalog, by)).await?)
    }

    /// Inserts a new job and its audit entry, in the caller's transaction: nothing is rewritten before that entry
    /// exists.
    async fn begin(
        client: &Client,
        options: &RepriceOptions,
        catalog: &str,
        by: &Actor<'_>,
    ) -> Result<Self, tokio_postgres::Error> {
        let insert = format!(
            "INSERT INTO public.reprice_jobs (from_at, to_at, provider, model, include_client, catalog, position, actor) \
             VALUES ({from}, {to}, $1, $2, $3, $4, {from}, $5) RETURNING id, {POSITION}",
            from = instant(options.from_us),
            to = instant(options.to_us)
        );
        let values: [(&(dyn ToSql + Sync), Type); 5] = [
            (&options.provider, Type::TEXT),
            (&options.model, Type::TEXT),
            (&options.include_client, Type::BOOL),
            (&catalog, Type::TEXT),
            (&by.name, Type::TEXT),
        ];
        let rows = client.query_typed(&insert, &values).await?;
        // An INSERT with RETURNING returns its row.
        let row = rows.first().expect("an insert returns its row");
        let job = Self { id: row.get(0), position_us: row.get(1), read: 0, resumed: false };
        job.audit(client, "reprice.begin", by).await?;
        Ok(job)
    }

    /// Moves the position from this process' last one, in the caller's transaction. Returns false if the row has
    /// another position.
    pub(super) async fn advance(&self, client: &Client, to_us: i64) -> Result<bool, tokio_postgres::Error> {
        let sql = format!(
            "UPDATE public.reprice_jobs SET position = {}, updated_at = clock_timestamp() \
             WHERE id = $1 AND position = {} AND state = 'running' RETURNING 1",
            instant(to_us),
            instant(self.position_us)
        );
        Ok(client.query_typed(&sql, &[(&self.id, Type::INT8)]).await?.len() == 1)
    }

    /// Adds a step's numbers, in the caller's transaction; the last step also stores the job's end and author.
    pub(super) async fn note(
        &self,
        client: &Client,
        step: Step,
        done: bool,
        by: &Actor<'_>,
    ) -> Result<(), tokio_postgres::Error> {
        let sql = "UPDATE public.reprice_jobs SET calls_read = calls_read + $2, calls_changed = calls_changed + $3, \
             calls_priced = calls_priced + $4, difference_usd = difference_usd + $5, \
             state = CASE WHEN $6 THEN 'done' ELSE state END WHERE id = $1";
        // A step's counts are far below 2^63.
        let [read, changed, priced] = [step.read, step.changed, step.priced].map(u64::cast_signed);
        let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
            (&self.id, Type::INT8),
            (&read, Type::INT8),
            (&changed, Type::INT8),
            (&priced, Type::INT8),
            (&step.difference, Type::NUMERIC),
            (&done, Type::BOOL),
        ];
        client.query_typed(sql, &parameters).await?;
        if done { self.audit(client, "reprice.end", by).await } else { Ok(()) }
    }

    /// Adds an audit entry with the job's scope, and the sums of all its runs until now.
    async fn audit(&self, client: &Client, action: &str, by: &Actor<'_>) -> Result<(), tokio_postgres::Error> {
        let sql = "SELECT jsonb_build_object('from', from_at, 'to', to_at, 'provider', provider, 'model', model, \
            'include_client', include_client, 'calls_read', calls_read, 'calls_changed', calls_changed, \
            'difference_usd', difference_usd::text) FROM public.reprice_jobs WHERE id = $1";
        let rows = client.query_typed(sql, &[(&self.id, Type::INT8)]).await?;
        let object = format!("job {}", self.id);
        audit::write(client, &Change { new: rows.first().map(|row| row.get(0)), ..by.change(action, &object) }).await
    }
}
