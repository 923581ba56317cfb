//! The user's dead letters: corrected, so that they can still be retried, or dropped if the record is incomplete.

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::{ForgetError, Forgotten};
use crate::dead_letters::{DeadLetter, Edit, Filter, Members, Order, Payload, page};
use tallyd_model::json;

/// Selects users.
pub(super) enum Wanted<'w> {
    /// This user alone.
    User(&'w str),
    /// All users for which the function returns true.
    Any(&'w (dyn Fn(&str) -> bool + Sync)),
}

impl Wanted<'_> {
    fn takes(&self, user: &str) -> bool {
        match self {
            Self::User(wanted) => user == *wanted,
            Self::Any(is_wanted) => is_wanted(user),
        }
    }
}

/// The result for a letter.
enum Outcome {
    Kept,
    Corrected(Payload),
    Dropped,
}

/// Corrects the letters written from `since` on (or all), including settled ones.
pub(super) async fn correct(
    client: &Client,
    wanted: &Wanted<'_>,
    since: Option<DateTime<Utc>>,
    done: &mut Forgotten,
) -> Result<(), ForgetError> {
    let filter = Filter { settled: true, since, ..Filter::default() };
    let mut after = None;
    loop {
        let (letters, last) = page(client, &filter, Order::OldestFirst, after).await?;
        for letter in letters {
            match decide(&letter, wanted) {
                Outcome::Kept => {}
                Outcome::Corrected(payload) => done.letters_corrected += rewrite(client, &letter, &payload).await?,
                Outcome::Dropped => done.letters_dropped += drop_content(client, &letter).await?,
            }
        }
        match last {
            Some(_) => after = last,
            None => return Ok(()),
        }
    }
}

/// The number of the user's letters.
pub(super) async fn count(client: &Client, user: &str) -> Result<i64, ForgetError> {
    let (filter, wanted) = (Filter { settled: true, ..Filter::default() }, Wanted::User(user));
    let (mut count, mut after) = (0, None);
    loop {
        let (letters, last) = page(client, &filter, Order::OldestFirst, after).await?;
        count += letters.iter().filter(|letter| !matches!(decide(letter, &wanted), Outcome::Kept)).count() as i64;
        match last {
            Some(_) => after = last,
            None => return Ok(count),
        }
    }
}

fn decide(letter: &DeadLetter, wanted: &Wanted<'_>) -> Outcome {
    let record = letter.payload.to_json();
    let members = json::from_str::<Members<'_>>(record.get());
    let user = match members.map(|members| members.get("user_id").copied()) {
        Ok(Some(user)) => match user.kind() {
            b'"' => json::scan::unquote(user.get()).into_owned(),
            // The record was refused because its user is a number.
            b'-' | b'0'..=b'9' => user.get().to_owned(),
            _ => return Outcome::Kept,
        },
        Ok(None) => return Outcome::Kept,
        Err(_) => return if is_in(&letter.payload, wanted) { Outcome::Dropped } else { Outcome::Kept },
    };
    if !wanted.takes(&user) {
        return Outcome::Kept;
    }
    let edits = ["user_id", "request_id", "metadata", "tags"].map(Edit::remove);
    letter.payload.with(&edits).map_or(Outcome::Dropped, Outcome::Corrected)
}

/// True if the id stands in bytes that are not a complete record, in the form of either format.
fn is_in(payload: &Payload, wanted: &Wanted<'_>) -> bool {
    // The id in an unreadable record is not known, so its hash cannot be compared.
    let Wanted::User(user) = wanted else { return false };
    let (bytes, needle) = match payload {
        Payload::Json(bytes) => (bytes, json::Text::of_str(user).get().as_bytes().to_vec()),
        Payload::MessagePack(bytes) => {
            let mut needle = Vec::new();
            // Writing into memory does not fail.
            let _ = rmp::encode::write_str(&mut needle, user);
            (bytes, needle)
        }
    };
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Replaces the letter's record. It removes messages of PostgreSQL and the daemon, too, because they may quote the
/// record.
async fn rewrite(client: &Client, letter: &DeadLetter, corrected: &Payload) -> Result<u64, ForgetError> {
    let (Payload::Json(new) | Payload::MessagePack(new)) = corrected;
    let sql = "UPDATE public.dead_letters SET payload = $2, message = '' WHERE id = $1 AND payload = $3";
    let (Payload::Json(old) | Payload::MessagePack(old)) = &letter.payload;
    let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&letter.id, Type::INT8), (new, Type::BYTEA), (old, Type::BYTEA)];
    Ok(client.execute_typed(sql, &values).await?)
}

/// Deletes the letter's record.
async fn drop_content(client: &Client, letter: &DeadLetter) -> Result<u64, ForgetError> {
    let sql = "UPDATE public.dead_letters SET payload = '', message = '', outcome = coalesce(outcome, 'dropped'), \
        settled_at = coalesce(settled_at, clock_timestamp()) WHERE id = $1";
    Ok(client.execute_typed(sql, &[(&letter.id, Type::INT8)]).await?)
}
