//! Reads the list of users ([`crate::user_list`]) page by page, by the index of its order.
//!
//! A page begins after the last row of the page before, so a deep page reads as many rows as the first. While few users are due, their rows
//! are computed first, and a page is taken from these and the rows of all others together: the order and the values have every call that
//! is loaded. Otherwise the list is read as the last refresh left it ([`List::as_of`]).
//!
//! A search sorts the first [`SEARCHED`] users whose ids begin so, and as many whom the application's table finds: of a beginning that
//! nearly all ids share, it reads no more than of another.
//!
//! Users who stand in the application's table alone have no calls: they follow the others in descending order, and come before them in ascending
//! order, each in the order of their ids.

use std::collections::HashSet;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::cursor::{Cursor, Place};
use super::{CountIs, Profile, UserCount, UserPage, UserQuestion, UserSort, UserTotals};
use crate::queries::accounts::{Account, Accounts, Search};
use crate::queries::{Parameter, QueryError, beginning, containing};
use crate::user_list::{self, COLUMNS, Standing};

/// Users that are counted for a request. More take too long, and are estimated.
const COUNTED: i64 = 5_000;

/// Users that a search looks at, by the beginning of the id and by shown columns each.
const SEARCHED: i64 = 1_000;

/// Rows of the application's table that one request looks at for users without calls.
const LOOKED_AT: usize = 5_000;

/// The list, in one snapshot.
pub struct List<'c> {
    client: &'c Client,
    /// The application's table. None if it cannot be read: then only users with calls are listed.
    accounts: Option<Accounts>,
    standing: Standing,
}

