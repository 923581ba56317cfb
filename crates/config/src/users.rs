//! `[users]`: where the application keeps its users, and when their sessions end.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// The application's users.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Users {
    /// The table, with its schema. Without such a table, users are those that calls name.
    pub table: String,
    /// Its column that calls name as `user_id`.
    pub id_column: String,
    /// Columns that are shown and searched; those that the table does not have are left out.
    pub columns: Vec<String>,
    /// Its column by which active sessions are counted in `/api/admin/metrics`, where the table has it.
    pub tier_column: String,
    /// Minutes without a refresh after which a session is over: what the Supabase project has for its inactivity timeout. 0:
    /// no such limit.
    pub session_max_idle_minutes: u32,
    /// Minutes in all after which a session is over: what the Supabase project has for its time-box. 0: no such limit.
    pub session_max_age_minutes: u32,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            table: "auth.users".into(),
            id_column: "id".into(),
            columns: ["email", "created_at", "last_sign_in_at"].map(String::from).to_vec(),
            tier_column: "tier".into(),
            session_max_idle_minutes: 0,
            session_max_age_minutes: 0,
        }
    }
}

impl Users {
    pub(super) fn validate(&self, faults: &mut Faults) {
        if self.table.is_empty() || self.id_column.is_empty() {
            faults.add("users.table", "name a table and its id_column");
        }
        faults.in_range("users.columns", self.columns.len(), 0..=40);
        // Ten years.
        faults.in_range("users.session_max_idle_minutes", self.session_max_idle_minutes, 0..=5_256_000);
        faults.in_range("users.session_max_age_minutes", self.session_max_age_minutes, 0..=5_256_000);
    }
}
