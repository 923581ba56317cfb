//! `[users]`: where the application keeps its users, and when their sessions end.

use serde::{Deserialize, Serialize};

use super::error::Faults;

/// The application's users.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Users {
    /// The table, with its schema. Where there is no such table, users are those that calls name. Default `auth.users`.
    pub table: String,
    /// Its column that calls name as `user_id`. Default `id`.
    pub id_column: String,
    /// Columns that are shown and searched; those that the table does not have are left out. Default `email`,
    /// `created_at`, `last_sign_in_at`.
    pub columns: Vec<String>,
    /// Its column by which active sessions are counted in `/api/admin/metrics`, where the table has it. Default `tier`.
    pub tier_column: String,
    /// Minutes without a refresh after which a session is over: the Supabase project's inactivity timeout. Default 0, none.
    pub session_max_idle_minutes: u32,
    /// Minutes after which a session is over in any case: the Supabase project's time-box. Default 0, none.
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