impl<'c> List<'c> {
    /// Looks at the configured table of users and at how the list is to be read.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn open(client: &'c Client, users: &tallyd_config::Users) -> Result<Self, QueryError> {
        let accounts = Accounts::find(client, users).await?;
        Ok(Self { client, accounts, standing: Standing::read(client).await? })
    }

    /// The list of users with calls, without the application's table.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn of_calls(client: &'c Client) -> Result<Self, QueryError> {
        Ok(Self { client, accounts: None, standing: Standing::read(client).await? })
    }

    /// Whether the application's table is joined.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.accounts.is_some()
    }

    /// None if the answers have every call that is loaded. Otherwise calls that were loaded after this may be missing in them.
    #[must_use]
    pub const fn as_of(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        self.standing.as_of
    }

    /// A page.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn page(&self, question: &UserQuestion) -> Result<UserPage, QueryError> {
        let search = self.search(question.search.as_deref()).await?;
        let first = if question.descending { Place::Called(None) } else { Place::Uncalled(None) };
        let mut place = question.after.as_ref().map_or(first, |cursor| cursor.place.clone());
        let mut users: Vec<UserTotals> = Vec::new();
        let next = loop {
            let room = question.limit - users.len();
            let (found, rest) = match &place {
                Place::Called(after) => self.called(question, search.as_ref(), after.as_ref(), room).await?,
                Place::Uncalled(after) => self.uncalled(question, search.as_ref(), after.as_deref(), room).await?,
            };
            users.extend(found);
            if rest.is_some() {
                break rest;
            }
            place = match place {
                Place::Called(_) if question.descending => Place::Uncalled(None),
                Place::Uncalled(_) if !question.descending => Place::Called(None),
                _ => break None,
            };
        };
        self.tell(&mut users).await?;
        let next = next.map(|place| Cursor { sort: question.sort, place });
        Ok(UserPage { users, next })
    }

    /// Users whom calls name, at most `room`, and where the next ones begin if there are any.
    async fn called(
        &self,
        question: &UserQuestion,
        search: Option<&Search>,
        after: Option<&(String, String)>,
        room: usize,
    ) -> Result<(Vec<UserTotals>, Option<Place>), QueryError> {
        let value = after.map(|(value, _)| Cursor::bound(question.sort, value));
        let id = after.map(|(_, id)| id);
        let (ids, beginning) = (search.map(|search| &search.ids), search.map(|search| &search.beginning));
        let values: [Parameter<'_>; 4] =
            [(&ids, Type::TEXT_ARRAY), (&beginning, Type::TEXT), (&value, Type::TEXT), (&id, Type::TEXT)];
        // One more than there is room for tells whether there are more.
        let sql = self.select(search, after.is_some(), question, room + 1);
        let rows = self.client.query_typed(&sql, &values).await?;
        let found = rows.iter().take(room).map(read).collect::<Result<Vec<_>, _>>()?;
        let last = found.last().map(|user| (question.sort.value(user), user.id.clone()));
        let rest = (rows.len() > room).then(|| Place::Called(last.or_else(|| after.cloned())));
        Ok((found, rest))
    }

    async fn search(&self, text: Option<&str>) -> Result<Option<Search>, QueryError> {
        let Some(text) = text else { return Ok(None) };
        let part = containing(text);
        let ids = match &self.accounts {
            Some(accounts) => accounts.with_part(self.client, &part, SEARCHED).await?,
            None => Vec::new(),
        };
        Ok(Some(Search { beginning: beginning(text), part, ids }))
    }

    /// The rows of the list that a search looks at, by the name `l`. `$1` are ids, `$2` is the beginning.
    fn listed(search: Option<&Search>) -> String {
        if search.is_none() {
            return "public.tallyd_user_list AS l".into();
        }
        format!(
            "(SELECT * FROM (SELECT * FROM public.tallyd_user_list WHERE user_id LIKE $2 ORDER BY user_id USING ~<~ LIMIT {SEARCHED}) AS b \
              UNION SELECT * FROM public.tallyd_user_list WHERE user_id = ANY ($1)) AS l"
        )
    }

    /// The condition of a search on a user's id.
    const fn condition(search: Option<&Search>) -> &'static str {
        if search.is_some() { "(user_id LIKE $2 OR user_id = ANY ($1))" } else { "true" }
    }

    fn select(&self, search: Option<&Search>, is_after: bool, question: &UserQuestion, limit: usize) -> String {
        let order = order(question.sort, question.descending);
        let page = |rows: &str| format!("SELECT {COLUMNS} FROM {rows} ORDER BY {order} LIMIT {limit}");
        let beyond = if is_after { beyond(question.sort, question.descending) } else { "true".into() };
        let list = format!("{} WHERE {beyond}", Self::listed(search));
        if !self.standing.is_exact() {
            return page(&list);
        }
        let fresh = page(&format!("fresh AS l WHERE {beyond} AND {}", Self::condition(search)));
        let others = page(&format!("{list} AND user_id NOT IN (SELECT d.user_id FROM due AS d)"));
        format!("{} {}", user_list::exact(), page(&format!("(({fresh}) UNION ALL ({others})) AS l")))
    }

    /// Users whom no call names, at most `room`, and where the next ones begin. A page may have fewer than there is room for although
    /// there are more: one request looks through a bounded number of rows.
    async fn uncalled(
        &self,
        question: &UserQuestion,
        search: Option<&Search>,
        after: Option<&str>,
        room: usize,
    ) -> Result<(Vec<UserTotals>, Option<Place>), QueryError> {
        let Some(accounts) = &self.accounts else { return Ok((Vec::new(), None)) };
        let looked_at = accounts.ids(self.client, search, (after, question.descending), LOOKED_AT).await?;
        let called = self.called_of(&looked_at).await?;
        let (mut found, mut last) = (Vec::new(), after.map(str::to_owned));
        let mut more = looked_at.len() == LOOKED_AT;
        for id in looked_at {
            let is_called = called.contains(&id);
            if !is_called && found.len() == room {
                more = true;
                break;
            }
            if !is_called {
                found.push(UserTotals::uncalled(id.clone()));
            }
            last = Some(id);
        }
        Ok((found, more.then_some(Place::Uncalled(last))))
    }

    /// Which of these users calls name.
    async fn called_of(&self, ids: &[String]) -> Result<HashSet<String>, QueryError> {
        let listed = "SELECT user_id FROM public.tallyd_user_list WHERE user_id = ANY ($1)";
        let sql = if self.standing.is_exact() {
            format!("{} {listed} UNION SELECT user_id FROM due WHERE user_id = ANY ($1)", user_list::exact())
        } else {
            listed.to_owned()
        };
        let rows = self.client.query_typed(&sql, &[(&ids, Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Adds the shown columns of the application's table.
    async fn tell(&self, users: &mut [UserTotals]) -> Result<(), QueryError> {
        let Some(accounts) = &self.accounts else { return Ok(()) };
        let ids: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
        let mut known = accounts.of(self.client, &ids).await?;
        let unknown = accounts.unknown(self.client).await?;
        for user in users {
            let nobody = || Account { profile: unknown.clone(), shown: None };
            let account = known.remove(&user.id).unwrap_or_else(nobody);
            (user.profile, user.shown) = (account.profile, account.shown);
        }
        Ok(())
    }

    /// How many users there are, of a search if there is one.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn count(&self, wanted: Option<&str>) -> Result<UserCount, QueryError> {
        let search = self.search(wanted).await?;
        let search = search.as_ref();
        let (called, mut estimate) = self.count_called(search).await?;
        let (mut uncalled, mut accounts) = (0, 0);
        if let Some(table) = &self.accounts {
            let ids = table.ids(self.client, search, (None, false), COUNTED as usize + 1).await?;
            accounts = ids.len() as i64;
            if accounts <= COUNTED {
                uncalled = accounts - self.called_of(&ids).await?.len() as i64;
            } else {
                estimate = estimate.max(table.estimate(self.client).await?).max(accounts);
            }
        }
        let (most, is_spread) = (if search.is_some() { SEARCHED - 1 } else { COUNTED }, self.standing.is_spread);
        let least = called + uncalled;
        let is = match search {
            _ if (called <= most || is_spread && search.is_none()) && accounts <= COUNTED => CountIs::Exact,
            Some(_) => CountIs::AtLeast,
            None => CountIs::Estimate,
        };
        let users = if is == CountIs::Estimate { estimate.max(least) } else { least };
        Ok(UserCount { users, is })
    }

    /// Users whom calls name, counted up to a bound, and PostgreSQL's estimate. Citus' nodes count theirs side by side, and have no estimate.
    async fn count_called(&self, search: Option<&Search>) -> Result<(i64, i64), QueryError> {
        let (ids, beginning) = (search.map(|search| &search.ids), search.map(|search| &search.beginning));
        let values: [Parameter<'_>; 2] = [(&ids, Type::TEXT_ARRAY), (&beginning, Type::TEXT)];
        let listed = Self::listed(search);
        if self.standing.is_spread {
            let rows = self.client.query_typed(&format!("SELECT count(*) FROM {listed}"), &values).await?;
            return Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(0))));
        }
        let listed = format!("SELECT count(*) FROM (SELECT 1 FROM {listed} LIMIT {}) AS c", COUNTED + 1);
        let (before, new) = if self.standing.is_exact() {
            let new = format!(
                "(SELECT count(*) FROM due WHERE user_id <> '' AND {} AND NOT EXISTS ( \
                     SELECT 1 FROM public.tallyd_user_list AS l WHERE l.user_id = due.user_id))",
                Self::condition(search)
            );
            (user_list::exact(), new)
        } else {
            (String::new(), "0".into())
        };
        let sql = format!(
            "{before} SELECT ({listed}) + {new}, \
             (SELECT greatest(c.reltuples, 0)::int8 FROM pg_catalog.pg_class AS c WHERE c.oid = 'public.tallyd_user_list'::regclass)"
        );
        let rows = self.client.query_typed(&sql, &values).await?;
        Ok(rows.first().map_or((0, 0), |row| (row.get(0), row.get(1))))
    }

    /// One user, whom calls or the application's table name. Their sums have every call that is loaded.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn one(&self, id: &str) -> Result<Option<UserTotals>, QueryError> {
        let sums = user_list::sums_by_user("public.tallyd_user_total_parts WHERE user_id <> '' AND user_id = $1");
        let rows = self.client.query_typed(&sums, &[(&id, Type::TEXT)]).await?;
        let mut found: Vec<UserTotals> = rows.iter().map(read).collect::<Result<_, _>>()?;
        if let (true, Some(accounts)) = (found.is_empty(), &self.accounts) {
            let known = accounts.of(self.client, &[id]).await?;
            found.extend(known.into_keys().map(UserTotals::uncalled));
        }
        self.tell(&mut found).await?;
        Ok(found.pop())
    }
}

