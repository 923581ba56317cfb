//! The database's information about one of the issuer's users.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Facts about a user that decide whether they are an admin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserStanding {
    /// The user's row in `auth.users`; none if there is no such table, or it may not be read.
    pub account: Option<Account>,
    /// True if a row of `user_profiles` names the user an admin.
    pub profile_admin: bool,
}

/// A user's state in `auth.users`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// The user was deleted or banned.
    Closed,
    /// A user without the admin role.
    Plain,
    /// `raw_app_meta_data.role` is `admin`.
    Admin,
}

impl UserStanding {
    /// True if the user is an admin, given their token's claim.
    #[must_use]
    pub fn is_admin(self, claimed: bool) -> bool {
        match self.account {
            Some(Account::Closed) => false,
            Some(Account::Admin) => claimed || self.profile_admin,
            Some(Account::Plain) => self.profile_admin,
            None => claimed || self.profile_admin,
        }
    }
}

/// Looks a user up. Both tables are optional; `user_profiles` is searched by `user_id` or by `id`.
///
/// # Errors
/// PostgreSQL's.
pub async fn standing(client: &Client, user: &str) -> Result<UserStanding, tokio_postgres::Error> {
    let readable = |table: &str, columns: &str| {
        format!(
            "(SELECT count(*) = {count} FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = to_regclass('{table}') AND a.attname IN ({columns}) AND NOT a.attisdropped \
             AND has_column_privilege(a.attrelid, a.attnum, 'SELECT'))",
            count = columns.split(',').count()
        )
    };
    let shape = format!(
        "SELECT {}, {}, {}",
        readable("auth.users", "'id','raw_app_meta_data','banned_until','deleted_at'"),
        readable("public.user_profiles", "'user_id','is_admin'"),
        readable("public.user_profiles", "'id','is_admin'"),
    );
    let shape = client.query_typed(&shape, &[]).await?;
    let has = |at: usize| shape.first().is_some_and(|row| row.get(at));
    let account = if has(0) { Some(account(client, user).await?) } else { None };
    let key = if has(1) { Some("user_id") } else { has(2).then_some("id") };
    let profile_admin = match key {
        Some(key) => {
            let sql =
                format!("SELECT coalesce(bool_or(is_admin), false) FROM public.user_profiles WHERE {key}::text = $1");
            let rows = client.query_typed(&sql, &[(&user, Type::TEXT)]).await?;
            rows.first().is_some_and(|row| row.get(0))
        }
        None => false,
    };
    Ok(UserStanding { account, profile_admin })
}

async fn account(client: &Client, user: &str) -> Result<Account, tokio_postgres::Error> {
    let sql = "SELECT coalesce(banned_until > now(), false) OR deleted_at IS NOT NULL, \
        coalesce(raw_app_meta_data ->> 'role' = 'admin', false) FROM auth.users WHERE id::text = $1";
    let rows = client.query_typed(sql, &[(&user, Type::TEXT)]).await?;
    Ok(match rows.first().map(|row| (row.get(0), row.get(1))) {
        None | Some((true, _)) => Account::Closed,
        Some((false, true)) => Account::Admin,
        Some((false, false)) => Account::Plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_has_the_last_word() {
        use Account::{Admin, Closed, Plain};
        for (account, profile_admin, claimed, is_admin) in [
            (None, false, true, true),
            (None, true, false, true),
            (None, false, false, false),
            (Some(Closed), true, true, false),
            (Some(Plain), false, true, false),
            (Some(Plain), true, false, true),
            (Some(Admin), false, true, true),
            // Promoted after the token was issued: the next token will have the claim.
            (Some(Admin), false, false, false),
        ] {
            let standing = UserStanding { account, profile_admin };
            assert_eq!(standing.is_admin(claimed), is_admin, "{standing:?} {claimed}");
        }
    }
}
