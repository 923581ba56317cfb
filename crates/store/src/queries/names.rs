//! Names that no call has. Such a name in a filter or budget is nearly always a typing error: the answer says so, and
//! lists existing names.

use chrono::NaiveDate;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::grouped::{Bucket, CostQuery, Dimension, GroupRow, SortBy};
use super::users::UserQuestion;
use super::users::list::List;
use super::{Parameter, QueryError};
use crate::budgets::BudgetScope;

/// Names that are read to find similar ones.
const NAMES_MAX: i64 = 2_000;
/// Names that are listed.
const TOLD: usize = 5;
/// Longer names are not compared.
const LONG_NAME_BYTES: usize = 200;

/// The name of a dimension in a sentence.
#[must_use]
pub fn word(dimension: &Dimension) -> String {
    match dimension {
        Dimension::App => "application".to_owned(),
        Dimension::ServiceTier => "service tier".to_owned(),
        Dimension::Tag(tag) => format!("tag {tag}"),
        dimension => dimension.name(),
    }
}

/// The names that calls of these days have, those with the largest costs first. Of users, whom a range may have a million of, the names are
/// those of all days.
async fn seen(
    client: &Client,
    dimension: &Dimension,
    (from, to): (NaiveDate, NaiveDate),
    zone: tallyd_model::zone::Tz,
) -> Result<Vec<String>, QueryError> {
    if *dimension == Dimension::User {
        let question = UserQuestion { descending: true, limit: NAMES_MAX as usize, ..UserQuestion::default() };
        let page = List::of_calls(client).await?.page(&question).await?;
        return Ok(page.users.into_iter().map(|user| user.id).collect());
    }
    let mut question = CostQuery {
        from,
        to,
        zone: zone.name().to_owned(),
        bucket: Bucket::Total,
        group_by: vec![dimension.clone()],
        filters: Vec::new(),
        dimensions: Vec::new(),
        sort: SortBy::Cost,
        descending: true,
        limit: NAMES_MAX,
        offset: 0,
    };
    question.learn(client).await?;
    let rows = question.ask(client).await?.rows;
    let name = |mut row: GroupRow| match dimension {
        Dimension::Provider => row.provider,
        Dimension::Model => row.model,
        Dimension::Endpoint => row.endpoint,
        Dimension::User => row.user,
        Dimension::App => row.app,
        Dimension::Platform | Dimension::ServiceTier | Dimension::Tag(_) => row.tags.remove(&dimension.name()),
    };
    Ok(rows.into_iter().filter_map(name).filter(|name| !name.is_empty()).collect())
}

/// All days.
#[must_use]
pub fn all_days(today: NaiveDate) -> (NaiveDate, NaiveDate) {
    // Calls may be dated a little ahead.
    (NaiveDate::from_ymd_opt(1970, 1, 1).unwrap_or(today), today + chrono::Days::new(1))
}

/// The names that are similar to `name`, the nearest first: few edits for its length, or names that contain it.
fn closest_names<'a>(name: &str, names: &'a [String]) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let mut found: Vec<(usize, &str)> = names
        .iter()
        .filter_map(|candidate| {
            let known = candidate.to_lowercase();
            // The table of edits of two long names is large, and a long name is hardly a typing error.
            let is_long = name.len().max(known.len()) > LONG_NAME_BYTES;
            let edits = if is_long { usize::MAX } else { strsim::levenshtein(&name, &known) };
            let is_near = edits <= name.len() / 3 || name.len() >= 3 && known.contains(&name);
            is_near.then_some((edits, candidate.as_str()))
        })
        .collect();
    found.sort_unstable();
    found.into_iter().take(TOLD).map(|(_, candidate)| candidate).collect()
}

/// Similar names, or else the first ones: `near names: claude, cohere`.
#[must_use]
pub fn near(name: &str, names: &[String]) -> String {
    let found = closest_names(name, names);
    if !found.is_empty() {
        return format!("near names: {}", found.join(", "));
    }
    match names {
        [] => "there are none".to_owned(),
        all if all.len() <= TOLD => format!("there are: {}", all.join(", ")),
        all => format!("there are, among others: {}", all[..TOLD].join(", ")),
    }
}

/// Whether a call of these days has the name. None if it cannot be told without reading many rows: then the names that were seen tell.
async fn is_seen(
    client: &Client,
    dimension: &Dimension,
    name: &str,
    (from, to): (NaiveDate, NaiveDate),
) -> Result<Option<bool>, QueryError> {
    if *dimension != Dimension::User {
        return Ok(None);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM public.tallyd_user_day_parts WHERE user_id = $1 AND day BETWEEN $2 AND $3 LIMIT 1)";
    let values: [Parameter<'_>; 3] = [(&name, Type::TEXT), (&from, Type::DATE), (&to, Type::DATE)];
    Ok(client.query_typed(sql, &values).await?.first().map(|row| row.get(0)))
}

/// A sentence about each filter whose name no call of these days has.
///
/// # Errors
/// [`QueryError`].
pub async fn unseen(
    client: &Client,
    filters: &[(Dimension, String)],
    days: (NaiveDate, NaiveDate),
    zone: tallyd_model::zone::Tz,
) -> Result<Vec<String>, QueryError> {
    let mut notes = Vec::new();
    for (dimension, name) in filters {
        let is_seen = is_seen(client, dimension, name, days).await?;
        if is_seen == Some(true) {
            continue;
        }
        let mut names = seen(client, dimension, days, zone).await?;
        if is_seen == Some(false) {
            // Of other days.
            names.retain(|known| known != name);
        }
        if is_seen == Some(false) || !names.iter().any(|known| known == name) && (names.len() as i64) < NAMES_MAX {
            notes.push(format!("no call of these days has the {} {name:?}; {}", word(dimension), near(name, &names)));
        }
    }
    Ok(notes)
}

/// A sentence about a budget's first name that no call has had so far.
///
/// # Errors
/// [`QueryError`].
pub async fn unseen_budget(
    client: &Client,
    scope: &BudgetScope,
    today: NaiveDate,
    zone: tallyd_model::zone::Tz,
) -> Result<Option<String>, QueryError> {
    for (dimension, name) in scope.parts() {
        let is_seen = is_seen(client, dimension, name, all_days(today)).await?;
        if is_seen == Some(true) {
            continue;
        }
        let names = seen(client, dimension, all_days(today), zone).await?;
        // A family's name covers the dated models.
        let counts = |known: &String| known == name || *dimension == Dimension::Model && known.starts_with(name);
        if is_seen == Some(false) || !names.iter().any(counts) && (names.len() as i64) < NAMES_MAX {
            return Ok(Some(format!("no call has had the {} {name:?}; {}", word(dimension), near(name, &names))));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first_and_others_are_bounded() {
        let names = ["claude-sonnet-4-5", "claude-opus-4-5", "gpt-4o", "a", "b", "c"].map(str::to_owned);
        assert_eq!(near("claude-sonet-4-5", &names), "near names: claude-sonnet-4-5, claude-opus-4-5");
        assert_eq!(near("SONNET", &names), "near names: claude-sonnet-4-5");
        assert_eq!(near("zzzzzzzz", &names[3..]), "there are: a, b, c");
        assert!(near("zzzzzzzz", &names).starts_with("there are, among others: claude-sonnet-4-5, "));
        assert_eq!(near("x", &[]), "there are none");
    }
}
