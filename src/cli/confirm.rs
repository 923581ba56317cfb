//! The one way in which a command that deletes or rewrites is confirmed: `--yes` does it, `--dry-run` shows what it would do, and
//! without either it exits 2.

use std::process::ExitCode;

use clap::Args;

use super::output;

/// The two flags.
#[derive(Args, Debug, Clone, Copy)]
pub(super) struct Confirm {
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Show the changes without making them
    #[arg(long)]
    dry_run: bool,
}

/// The person's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    /// Neither flag.
    Nothing,
    /// Show it.
    DryRun,
    /// Do it.
    Yes,
}

impl Confirm {
    /// The answer that the flags give.
    pub(super) const fn told(self) -> Confirmation {
        match (self.yes, self.dry_run) {
            (true, _) => Confirmation::Yes,
            (false, true) => Confirmation::DryRun,
            (false, false) => Confirmation::Nothing,
        }
    }

    /// Says that one of the flags is needed. `deed` is the command's effect: `drops partitions`.
    pub(super) fn refuse(self, deed: &str) -> ExitCode {
        output::error(&anyhow::anyhow!("this {deed}, and was not confirmed"));
        output::hint("--dry-run shows the changes, --yes makes them");
        ExitCode::from(2)
    }
}
