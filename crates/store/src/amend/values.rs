//! The values of a call that an amendment changes: those that its sums are made of.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{AMENDED, VOIDED};
use crate::reprice::row::{LogRow, Stored};
use tallyd_model::json::Text;
use tallyd_model::pricing::{Catalog, Tokens, Usd};
use tallyd_model::rollup::measures::Measures;
use tallyd_protocol::limits;

/// Cost and counts of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Values {
    /// Its cost; null if it is unpriced.
    #[schema(value_type = Option<String>, example = "0.004515")]
    pub cost_usd: Option<Usd>,
    /// `catalog`, `client`, `unpriced`, `amended` or `voided`.
    pub cost_source: String,
    /// The price that was applied; null if the cost was stated.
    pub price_id: Option<i32>,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens written to a cache for five minutes.
    pub cache_write_5m_tokens: u64,
    /// Tokens written to a cache for an hour.
    pub cache_write_1h_tokens: u64,
    /// Billable units of an API that is priced per request.
    pub requests: u64,
    /// Other priced units; null if there are none.
    #[schema(value_type = Option<Object>)]
    pub extra_units: Option<Text>,
}

/// The stated values; the others stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Corrections {
    /// The cost, either sign.
    pub cost_usd: Option<Usd>,
    /// Input tokens.
    pub input_tokens: Option<u64>,
    /// Output tokens.
    pub output_tokens: Option<u64>,
    /// Tokens read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens written to a cache for five minutes.
    pub cache_write_5m_tokens: Option<u64>,
    /// Tokens written to a cache for an hour.
    pub cache_write_1h_tokens: Option<u64>,
    /// Billable units.
    pub requests: Option<u64>,
}

impl Corrections {
    /// Checks the bounds of a record.
    pub(super) fn check(&self) -> Result<(), String> {
        let counts = [
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("cache_read_tokens", self.cache_read_tokens),
            ("cache_write_5m_tokens", self.cache_write_5m_tokens),
            ("cache_write_1h_tokens", self.cache_write_1h_tokens),
            ("requests", self.requests),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| count.is_some_and(|count| count > limits::TOKENS_MAX))
        {
            return Err(format!("{name}: at most {}", limits::TOKENS_MAX));
        }
        match self.cost_usd {
            Some(cost) if !cost.fits_a_record() => Err("cost_usd: at most 1000000000, of either sign".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Values {
    /// A stored call's; none if its cost cannot be read exactly.
    pub(super) fn of(row: &LogRow) -> Option<Self> {
        let cost_usd = match row.cost {
            None => None,
            Some(Stored::Exact(usd)) => Some(usd),
            Some(Stored::Inexact) => return None,
        };
        Some(Self {
            cost_usd,
            cost_source: row.cost_source.clone(),
            price_id: row.price_id,
            input_tokens: row.tokens.input,
            output_tokens: row.tokens.output,
            cache_read_tokens: row.tokens.cache_read,
            cache_write_5m_tokens: row.tokens.cache_write_5m,
            cache_write_1h_tokens: row.tokens.cache_write_1h,
            requests: row.requests,
            // It comes from a column of the type jsonb.
            extra_units: row.extra_units.as_deref().and_then(|text| text.parse().ok()),
        })
    }

    /// Those of a voided call.
    pub(super) fn voided() -> Self {
        Self {
            cost_usd: Some(Usd::ZERO),
            cost_source: VOIDED.to_owned(),
            price_id: None,
            input_tokens: 0,
            output_tokens: 0,
            cache_read_tokens: 0,
            cache_write_5m_tokens: 0,
            cache_write_1h_tokens: 0,
            requests: 0,
            extra_units: None,
        }
    }

    pub(super) fn is_voided(&self) -> bool {
        self.cost_source == VOIDED
    }

    /// The counts, in the order of the columns.
    pub(super) fn counts(&self) -> [i64; 6] {
        [
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_5m_tokens,
            self.cache_write_1h_tokens,
            self.requests,
        ]
        // They are those of a record, or come from a column of the type int8.
        .map(u64::cast_signed)
    }

    /// With the corrections. Without an effect, they are the values themselves. None if the catalog would have to price them
    /// and cannot.
    pub(super) fn corrected(mut self, new: &Corrections, row: &mut LogRow, catalog: &Catalog) -> Option<Self> {
        let former = self.clone();
        for (value, new) in [
            (&mut self.input_tokens, new.input_tokens),
            (&mut self.output_tokens, new.output_tokens),
            (&mut self.cache_read_tokens, new.cache_read_tokens),
            (&mut self.cache_write_5m_tokens, new.cache_write_5m_tokens),
            (&mut self.cache_write_1h_tokens, new.cache_write_1h_tokens),
            (&mut self.requests, new.requests),
        ] {
            *value = new.unwrap_or(*value);
        }
        let is_computed = former.price_id.is_some() || former.cost_usd.is_none();
        if let Some(cost) = new.cost_usd {
            if Some(cost) != self.cost_usd {
                (self.cost_usd, self.price_id) = (Some(cost), None);
            }
        } else if is_computed && self != former {
            row.tokens = Tokens {
                input: self.input_tokens,
                output: self.output_tokens,
                cache_read: self.cache_read_tokens,
                cache_write_5m: self.cache_write_5m_tokens,
                cache_write_1h: self.cache_write_1h_tokens,
            };
            row.requests = self.requests;
            row.extra_units = self.extra_units.as_ref().map(|units| units.get().to_owned());
            let (cost, price_id) = row.priced(catalog)?;
            (self.cost_usd, self.price_id) = (Some(cost), Some(price_id));
        }
        if self != former {
            AMENDED.clone_into(&mut self.cost_source);
        }
        Some(self)
    }

    /// The difference of the sums.
    pub(super) fn minus(&self, before: &Self) -> Measures {
        let mut units = self.counts();
        units.iter_mut().zip(before.counts()).for_each(|(unit, before)| *unit -= before);
        let cost = |values: &Self| values.cost_usd.unwrap_or_default().attos();
        Measures {
            units,
            cost: Usd::from_attos(cost(self) - cost(before)),
            unpriced: i64::from(self.cost_usd.is_none()) - i64::from(before.cost_usd.is_none()),
            ..Measures::default()
        }
    }

    pub(super) fn json(&self) -> String {
        // It has texts, numbers, and text that is JSON.
        tallyd_model::json::to_string(self).expect("values serialize")
    }
}
