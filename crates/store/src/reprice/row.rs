//! The columns of one call that its cost depends on, and the decision for it.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use tokio_postgres::Row;
use uuid::Uuid;

use super::RepriceOptions;
use tallyd_model::call::NOT_UNDERSTOOD;
use tallyd_model::json;
use tallyd_model::pricing::{
    Catalog, Priced, Quantity, Tokens, Usage, Usd, normalise_platform, normalise_provider, normalise_tier,
};
use tallyd_model::rollup::dimensions::{Dimension, Dimensions};

/// A call.
pub(crate) struct LogRow {
    /// The row's place. The time gives the partition and the id the shard, so place, time and id identify a row.
    pub place: String,
    pub id: Uuid,
    pub occurred_at_us: i64,
    pub provider: String,
    pub model: String,
    pub endpoint: String,
    pub app: String,
    /// Its values of the dimensions.
    pub values: Vec<String>,
    pub user_id: String,
    pub service_tier: String,
    pub platform: String,
    pub tokens: Tokens,
    pub requests: u64,
    pub extra_units: Option<String>,
    /// None: unpriced.
    pub cost: Option<Stored>,
    pub cost_source: String,
    pub price_id: Option<i32>,
    pub rollup_other: i16,
    /// Its usage was not fully understood: no catalog prices it.
    pub not_understood: bool,
}

/// The condition for calls whose cost nobody has stated, neither their caller nor an admin.
pub(crate) const COMPUTED: &str = " AND l.cost_source NOT IN ('client', 'amended', 'voided')";

/// A stored cost.
#[derive(Clone, Copy)]
pub(crate) enum Stored {
    Exact(Usd),
    /// A cost of more than 18 decimals, which another program wrote: its difference could not be stored exactly.
    Inexact,
}

/// The decision for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The cost stays.
    Keep,
    /// Today's catalog cannot price the call; its stored cost stays.
    Unpriceable,
    /// The stored cost cannot be read exactly.
    Inexact,
    /// The call gets the cost `new`. `old` is its stored cost.
    Change { old: Option<Usd>, new: Usd, price_id: i32 },
}

/// The condition for the calls of `[from, to)`. Costs that an admin has stated are never among them.
pub(super) fn wanted(options: &RepriceOptions, from_us: i64, to_us: i64) -> String {
    let mut filter = format!("l.occurred_at >= {} AND l.occurred_at < {}", instant(from_us), instant(to_us));
    filter.push_str(if options.include_client { " AND l.cost_source NOT IN ('amended', 'voided')" } else { COMPUTED });
    for (column, wanted) in [("provider", &options.provider), ("model", &options.model)] {
        if !wanted.is_empty() {
            filter.push_str(&format!(" AND l.{column} = '{}'", wanted.replace('\'', "''")));
        }
    }
    filter
}

/// The query for calls, with all values inside its text, because a cursor does not take parameters.
pub(crate) fn select(filter: &str, dimensions: &Dimensions) -> String {
    let value = |dimension: &Dimension| format!("coalesce(l.tags ->> '{}', '')", dimension.name.replace('\'', "''"));
    let values = dimensions.iter().map(value).collect::<Vec<_>>().join(", ");
    format!(
        "SELECT l.ctid::text, (extract(epoch FROM l.occurred_at) * 1000000)::int8, \
         l.provider, l.model, l.endpoint, l.user_id, l.service_tier, l.input_tokens, l.output_tokens, \
         l.cache_read_tokens, l.cache_write_5m_tokens, l.cache_write_1h_tokens, l.requests, l.extra_units::text, \
         l.cost_usd::text, l.cost_source, l.price_id, l.rollup_other, coalesce(l.metadata ? '{NOT_UNDERSTOOD}', false), \
         l.platform, l.app, l.id, ARRAY[{values}]::text[] \
         FROM public.api_usage_log AS l WHERE {filter}"
    )
}

/// An instant as a literal.
pub(crate) fn instant(us: i64) -> String {
    let time = DateTime::from_timestamp_micros(us).unwrap_or_default();
    format!("'{}'::timestamptz", time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

impl LogRow {
    pub(crate) fn read(row: &Row) -> Self {
        // Counts are not negative in the call log: the daemon and the SQL function both refuse them.
        let count = |at: usize| row.get::<_, i64>(at).max(0).unsigned_abs();
        let cost = row.get::<_, Option<&str>>(14).map(|text| Usd::parse(text).map_or(Stored::Inexact, Stored::Exact));
        Self {
            place: row.get(0),
            occurred_at_us: row.get(1),
            provider: row.get(2),
            model: row.get(3),
            endpoint: row.get(4),
            user_id: row.get(5),
            service_tier: row.get(6),
            tokens: Tokens {
                input: count(7),
                output: count(8),
                cache_read: count(9),
                cache_write_5m: count(10),
                cache_write_1h: count(11),
            },
            requests: count(12),
            extra_units: row.get(13),
            cost,
            cost_source: row.get(15),
            price_id: row.get(16),
            rollup_other: row.get(17),
            not_understood: row.get(18),
            platform: row.get(19),
            app: row.get(20),
            id: row.get(21),
            values: row.get(22),
        }
    }

    /// The call's cost and price id by a catalog; none if the catalog cannot price it.
    pub(crate) fn priced(&self, catalog: &Catalog) -> Option<(Usd, i32)> {
        let extra_units = self.quantities()?;
        if self.not_understood {
            return None;
        }
        // Earlier versions stored the names as sent.
        let provider = normalise_provider(&self.provider);
        let usage = Usage {
            provider: &provider,
            platform: &normalise_platform(&self.platform, &provider),
            model: &self.model,
            endpoint: &self.endpoint,
            service_tier: &normalise_tier(&self.service_tier),
            occurred_at_us: self.occurred_at_us,
            tokens: self.tokens,
            requests: self.requests,
            extra_units: &extra_units,
        };
        match catalog.price(&usage) {
            Priced::Catalog { cost, price_id } => Some((cost, price_id)),
            Priced::Unpriced(_) => None,
        }
    }

    pub(super) fn decide(&self, catalog: &Catalog) -> Decision {
        let Some((new, price_id)) = self.priced(catalog) else { return Decision::Unpriceable };
        let old = match self.cost {
            None => None,
            Some(Stored::Exact(usd)) => Some(usd),
            Some(Stored::Inexact) => return Decision::Inexact,
        };
        if self.cost_source == "catalog" && old == Some(new) && self.price_id == Some(price_id) {
            return Decision::Keep;
        }
        Decision::Change { old, new, price_id }
    }

    /// The extra units: the daemon stores quantities as text, SQL callers may store numbers. None if one is neither.
    fn quantities(&self) -> Option<Vec<(Cow<'_, str>, Quantity)>> {
        let Some(text) = &self.extra_units else { return Some(Vec::new()) };
        let units: json::value::Map = json::from_str(text).ok()?;
        let quantity = |value: &json::Value| match value {
            json::Value::String(text) => Quantity::parse(text).ok(),
            json::Value::Number(digits) => Quantity::parse(digits).ok(),
            _ => None,
        };
        units.into_iter().map(|(unit, value)| Some((Cow::Owned(unit), quantity(&value)?))).collect()
    }
}
