//! A database like a Supabase project's: its roles, its grants and its auth schema.
//!
//! It follows the migrations of supabase/postgres and supabase/auth, without the parts that the tests do not use.

use tallyd_store::{Connection, Database, MigrateReport, migrate};
use tokio_postgres::Client;

use crate::support::{data_dir, database, migrate_options};

/// A project's default grants on new tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grants {
    /// Everything, to the API's roles.
    Legacy,
    /// None.
    New,
}

/// The user whose profile has `is_admin`.
pub const ADMIN: &str = "00000000-0000-4000-8000-00000000000a";
/// An ordinary user.
pub const USER: &str = "00000000-0000-4000-8000-00000000000b";

/// A cluster with a project in it. Both are removed with its folder.
pub struct Project {
    pub database: Database,
    _folder: tempfile::TempDir,
}

impl Project {
    /// A project without tallyd's tables.
    pub async fn empty(grants: Grants) -> Self {
        let folder = data_dir();
        let database = database(folder.path()).await;
        let client = database.connect("fixture").await.unwrap();
        let grants = match grants {
            Grants::Legacy => include_str!("supabase/grants_legacy.sql"),
            Grants::New => include_str!("supabase/grants_new.sql"),
        };
        for sql in [
            include_str!("supabase/roles.sql"),
            grants,
            include_str!("supabase/auth.sql"),
            include_str!("supabase/profiles.sql"),
        ] {
            client.batch_execute(sql).await.unwrap();
        }
        let people = format!(
            "INSERT INTO auth.users (id, email) VALUES ('{ADMIN}', 'admin@example.com'), ('{USER}', 'user@example.com'); \
             INSERT INTO public.user_profiles (id, is_admin) VALUES ('{ADMIN}', true), ('{USER}', false)"
        );
        client.batch_execute(&people).await.unwrap();
        Self { database, _folder: folder }
    }

    /// A project in which `postgres` has run the migrations.
    pub async fn migrated(grants: Grants) -> Self {
        let project = Self::empty(grants).await;
        project.migrate().await;
        project
    }

    /// Migrates as `postgres`.
    pub async fn migrate(&self) -> MigrateReport {
        let mut client = self.session("postgres").await;
        migrate(&mut client, &migrate_options()).await.unwrap()
    }

    /// A session that has switched to a role.
    pub async fn session(&self, role: &str) -> Connection {
        let client = self.database.connect(role).await.unwrap();
        client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        client
    }

    /// A session like a request's: a role, and the claims of its JWT.
    pub async fn request(&self, role: &str, claims: &str) -> Connection {
        let client = self.session(role).await;
        set_claims(&client, claims).await;
        client
    }
}

/// Sets the claims of the session's JWT.
pub async fn set_claims(client: &Client, claims: &str) {
    client.query("SELECT set_config('request.jwt.claims', $1, false)", &[&claims]).await.unwrap();
}

/// The claims of a user's JWT.
pub fn claims(subject: &str) -> String {
    format!(r#"{{"sub":"{subject}","role":"authenticated","app_metadata":{{}},"user_metadata":{{}}}}"#)
}
