//! Costs as rows of FOCUS 1.2, the FinOps Open Cost and Usage Specification. `docs/reference/focus.md` states the mapping.
//!
//! ## Granularity
//! A row is a charge of one day of the reporting zone, one provider, one model, and one value of a dimension if the rows
//! are grouped by one: the rows of one rollup, so a call is in one row, and the sum of `BilledCost` is the call log's.
//! Of users the rollup does not have models, so rows by user have none.
//!
//! ## Vendor-days
//! `x_VendorDay` says where the comparison with the vendor's bill stands. A day of another zone than UTC reaches into two
//! vendor-days: it is as closed as the less closed of the two.
//!
//! ## Unpriced calls
//! FOCUS does not allow a missing `BilledCost`. So unpriced calls are a row of their own with a cost of 0, the
//! `PricingCategory` *Other*, their number in `x_UnpricedCalls`, and a description that says that the cost is unknown.
//! The rollups do not keep tokens of priced and of unpriced calls apart: those of both are in the row of priced calls,
//! if there is one.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use tallyd_model::json::{Text, to_string};
use tallyd_model::pricing::Usd;
use tallyd_model::zone::Tz;
use tallyd_parquet::{Cell, Column};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::QueryError;
use super::grouped::{Bucket, CostQuery, Dimension, GroupRow, SortBy};
use crate::file_cells::{Stored, column};
use crate::whole::Whole;
use crate::{day_begins, day_bounds};

