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
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What the person has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Neither flag.
    Nothing,
    /// Show it.
    DryRun,
    /// Do it.
    Yes,
}

impl Confirm {
    /// What was said.
    pub(super) const fn told(self) -> Told {
        match (self.yes, self.dry_run) {
            (true, _) => Told::Yes,
            (false, true) => Told::DryRun,
            (false, false) => Told::Nothing,
        }
    }

    /// Says that one of the flags is needed. `deed` says what the command does: `drops partitions`.
    pub(super) fn refuse(self, deed: &str) -> ExitCode {
        output::error(&anyhow::anyhow!("this {deed}, and was not confirmed"));
        output::hint("--dry-run shows what would be done, --yes does it");
        ExitCode::from(2)
    }
}
