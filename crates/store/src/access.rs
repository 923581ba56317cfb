//! Rights on tallyd's tables, and whether this session's role can load them.
//!
//! The rules are SQL, in `migrations/V12__access.sql`: every table and partition has row level security, and only
//! admins read. This module applies the rules again to later tables (a partition made by hand, a table of a later
//! migration), and finds out the rights of the daemon's own role.
//!
//! PostgreSQL refuses COPY into a table whose policies apply to the role. Policies do not apply to the tables' owner
//! (unless `FORCE ROW LEVEL SECURITY` is set), to a role with BYPASSRLS, and to a superuser; no policy can permit COPY.
//! A daemon whose role is none of these holds, with a message from here.

use serde::Serialize;
use tokio_postgres::{GenericClient, Transaction};

/// The remedy for a role that cannot load, printed after PostgreSQL's message.
pub(super) const HINT: &str = "hint: COPY needs a role that row level security does not apply to: connect as the owner of the tables \
    (without FORCE ROW LEVEL SECURITY), or as a role with BYPASSRLS and the rights of tallyd_writer; `tallyd migrate` says \
    which of it is missing";

/// This role's rights on the tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Access {
    /// The session's role.
    pub role: String,
    /// Whether it can load the call log.
    pub copy: CopyAccess,
    /// Those of tallyd's own roles that are missing, because the role that migrated may not create roles.
    pub missing_roles: Vec<String>,
}

/// Whether a role can COPY into the call log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CopyAccess {
    /// It owns the tables.
    Owner,
    /// It does not own them, but row level security does not apply to it: BYPASSRLS, or a superuser.
    Bypass,
    /// It cannot COPY.
    Refused {
        /// Tables whose row level security applies to it.
        under_policies: Vec<String>,
        /// Tables that it has no right to read and write.
        no_privilege: Vec<String>,
    },
}

impl Access {
    /// Reads them from the catalog.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn read(client: &impl GenericClient) -> Result<Self, tokio_postgres::Error> {
        let sql = "SELECT current_user::text, \
                pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'public.api_usage_log'::regclass), 'USAGE'), \
                ARRAY(SELECT t::text FROM public.tallyd_tables() AS t WHERE row_security_active(t)), \
                ARRAY(SELECT t::text FROM public.tallyd_tables() AS t \
                    WHERE NOT (has_table_privilege(t, 'SELECT') AND has_table_privilege(t, 'INSERT'))), \
                ARRAY(SELECT r FROM unnest(ARRAY['tallyd_reader', 'tallyd_writer']) AS r WHERE to_regrole(r) IS NULL)";
        let row = client.query_typed(sql, &[]).await?;
        // A SELECT without FROM returns one row.
        let row = row.first().expect("a SELECT without FROM returns a row");
        let (under_policies, no_privilege): (Vec<String>, Vec<String>) = (row.get(2), row.get(3));
        let copy = match row.get(1) {
            _ if !under_policies.is_empty() || !no_privilege.is_empty() => {
                CopyAccess::Refused { under_policies, no_privilege }
            }
            true => CopyAccess::Owner,
            false => CopyAccess::Bypass,
        };
        Ok(Self { role: row.get(0), copy, missing_roles: row.get(4) })
    }

    /// Advice for a person, one line each; empty if nothing is wrong.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let CopyAccess::Refused { under_policies, no_privilege } = &self.copy {
            let role = &self.role;
            for (tables, why) in
                [(under_policies, "is under the row level security of"), (no_privilege, "may not write to")]
            {
                if let Some(table) = tables.first() {
                    let more = tables.len() - 1;
                    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                    lines.push(format!("records cannot be loaded by this role: {role} {why} {table}{more}"));
                }
            }
            lines.push(HINT.trim_start_matches("hint: ").to_owned());
        }
        for role in &self.missing_roles {
            let attributes = if role == "tallyd_writer" { " BYPASSRLS" } else { "" };
            lines.push(format!(
                "the role {role} is not there, and {} may not make it; where it is wanted, a superuser runs \
                 `CREATE ROLE {role} NOLOGIN{attributes}` and then `SELECT tallyd_protect_all()`",
                self.role
            ));
        }
        lines
    }
}

/// Closes tables and functions that are still open to the public, and returns their names. For a role without the right
/// to do so it finds nothing.
///
/// # Errors
/// PostgreSQL's.
pub(super) async fn protect_all(transaction: &Transaction<'_>) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql =
        "SELECT public.tallyd_protect_all() WHERE has_function_privilege('public.tallyd_protect_all()', 'EXECUTE')";
    let rows = transaction.query_typed(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// An error of loading in one line, with a remedy if the role is at fault.
#[must_use]
pub fn explain(error: &tokio_postgres::Error) -> String {
    let text = super::describe(error);
    let Some(db) = error.as_db_error() else { return text };
    match advice_for(db.code().code(), db.routine(), db.hint()) {
        Some(advice) => format!("{text}. {advice}"),
        None => text,
    }
}

/// The remedy, printed after PostgreSQL's message. COPY refuses a table under row level security with the general state
/// for unsupported features. Other errors of that state, such as Citus' refusals, come with PostgreSQL's own hint.
fn advice_for(state: &str, routine: Option<&str>, hint: Option<&str>) -> Option<String> {
    match (state, routine) {
        ("42501", _) | ("0A000", Some("DoCopy")) => Some(HINT.to_owned()),
        ("0A000", _) => hint.map(|hint| format!("hint: {hint}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_row_level_security_refuses_gets_the_hint_about_it() {
        assert_eq!(advice_for("0A000", Some("DoCopy"), Some("Use INSERT statements instead.")).as_deref(), Some(HINT));
        assert_eq!(advice_for("42501", Some("aclcheck_error"), None).as_deref(), Some(HINT));
        let citus = advice_for("0A000", Some("DeferErrorIfUnsupported"), Some("Consider an equality filter."));
        assert_eq!(citus.as_deref(), Some("hint: Consider an equality filter."));
        assert_eq!(advice_for("0A000", None, None), None);
        assert_eq!(advice_for("22003", None, Some("less")), None);
    }
}
