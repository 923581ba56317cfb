//! One look at a vendor: days that have changed open again, then the reports are fetched and days are closed.
//!
//! 1. A closed day whose sums have changed, and whose calls have, opens with the cause. This needs no answer of the vendor.
//! 2. Costs and usage of the whole range are fetched. If one fails, nothing is closed.
//! 3. A closed day whose bill has changed opens. Each day that is not closed is compared and closed, if both reports have it.
//!
//! A day can be closed from `vendors.after_hours` after its end on. Days before the first recorded call, and days of which
//! calls were dropped from the call log, are left as they are. A look that is repeated adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use tokio_postgres::Client;

use super::api::Vendor;
use super::fetch::{FetchError, PAUSE, fetch};
use tallyd_config::{Config, Vendors};
use tallyd_model::bill::compare::RecordedDay;
use tallyd_model::bill::{Bill, close};
use tallyd_model::closing::{Closed, Closing, ClosingCause, ClosingState};
use tallyd_model::pricing::{Catalog, CatalogError, Usd};
use tallyd_store::amend::is_amended_since;
use tallyd_store::bill::recorded_at_vendor;
use tallyd_store::closings::{self, ClosingsError};
use tallyd_store::prices::read_added;

/// Hours from the end of a day after which it is overdue.
const OVERDUE_HOURS: i64 = 48;

/// Why a look has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// The key cannot be read.
    #[error("vendors.{vendor}.admin_key: {reason}")]
    Key { vendor: &'static str, reason: String },
    /// The vendor did not send a report.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A report is not as described.
    #[error(transparent)]
    Bill(#[from] tallyd_model::bill::BillError),
    /// The prices are not usable.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The record cannot be read or added to.
    #[error(transparent)]
    Record(#[from] ClosingsError),
}

impl From<tokio_postgres::Error> for LookError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Record(error.into())
    }
}

/// One look at one vendor.
pub(crate) struct Look<'a> {
    pub client: &'a Client,
    pub vendor: Vendor,
    pub config: &'a Config,
    pub now: DateTime<Utc>,
}

/// The known state of the days before the vendor is asked.
struct Known {
    days: (NaiveDate, NaiveDate),
    latest: BTreeMap<NaiveDate, Closing>,
    sums: BTreeMap<NaiveDate, String>,
    dropped: BTreeSet<NaiveDate>,
}

/// Recorded calls of a day in total.
#[derive(Default)]
struct Total {
    calls: i64,
    unpriced: i64,
    cost_usd: Usd,
    price_ids: BTreeSet<i32>,
}

impl Total {
    fn of(recorded: &[RecordedDay]) -> Self {
        let mut total = Self::default();
        for record in recorded {
            total.calls += record.calls;
            total.unpriced += record.unpriced;
            total.cost_usd = total.cost_usd.checked_add(record.cost_usd).unwrap_or(total.cost_usd);
            total.price_ids.extend(record.price_id);
        }
        total
    }

    /// Why these are not the calls of an entry; none if they are. `is_amended`: a call was amended since, which may have
    /// changed its tokens alone.
    fn cause(&self, closed: &Closed, is_amended: bool) -> Option<ClosingCause> {
        match self.calls.cmp(&closed.calls) {
            std::cmp::Ordering::Greater => Some(ClosingCause::LateCalls),
            std::cmp::Ordering::Less => Some(ClosingCause::CallsRemoved),
            std::cmp::Ordering::Equal if is_amended => Some(ClosingCause::Amended),
            std::cmp::Ordering::Equal => {
                let same = (self.cost_usd, self.unpriced) == (closed.recorded_usd, closed.unpriced_calls);
                (!same).then_some(ClosingCause::Repriced)
            }
        }
    }
}