/// The condition that a row comes after the cursor, whose value is `$3` and whose id is `$4`.
fn beyond(sort: UserSort, descending: bool) -> String {
    let (column, kind) = match sort {
        UserSort::Id => return format!("user_id {} $4", if descending { "~<~" } else { "~>~" }),
        UserSort::LastCall => (column(sort), "timestamptz"),
        _ => (column(sort), "numeric"),
    };
    let comparison = if descending { "<" } else { ">" };
    format!("({column}, user_id COLLATE \"C\") {comparison} ($3::text::{kind}, $4)")
}

/// The order, as an index has it.
fn order(sort: UserSort, descending: bool) -> String {
    let direction = if descending { "DESC" } else { "ASC" };
    match sort {
        UserSort::Id => format!("user_id USING {}", if descending { "~>~" } else { "~<~" }),
        _ => format!("{} {direction}, user_id COLLATE \"C\" {direction}", column(sort)),
    }
}

const fn column(sort: UserSort) -> &'static str {
    match sort {
        UserSort::Cost => "cost_usd",
        UserSort::Calls => "calls",
        UserSort::ClaudeCalls => "claude_calls",
        UserSort::RentcastCalls => "rentcast_calls",
        UserSort::LastCall => "last_call_at",
        UserSort::Id => "user_id",
    }
}

/// A row of the list.
fn read(row: &Row) -> Result<UserTotals, QueryError> {
    Ok(UserTotals {
        id: row.get(0),
        total_calls: row.get(1),
        total_claude_calls: row.get(2),
        total_rentcast_calls: row.get(3),
        errors: row.get(4),
        unpriced_calls: row.get(5),
        cost_usd: row.try_get(6)?,
        first_call_at: row.get(7),
        last_call_at: row.get(8),
        shown: None,
        profile: Profile::empty(),
    })
}
