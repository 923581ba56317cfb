//! Confirmation of commands that delete or rewrite: `--yes` does it, `--dry-run` shows the effect, and without either
//! the command exits with 2.

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirmation {
    Nothing,
    DryRun,
    Yes,
}

impl Confirm {
    pub(super) const fn told(self) -> Confirmation {
        match (self.yes, self.dry_run) {
            (true, _) => Confirmation::Yes,
            (false, true) => Confirmation::DryRun,
            (false, false) => Confirmation::Nothing,
        }
    }

    /// Prints that one of the flags is needed. `deed` is the command's effect: `drops partitions`.
    pub(super) fn refuse(self, deed: &str) -> ExitCode {
        output::error(&anyhow::anyhow!("this {deed}, and was not confirmed"));
        output::hint("--dry-run shows the changes, --yes makes them");
        ExitCode::from(2)
    }
}