impl Look<'_> {
    /// Looks, and notes how that went. Returns the entries that were added.
    ///
    /// # Errors
    /// [`LookError`]; days that had opened by then stay open.
    pub(crate) async fn run(&self) -> Result<Vec<Closing>, LookError> {
        let name = self.vendor.name();
        let done = self.days().await;
        match &done {
            Ok(_) => closings::succeeded(self.client, name).await?,
            Err(error) => {
                let pause = match error {
                    LookError::Fetch(error) => error.pause,
                    _ => PAUSE,
                };
                // The database itself may be the cause.
                let _ = closings::failed(self.client, name, &error.to_string(), pause).await;
            }
        }
        done
    }

    async fn days(&self) -> Result<Vec<Closing>, LookError> {
        let first = closings::first_day(self.client).await?;
        let Some(days) = closable(&self.config.vendors, first, self.now) else { return Ok(Vec::new()) };
        let mut known = Known {
            days,
            latest: closings::latest(self.client, self.vendor.name(), days).await?,
            sums: closings::sums(self.client, self.vendor.provider(), days).await?,
            dropped: closings::dropped_days(self.client, days).await?.into_iter().collect(),
        };
        let mut added = self.open_changed(&mut known).await?;
        let bill = self.bill(days).await?;
        added.extend(self.close(&known, &bill).await?);
        Ok(added)
    }

    /// Opens closed days whose calls have changed.
    async fn open_changed(&self, known: &mut Known) -> Result<Vec<Closing>, LookError> {
        let mut added = Vec::new();
        for (day, last) in &mut known.latest {
            let sums = known.sums.get(day);
            let is_due = last.closed.state != ClosingState::Open && !known.dropped.contains(day);
            if !is_due || sums == Some(&last.closed.sums) {
                continue;
            }
            let total = Total::of(&recorded_at_vendor(self.client, *day, self.vendor.provider()).await?);
            let of = (self.vendor.provider(), *day);
            let is_amended = is_amended_since(self.client, of, last.closed.at).await?;
            let Some(cause) = total.cause(&last.closed, is_amended) else { continue };
            let open = self.opened(&last.closed, &total, sums.cloned().unwrap_or_default(), cause);
            let entries = closings::add(self.client, last.number, vec![open]).await?;
            if let Some(entry) = entries.last() {
                *last = entry.clone();
            }
            added.extend(entries);
        }
        Ok(added)
    }

    /// The entry by which a closed day opens.
    fn opened(&self, closed: &Closed, total: &Total, sums: String, cause: ClosingCause) -> Closed {
        Closed {
            state: ClosingState::Open,
            cause: Some(cause),
            calls: total.calls,
            unpriced_calls: total.unpriced,
            recorded_usd: total.cost_usd,
            price_ids: total.price_ids.iter().copied().collect(),
            residues: Vec::new(),
            sums,
            at: self.now,
            ..closed.clone()
        }
    }

    /// Fetches all reports.
    async fn bill(&self, days: (NaiveDate, NaiveDate)) -> Result<Bill, LookError> {
        let vendors = &self.config.vendors;
        let key = self.vendor.settings(vendors).admin_key.as_ref();
        let key = key.map_or_else(|| Err("it is not set".to_owned()), tallyd_config::Secret::read);
        let key = key.map_err(|reason| LookError::Key { vendor: self.vendor.name(), reason })?;
        let mut bill = Bill::default();
        for report in self.vendor.reports(days) {
            let text = fetch(self.vendor, &key, vendors, &report).await?;
            let path = report.path.split('?').next().unwrap_or_default();
            bill.read_report(self.vendor.provider(), report.kind, path, &text)?;
        }
        Ok(bill)
    }

    /// Closes the days that are not closed, and those whose bill has changed.
    async fn close(&self, known: &Known, bill: &Bill) -> Result<Vec<Closing>, LookError> {
        let (vendor, provider) = (self.vendor.name(), self.vendor.provider());
        let ours = &self.vendor.settings(&self.config.vendors).workspaces;
        let catalog = Catalog::layered(&self.config.pricing, &read_added(self.client).await?)?.0;
        let mut added = Vec::new();
        for day in known.days.0.iter_days().take_while(|day| *day <= known.days.1) {
            if known.dropped.contains(&day) || !bill.is_whole(day, provider) {
                continue;
            }
            let last = known.latest.get(&day);
            let closed = last.map(|last| &last.closed).filter(|closed| closed.state != ClosingState::Open);
            if closed.is_some_and(|closed| closed.bill_sha256 == close::digest(bill, (day, provider))) {
                continue;
            }
            let recorded = recorded_at_vendor(self.client, day, provider).await?;
            let total = Total::of(&recorded);
            let verdict = close::close(bill, (day, provider), &recorded, ours, &catalog);
            let sums = known.sums.get(&day).cloned().unwrap_or_default();
            let mut entries = Vec::new();
            if let Some(closed) = closed {
                entries.push(self.opened(closed, &total, sums.clone(), ClosingCause::BillCorrected));
            }
            let is_matched = verdict.residues.is_empty();
            entries.push(Closed {
                vendor: vendor.to_owned(),
                day,
                state: if is_matched { ClosingState::Matched } else { ClosingState::Differs },
                cause: None,
                calls: total.calls,
                unpriced_calls: total.unpriced,
                recorded_usd: verdict.recorded_usd,
                billed_usd: verdict.billed_usd,
                residues: verdict.residues,
                bill_sha256: verdict.bill_sha256,
                price_ids: total.price_ids.into_iter().collect(),
                sums,
                at: self.now,
            });
            added.extend(closings::add(self.client, last.map_or(0, |last| last.number), entries).await?);
        }
        Ok(added)
    }
}

