//! `tallyd completions` and `tallyd man`: the command line in the formats of shells and of `man`. Packages are built
//! from both.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

/// Print a completion script for a shell.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd completions bash > ~/.local/share/bash-completion/completions/tallyd
  tallyd completions zsh > ~/.zfunc/_tallyd
  tallyd completions fish > ~/.config/fish/completions/tallyd.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write the man page of every command into a folder.
#[derive(Args)]
#[command(after_help = "Example:\n  tallyd man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// The folder; it is made if it is not there
    folder: PathBuf,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "tallyd", &mut script);
    print!("{}", String::from_utf8(script)?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.display();
    std::fs::create_dir_all(&args.folder).with_context(|| format!("cannot make the folder {folder}"))?;
    // The page must not include values from this environment.
    let command = super::command().mut_args(|arg| arg.hide_env_values(true)).version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, &args.folder).with_context(|| format!("cannot write man pages to {folder}"))?;
    Ok(ExitCode::SUCCESS)
}
