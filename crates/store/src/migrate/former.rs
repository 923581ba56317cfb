//! Replaces the history of databases from before the initial schema was split by subject.
//!
//! Earlier builds had the files `V1__usage_log` to `V38__bounds_in_sql`. Together they made the same schema as
//! `V1__call_log` to `V12__access`, to the byte of `pg_dump -s`: a test keeps the former files and compares. So a
//! history with all former files gets the present ones in their place, and nothing else changes. A shorter history is
//! refused, because this build does not have the missing files.

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::files::Migration;
use super::{MigrateError, note};

/// The last of the present files that replace the former ones. Later files are applied as usual.
const LAST: i32 = 12;

/// The name of the last former file.
const FORMER_LAST: &str = "V38__bounds_in_sql";

/// Versions and checksums of the former files.
const FORMER: [(i32, &str); 28] = [
    (1, "5816149972312478349"),
    (2, "13697273402967056049"),
    (3, "4514500031057659053"),
    (4, "17656099147946290183"),
    (5, "16073514147815156702"),
    (6, "8076060213943873997"),
    (9, "10931339003705969730"),
    (10, "7415738845669635673"),
    (11, "15736862581419059006"),
    (12, "17940184314093126533"),
    (20, "9345030016660241182"),
    (21, "8827990818763377067"),
    (22, "14351866755416946173"),
    (23, "4293982253888748821"),
    (24, "10969175678788191691"),
    (25, "2255935685566157385"),
    (26, "13506950825954682437"),
    (27, "10721443145512730738"),
    (28, "15031290022691944550"),
    (29, "17191616719850489049"),
    (30, "15653766158772971095"),
    (31, "12109190370368427883"),
    (32, "15964588169074324191"),
    (33, "18029607696463077613"),
    (35, "11922065492422645965"),
    (36, "15492708691587577337"),
    (37, "6749577153539281778"),
    (38, "7981231108537321667"),
];

/// A row of the history.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) version: i32,
    pub(super) name: String,
    pub(super) checksum: String,
}

impl Noted {
    /// The file's name without its ending.
    pub(super) fn file(&self) -> String {
        format!("V{}__{}", self.version, self.name)
    }
}

/// True if the history has all former files, false if it does not begin with the first of them.
///
/// # Errors
/// [`MigrateError::Unfinished`] if it stops before the last one, and [`MigrateError::Diverged`] if a file differs.
pub(super) fn is_complete(history: &[Noted]) -> Result<bool, MigrateError> {
    let is_former = |noted: &Noted, former: (i32, &str)| (noted.version, noted.checksum.as_str()) == former;
    if !history.first().is_some_and(|first| is_former(first, FORMER[0])) {
        return Ok(false);
    }
    if let Some((other, _)) = history.iter().zip(FORMER).find(|(noted, former)| !is_former(noted, *former)) {
        return Err(MigrateError::Diverged { name: other.file() });
    }
    match history.last() {
        Some(last) if history.len() < FORMER.len() => {
            Err(MigrateError::Unfinished { last: last.file(), wanted: FORMER_LAST.to_owned() })
        }
        _ => Ok(true),
    }
}

/// Replaces the former files by the present ones in the history.
pub(super) async fn rewrite(transaction: &Transaction<'_>, known: &[Migration]) -> Result<(), tokio_postgres::Error> {
    let versions: Vec<i32> = FORMER.iter().map(|(version, _)| *version).collect();
    let forget = "DELETE FROM public.tallyd_schema_history WHERE version = ANY ($1)";
    transaction.query_typed(forget, &[(&versions, Type::INT4_ARRAY)]).await?;
    for migration in known.iter().filter(|migration| migration.version <= LAST) {
        note(transaction, migration).await?;
    }
    Ok(())
}