macro_rules! focus_row {
    ($($field:ident = $name:literal: $type:ty,)*) => {
        /// A charge.
        #[derive(Debug, Clone, Serialize)]
        #[expect(missing_docs, reason = "docs/reference/focus.md documents each column")]
        pub struct FocusRow {
            $(#[serde(rename = $name)] pub $field: $type,)*
        }

        /// The columns, in their order.
        pub const COLUMNS: &[&str] = &[$($name),*];

        /// The columns of a file.
        pub const FILE_COLUMNS: &[Column] = &[$(column::<$type>($name)),*];

        impl FocusRow {
            /// The cells of a file's row.
            #[must_use]
            pub fn cells(&self) -> [Cell<'_>; FILE_COLUMNS.len()] {
                [$(self.$field.cell()),*]
            }
        }
    };
}

focus_row! {
    billed_cost = "BilledCost": Usd,
    billing_account_id = "BillingAccountId": String,
    billing_account_name = "BillingAccountName": Option<String>,
    billing_currency = "BillingCurrency": &'static str,
    billing_period_end = "BillingPeriodEnd": DateTime<Utc>,
    billing_period_start = "BillingPeriodStart": DateTime<Utc>,
    charge_category = "ChargeCategory": &'static str,
    charge_class = "ChargeClass": Option<String>,
    charge_description = "ChargeDescription": String,
    charge_frequency = "ChargeFrequency": &'static str,
    charge_period_end = "ChargePeriodEnd": DateTime<Utc>,
    charge_period_start = "ChargePeriodStart": DateTime<Utc>,
    consumed_quantity = "ConsumedQuantity": Whole,
    consumed_unit = "ConsumedUnit": &'static str,
    contracted_cost = "ContractedCost": Usd,
    effective_cost = "EffectiveCost": Usd,
    invoice_issuer_name = "InvoiceIssuerName": String,
    list_cost = "ListCost": Usd,
    pricing_category = "PricingCategory": &'static str,
    pricing_quantity = "PricingQuantity": Whole,
    pricing_unit = "PricingUnit": &'static str,
    provider_name = "ProviderName": String,
    publisher_name = "PublisherName": String,
    resource_id = "ResourceId": Option<String>,
    resource_type = "ResourceType": Option<&'static str>,
    service_category = "ServiceCategory": &'static str,
    service_name = "ServiceName": String,
    service_subcategory = "ServiceSubcategory": &'static str,
    tags = "Tags": Option<Text>,
    x_cache_read_tokens = "x_CacheReadTokens": Whole,
    x_cache_write_five_minutes_tokens = "x_CacheWriteFiveMinutesTokens": Whole,
    x_cache_write_one_hour_tokens = "x_CacheWriteOneHourTokens": Whole,
    x_errors = "x_Errors": Whole,
    x_input_tokens = "x_InputTokens": Whole,
    x_output_tokens = "x_OutputTokens": Whole,
    x_unpriced_calls = "x_UnpricedCalls": Whole,
    x_vendor_day = "x_VendorDay": Option<&'static str>,
}

/// A request for an export.
#[derive(Debug, Clone)]
pub struct Focus {
    /// The first day.
    pub from: NaiveDate,
    /// The last day, included.
    pub to: NaiveDate,
    /// The reporting time zone.
    pub zone: Tz,
    /// The dimension whose values are tags: a user, an application or a tag.
    pub by: Option<Dimension>,
    /// The `BillingAccountId`; none for the database's id.
    pub account: Option<String>,
}

/// The reason for a missing export.
#[derive(Debug, thiserror::Error)]
pub enum FocusError {
    /// PostgreSQL failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// No rollup has the whole answer.
    #[error("{0}")]
    NotInRollups(String),
}

impl Focus {
    fn group_by(&self) -> Vec<Dimension> {
        match &self.by {
            None => vec![Dimension::Provider, Dimension::Model],
            Some(Dimension::User) => vec![Dimension::Provider, Dimension::User],
            Some(by) => vec![Dimension::Provider, Dimension::Model, by.clone()],
        }
    }

    async fn query(&self, client: &Client) -> Result<CostQuery, FocusError> {
        let mut query = CostQuery {
            from: self.from,
            to: self.to,
            zone: self.zone.name().to_owned(),
            bucket: Bucket::Day,
            group_by: self.group_by(),
            filters: Vec::new(),
            dimensions: Vec::new(),
            sort: SortBy::Bucket,
            descending: false,
            limit: i64::MAX,
            offset: 0,
        };
        query.learn(client).await?;
        let by = self.by.as_ref().map(Dimension::name).unwrap_or_default();
        if query.why_of_the_log().is_some() {
            let tag = by.strip_prefix("tag:").unwrap_or(&by);
            return Err(FocusError::NotInRollups(format!(
                "{by} has no rollup, and a FOCUS export is made from rollups. hint: `tallyd dimensions add {tag}` makes one"
            )));
        }
        if let Some(first) = query.whole_from(client).await? {
            return Err(FocusError::NotInRollups(format!(
                "the sums of {by} are whole from {first} on. hint: export from that day on, or without --by"
            )));
        }
        Ok(query)
    }

    /// Calls `each` with every row, by day.
    ///
    /// # Errors
    /// [`FocusError`], and those of `each`, which ends the export.
    pub async fn each<E: From<FocusError> + From<QueryError>>(
        &self,
        client: &Client,
        mut each: impl FnMut(&FocusRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = self.query(client).await?;
        let account = match &self.account {
            Some(account) => account.clone(),
            None => database_id(client).await?,
        };
        let known = Known {
            with_models: providers_with_tokens(client).await?,
            vendor_days: vendor_days(client, (self.from, self.to)).await?,
        };
        query.each(client, |group| rows_of(&group, &account, self.zone, &known).iter().try_for_each(&mut each)).await
    }
}

/// Facts beside the rollups.
#[derive(Default)]
struct Known {
    /// Providers of models.
    with_models: HashSet<String>,
    /// The state of each vendor-day that was ever closed, by provider and UTC day.
    vendor_days: HashMap<(String, NaiveDate), String>,
}

impl Known {
    /// Where the vendor-days of an instant's range stand; none if no day of the provider was ever closed.
    fn vendor_day(&self, provider: &str, (starts, ends): (DateTime<Utc>, DateTime<Utc>)) -> Option<&'static str> {
        let days = starts.date_naive().iter_days().take_while(|day| day.and_time(NaiveTime::MIN).and_utc() < ends);
        let states: Vec<_> =
            days.map(|day| self.vendor_days.get(&(provider.to_owned(), day)).map(String::as_str)).collect();
        match states.as_slice() {
            states if states.iter().all(Option::is_none) => None,
            states if states.iter().all(|state| *state == Some("matched")) => Some("matched"),
            states if states.iter().all(|state| state.is_some_and(|state| state != "open")) => Some("differs"),
            _ => Some("open"),
        }
    }
}

/// The vendor-days that a range of days in any zone reaches into.
async fn vendor_days(
    client: &Client,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<HashMap<(String, NaiveDate), String>, QueryError> {
    let sql = "SELECT provider, day, state FROM public.tallyd_view_vendor_days WHERE day BETWEEN $1::date - 1 AND $2::date + 1";
    let rows = client.query_typed(sql, &[(&from, Type::DATE), (&to, Type::DATE)]).await?;
    Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect())
}

async fn database_id(client: &Client) -> Result<String, QueryError> {
    let sql = "SELECT value FROM public.tallyd_settings WHERE key = 'database_id'";
    let rows = client.query_typed(sql, &[]).await?;
    Ok(rows.first().map_or_else(|| "tallyd".to_owned(), |row| row.get(0)))
}

/// Providers of models: a call of theirs has had tokens. Of the whole history, so that a provider's category stays.
async fn providers_with_tokens(client: &Client) -> Result<HashSet<String>, QueryError> {
    let sql = "SELECT DISTINCT provider FROM public.daily_api_costs WHERE input_tokens > 0 OR output_tokens > 0";
    Ok(client.query_typed(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// The rows of a group: of its priced calls, and of its unpriced calls.
fn rows_of(group: &GroupRow, account: &str, zone: Tz, known: &Known) -> Vec<FocusRow> {
    // A bucket is a day of PostgreSQL's.
    let day: NaiveDate = group.bucket.as_deref().and_then(|day| day.parse().ok()).unwrap_or_default();
    let (starts, ends) = day_bounds(day, zone);
    let month = day.with_day(1).unwrap_or(day);
    let sums = &group.sums;
    let unpriced = sums.unpriced_calls;
    let priced = Whole(sums.calls.0 - unpriced.0);
    let provider = group.provider.clone().unwrap_or_default();
    let model = group.model.clone().filter(|model| !model.is_empty());
    let (category, subcategory) = match known.with_models.contains(&provider) {
        true => ("AI and Machine Learning", "Generative AI"),
        false => ("Other", "Other (Other)"),
    };
    let what = model.as_ref().map_or_else(|| provider.clone(), |model| format!("{provider} {model}"));
    let row = |calls: Whole, is_priced: bool, has_tokens: bool| {
        let cost = if is_priced { sums.cost_usd } else { Usd::ZERO };
        let counted = |count: Whole| if has_tokens { count } else { Whole::default() };
        FocusRow {
            billed_cost: cost,
            billing_account_id: account.to_owned(),
            billing_account_name: None,
            billing_currency: "USD",
            billing_period_end: day_begins(month.checked_add_months(Months::new(1)).unwrap_or(month), zone),
            billing_period_start: day_begins(month, zone),
            charge_category: "Usage",
            charge_class: None,
            charge_description: match is_priced {
                true => format!("Calls of {what}"),
                false => format!("Unpriced calls of {what}: their cost is unknown, not 0"),
            },
            charge_frequency: "Usage-Based",
            charge_period_end: ends,
            charge_period_start: starts,
            consumed_quantity: calls,
            consumed_unit: "Requests",
            contracted_cost: cost,
            effective_cost: cost,
            invoice_issuer_name: provider.clone(),
            list_cost: cost,
            pricing_category: if is_priced { "Standard" } else { "Other" },
            pricing_quantity: calls,
            pricing_unit: "Requests",
            provider_name: provider.clone(),
            publisher_name: provider.clone(),
            resource_type: model.is_some().then_some("Model"),
            resource_id: model.clone(),
            service_category: category,
            service_name: provider.clone(),
            service_subcategory: subcategory,
            tags: tags_of(group),
            x_cache_read_tokens: counted(sums.cache_read_tokens),
            x_cache_write_five_minutes_tokens: counted(sums.cache_write_5m_tokens),
            x_cache_write_one_hour_tokens: counted(sums.cache_write_1h_tokens),
            x_errors: counted(sums.errors),
            x_input_tokens: counted(sums.input_tokens),
            x_output_tokens: counted(sums.output_tokens),
            x_unpriced_calls: if is_priced { Whole::default() } else { calls },
            x_vendor_day: known.vendor_day(&provider, (starts, ends)),
        }
    };
    let mut rows = Vec::new();
    if priced.0 > 0 || sums.cost_usd != Usd::ZERO {
        rows.push(row(priced, true, true));
    }
    if unpriced.0 > 0 {
        rows.push(row(unpriced, false, rows.is_empty()));
    }
    rows
}

/// The group's value as a tag; none without one.
fn tags_of(group: &GroupRow) -> Option<Text> {
    let user = group.user.as_ref().map(|user| ("user_id", user));
    let app = group.app.as_ref().map(|app| ("app", app));
    let tag = group.tags.iter().next().map(|(name, value)| (name.strip_prefix("tag:").unwrap_or(name), value));
    let (name, value) = user.or(app).or(tag).filter(|(_, value)| !value.is_empty())?;
    let (name, value) = (to_string(&name).ok()?, to_string(value).ok()?);
    Text::new(format!("{{{name}:{value}}}")).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::queries::sums::Sums;

    fn group(priced: i64, unpriced: i64, cost: &str) -> GroupRow {
        let sums = Sums {
            calls: (priced + unpriced).into(),
            input_tokens: 7.into(),
            cost_usd: Usd::parse(cost).unwrap(),
            unpriced_calls: unpriced.into(),
            ..Sums::default()
        };
        GroupRow {
            bucket: Some("2026-03-29".into()),
            provider: Some("claude".into()),
            model: Some("m".into()),
            endpoint: None,
            user: None,
            app: None,
            tags: BTreeMap::from([("tag:team".into(), "a\"b".into())]),
            sums,
        }
    }

    #[test]
    fn unpriced_calls_are_a_row_of_their_own_and_tokens_count_once() {
        let zone = "Europe/Berlin".parse::<tallyd_model::zone::Tz>().unwrap();
        for (priced, unpriced, expected) in [(2, 0, vec![2]), (0, 3, vec![3]), (2, 3, vec![2, 3]), (0, 0, vec![])] {
            let cost = if priced > 0 { "1.5" } else { "0" };
            let rows = rows_of(&group(priced, unpriced, cost), "a", zone, &Known::default());
            let calls: Vec<_> = rows.iter().map(|row| row.consumed_quantity.0).collect();
            assert_eq!(calls, expected);
            assert!(rows.iter().all(|row| (row.x_unpriced_calls.0 > 0) == (row.pricing_category == "Other")));
            assert_eq!(rows.iter().map(|row| row.x_input_tokens.0).sum::<i128>(), if rows.is_empty() { 0 } else { 7 });
        }
        let row = &rows_of(&group(1, 0, "1"), "a", zone, &Known::default())[0];
        // A day of 23 hours, in a month of two offsets.
        assert_eq!((row.charge_period_end - row.charge_period_start).num_hours(), 23);
        assert_eq!(row.billing_period_start.to_rfc3339(), "2026-02-28T23:00:00+00:00");
        assert_eq!(row.billing_period_end.to_rfc3339(), "2026-03-31T22:00:00+00:00");
        assert_eq!(row.tags.as_ref().unwrap().get(), r#"{"team":"a\"b"}"#);
    }

    #[test]
    fn a_day_is_as_closed_as_the_less_closed_of_its_vendor_days() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let known = |states: [Option<&str>; 2]| {
            let days = [day("2026-03-28"), day("2026-03-29")].into_iter().zip(states);
            let of = |(day, state): (NaiveDate, Option<&str>)| Some((("claude".to_owned(), day), state?.to_owned()));
            Known { vendor_days: days.filter_map(of).collect(), ..Known::default() }
        };
        for (states, utc, berlin) in [
            ([None, None], None, None),
            ([Some("matched"), Some("matched")], Some("matched"), Some("matched")),
            ([Some("differs"), Some("matched")], Some("matched"), Some("differs")),
            ([Some("open"), Some("differs")], Some("differs"), Some("open")),
            ([None, Some("matched")], Some("matched"), Some("open")),
        ] {
            for (zone, expected) in [(Tz::UTC, utc), ("Europe/Berlin".parse().unwrap(), berlin)] {
                let row = &rows_of(&group(1, 0, "1"), "a", zone, &known(states))[0];
                assert_eq!(row.x_vendor_day, expected, "{states:?} {zone}");
            }
        }
    }
}