/// The days that can be closed, both ends included.
fn closable(vendors: &Vendors, first: Option<NaiveDate>, now: DateTime<Utc>) -> Option<(NaiveDate, NaiveDate)> {
    let to = (now - TimeDelta::hours(i64::from(vendors.after_hours))).date_naive() - Days::new(1);
    let from = first?.max(now.date_naive() - Days::new(u64::from(vendors.days)));
    (from <= to).then_some((from, to))
}

/// Vendor-days of the range of `vendors.days` by state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub matched: u32,
    pub differs: u32,
    /// Ended and not closed.
    pub open: u32,
    /// Those of `open` that ended more than 48 hours ago.
    pub overdue: u32,
}

impl Standing {
    pub(crate) const fn by_state(self) -> [(&'static str, u32); 4] {
        [("matched", self.matched), ("differs", self.differs), ("open", self.open), ("overdue", self.overdue)]
    }
}

/// Where a vendor's days stand. Days of which calls were dropped cannot be closed any more and do not count as open.
///
/// # Errors
/// PostgreSQL's, as text.
pub(crate) async fn standing(
    client: &Client,
    vendor: Vendor,
    vendors: &Vendors,
    now: DateTime<Utc>,
) -> Result<Standing, String> {
    let first = closings::first_day(client).await.map_err(|error| tallyd_store::describe(&error))?;
    let ended = Vendors { after_hours: 0, ..vendors.clone() };
    let Some(days) = closable(&ended, first, now) else { return Ok(Standing::default()) };
    let latest = closings::latest(client, vendor.name(), days).await.map_err(|error| error.to_string())?;
    let dropped = closings::dropped_days(client, days).await.map_err(|error| tallyd_store::describe(&error))?;
    let late = (now - TimeDelta::hours(OVERDUE_HOURS)).date_naive();
    let mut standing = Standing::default();
    for day in days.0.iter_days().take_while(|day| *day <= days.1) {
        match latest.get(&day).map(|last| last.closed.state) {
            Some(ClosingState::Matched) => standing.matched += 1,
            Some(ClosingState::Differs) => standing.differs += 1,
            _ if dropped.contains(&day) => {}
            _ => {
                standing.open += 1;
                standing.overdue += u32::from(day < late);
            }
        }
    }
    Ok(standing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_can_be_closed_once_it_has_ended_for_long_enough() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let at = |text: &str| closable(&Vendors::default(), Some(day("2026-11-01")), text.parse().unwrap());
        assert_eq!(at("2026-11-30T23:59:59Z"), Some((day("2026-11-01"), day("2026-11-28"))));
        assert_eq!(at("2026-12-01T00:00:00Z"), Some((day("2026-11-01"), day("2026-11-29"))));
        assert_eq!(at("2026-12-20T00:00:00Z").unwrap().0, day("2026-11-15"), "35 days back");
        assert_eq!(at("2026-11-02T12:00:00Z"), None);
        assert_eq!(closable(&Vendors::default(), None, "2026-11-30T00:00:00Z".parse().unwrap()), None);
    }
}
