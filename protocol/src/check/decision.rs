//! The answer to a check, and its sentence.

use std::fmt;

use super::TAG;

/// The answer to a check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Decision {
    pub(super) remaining_usd: Option<String>,
    pub(super) refused: Option<BudgetExceeded>,
}

impl Decision {
    /// The answer while the state of budgets is unknown.
    pub const fn unknown(is_allowed: bool) -> Self {
        let refused = if is_allowed { None } else { Some(BudgetExceeded::Unknown) };
        Self { remaining_usd: None, refused }
    }

    /// Whether the call may be made.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.refused.is_none()
    }

    /// The least amount that is left of the call's budgets, USD as decimal text: `0` if one is used up, None if none is past
    /// its warning.
    #[must_use]
    pub fn remaining_usd(&self) -> Option<&str> {
        self.remaining_usd.as_deref()
    }

    /// Why the call is refused.
    #[must_use]
    pub const fn refused(&self) -> Option<&BudgetExceeded> {
        self.refused.as_ref()
    }

    /// The answer for `?`: an error if the call is refused.
    ///
    /// # Errors
    /// [`BudgetExceeded`].
    pub fn into_result(self) -> Result<(), BudgetExceeded> {
        self.refused.map_or(Ok(()), Err)
    }
}

/// Why a call is refused before it is made. A scope has the call's names by dimension; without one it is all spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetExceeded {
    /// A budget is used up.
    UsedUp {
        /// Its scope.
        scope: Vec<(String, String)>,
    },
    /// A budget has less left than the call may cost.
    TooLittleLeft {
        /// Its scope.
        scope: Vec<(String, String)>,
        /// USD that are left, as decimal text.
        left_usd: String,
        /// The call's estimate, as it was given.
        estimate_usd: String,
    },
    /// The state of budgets is unknown, and the setting says that calls are then refused.
    Unknown,
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UsedUp { scope } => write!(f, "the budget of {} is used up", Words(scope)),
            Self::TooLittleLeft { scope, left_usd, estimate_usd } => {
                let of = Words(scope);
                write!(f, "the budget of {of} has {left_usd} USD left, and the call may cost {estimate_usd} USD")
            }
            Self::Unknown => f.write_str("the state of budgets is not known: tallyd has not told it for 5 minutes"),
        }
    }
}

impl std::error::Error for BudgetExceeded {}

/// A scope in words: `tag team "search" and user "u-1"`.
struct Words<'a>(&'a [(String, String)]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("all spend");
        }
        for (at, (dimension, name)) in self.0.iter().enumerate() {
            let and = if at == 0 { "" } else { " and " };
            match dimension.strip_prefix(TAG) {
                Some(tag) => write!(f, "{and}tag {tag} {name:?}")?,
                None => write!(f, "{and}{dimension} {name:?}")?,
            }
        }
        Ok(())
    }
}
