//! Names that nothing has. A filter that matches nothing shows what there is instead of an empty list.

use chrono::NaiveDate;

use super::output;
use tallyd_store::Connection;
use tallyd_store::queries::QueryError;
use tallyd_store::queries::grouped::Dimension;
pub(super) use tallyd_store::queries::names::{LOG_DAYS_MAX, all_days, near, unseen_budget};

/// Says of each filter whose name no call of these days has that it is so. False if each name has calls.
///
/// # Errors
/// [`QueryError`].
pub(super) async fn point_out(
    db: &Connection,
    filters: &[(Dimension, String)],
    days: (NaiveDate, NaiveDate),
    zone: chrono_tz::Tz,
) -> Result<bool, QueryError> {
    let notes = tallyd_store::queries::names::unseen(db, filters, days, zone).await?;
    notes.iter().for_each(|note| output::hint(note));
    Ok(!notes.is_empty())
}
