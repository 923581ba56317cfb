//! The users who cost most, or have most calls, in a range of days, without the sums of all users of these days.
//!
//! ## Search
//! The list of users ([`crate::user_list`]) has bounds with an index each: `lately_usd` of a user's cost in ranges of the last 30 days,
//! `cost_usd` in earlier ones, `calls` of the calls. A search takes the users of the largest bounds, and adds up their days. If the last row of
//! the page is above the bounds of all users who were not taken, the page is found. Otherwise a second step takes all users whose bound is not
//! below that row. If these are more than [`TAKEN_MAX`], or on Citus, all users of the range are added up.
//!
//! ## Users that are always taken
//! * Users with deltas or notes, whose bounds may be out of date. If these are many, the answer is as old as the list, and says so as the
//!   list does ([`Standing`]).
//! * Users with negative costs on some day, for whom the bounds of costs do not hold. There may be [`REFUNDED_MAX`].
//! * The user `''`, who is not in the list.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::QueryError;
use super::grouped::{Bucket, CostQuery, Dimension, GroupRow, SortBy, Source};
use crate::user_list::{DUE, Standing};
use crate::whole::Whole;
use tallyd_model::pricing::Usd;

/// Users that the first step takes beside those of the page and a quarter of them.
const TAKEN_LEAST: i64 = 20;
/// Users of the second step.
const TAKEN_MAX: i64 = 10_000;
/// Users with negative costs that a search takes.
const REFUNDED_MAX: i64 = 1_000;
/// Rows up to the page's end for which a search is begun.
const ROWS_MAX: i64 = 2_500;

/// The users that a step adds up.
struct Taken {
    users: Vec<String>,
    /// Bound and id of the next user. None if no other user can be on the page.
    next: Option<(i128, String)>,
    /// True if the next user of the same bound has a larger id.
    is_by_id: bool,
}

/// The page, and how the list was read. None if all users are to be added up.
pub(super) async fn search(
    question: &CostQuery,
    client: &Client,
) -> Result<Option<(Vec<GroupRow>, Standing)>, QueryError> {
    let wanted = question.offset + question.limit;
    let by_user = question.source() == Source::DailyUserApiCosts && question.group_by.contains(&Dimension::User);
    let is_one = question.filters.iter().any(|(dimension, _)| *dimension == Dimension::User);
    if !by_user || is_one || question.sort == SortBy::Bucket || !question.descending || wanted > ROWS_MAX {
        return Ok(None);
    }
    let standing = Standing::read(client).await?;
    if standing.is_spread || standing.lately_from.is_none() {
        return Ok(None);
    }
    let mut least = None;
    for count in [wanted + wanted / 4 + TAKEN_LEAST, TAKEN_MAX] {
        let Some(taken) = take(question, client, standing, count, least.as_deref()).await? else { return Ok(None) };
        let rows = question.add_up(client, Some((&taken.users, standing.is_exact()))).await?;
        // A page that ends early has fewer rows than its limit.
        let last = rows.last().filter(|_| rows.len() as i64 == question.limit);
        if taken.is_enough(question, last) {
            return Ok(Some((rows, standing)));
        }
        least = last.map(|row| match question.sort {
            SortBy::Calls => row.sums.calls.to_string(),
            _ => row.sums.cost_usd.to_string(),
        });
    }
    Ok(None)
}

/// Takes the users of the `count` largest bounds, which are not below `least`, and those who are always taken. None if these are too many.
async fn take(
    question: &CostQuery,
    client: &Client,
    standing: Standing,
    count: i64,
    least: Option<&str>,
) -> Result<Option<Taken>, QueryError> {
    let is_lately = standing.lately_from.is_some_and(|first| question.from >= first);
    let (bound, direction) = match question.sort {
        SortBy::Calls => ("calls", "DESC"),
        _ if is_lately => ("lately_usd", "ASC"),
        _ => ("cost_usd", "DESC"),
    };
    let due = if standing.is_exact() { format!("UNION {DUE}") } else { String::new() };
    // In the order of the index: without statistics PostgreSQL would otherwise read the list for the few.
    let sql = format!(
        "WITH refunded AS MATERIALIZED (SELECT user_id FROM public.tallyd_user_list WHERE has_refunds \
             ORDER BY user_id LIMIT {REFUNDED_MAX} + 1), \
         listed AS MATERIALIZED (SELECT user_id, {bound} AS bound FROM public.tallyd_user_list \
             WHERE ($1::text IS NULL OR {bound} >= $1::text::numeric) \
             ORDER BY {bound} DESC, user_id COLLATE \"C\" {direction} LIMIT {count} + 1) \
         SELECT ARRAY(SELECT user_id FROM (SELECT user_id FROM listed LIMIT {count}) AS l UNION SELECT user_id FROM refunded UNION SELECT '' {due}), \
             (SELECT bound FROM listed OFFSET {count}), (SELECT user_id FROM listed OFFSET {count}), \
             (SELECT count(*) FROM refunded) > {REFUNDED_MAX}"
    );
    let rows = client.query_typed(&sql, &[(&least, Type::TEXT)]).await?;
    // A SELECT without FROM returns one row.
    let Some(row) = rows.first().filter(|row| question.sort == SortBy::Calls || !row.get::<_, bool>(3)) else {
        return Ok(None);
    };
    let next = bound_of(question.sort, row)?.zip(row.get(2));
    Ok(Some(Taken { users: row.get(0), next, is_by_id: is_lately && question.sort == SortBy::Cost }))
}

fn bound_of(sort: SortBy, row: &Row) -> Result<Option<i128>, QueryError> {
    Ok(match sort {
        SortBy::Calls => row.try_get::<_, Option<Whole>>(1)?.map(|calls| calls.0),
        _ => row.try_get::<_, Option<Usd>>(1)?.map(Usd::attos),
    })
}

impl Taken {
    /// Whether no other user has a row before the last one of the page.
    fn is_enough(&self, question: &CostQuery, last: Option<&GroupRow>) -> bool {
        let Some((bound, next)) = &self.next else { return true };
        let Some(last) = last else { return false };
        let value = if question.sort == SortBy::Calls { last.sums.calls.0 } else { last.sums.cost_usd.attos() };
        // Users of the same cost follow one another by id, in the answer as in the index.
        let by_user = self.is_by_id && question.bucket == Bucket::Total && question.group_by == [Dimension::User];
        value > *bound || by_user && value == *bound && last.user.as_ref().is_some_and(|user| user < next)
    }
}
