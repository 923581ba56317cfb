//! Roles: the rights of a static token, or of a signed-in user.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The rights of a token or user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Ask.
    Read,
    /// Send records, and tell deploys.
    Ingest,
}

impl Role {
    /// Its name in the database and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Read => "read",
            Self::Ingest => "ingest",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Admin, Self::Read, Self::Ingest].into_iter().find(|role| role.name() == name)
    }

    /// Whether it suffices for a route.
    #[must_use]
    pub fn suffices(self, needs: Self) -> bool {
        self == Self::Admin || self == needs
    }
}
