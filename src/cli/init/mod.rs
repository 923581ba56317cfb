//! `tallyd init`: five prompts, and the files for a first start and an application.
//!
//! Each prompt has a flag. Without a terminal on standard input, or with `--defaults`, there are no prompts: flags and
//! defaults apply. All files are written or none: a file that exists already ends the command, unless `--force` is
//! given. The new config.toml is first loaded as a configuration, so a wrong answer gives the same error as in `tallyd
//! config check`. Only their owner may read files with a secret.

mod files;
mod prompts;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use self::files::File;
use self::prompts::Answers;
use super::output;
use tallyd_config::Config;
use tallyd_store::embedded;

/// Prompt for five settings; write config.toml, the application's environment with a token, an example, and monitoring.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd init
  tallyd init --defaults --language python
  tallyd init deploy --database-url postgresql://tallyd:secret@db/app?sslmode=verify-full --connect tcp --monitoring grafana")]
pub(super) struct InitArgs {
    /// The folder to write to; it is made if it is not there
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// How applications connect [default: socket]
    #[arg(long, value_name = "HOW")]
    connect: Option<Connect>,
    /// The application's language [default: by the folder's files]
    #[arg(long)]
    language: Option<Language>,
    /// Files for monitoring the daemon [default: none]
    #[arg(long)]
    monitoring: Option<Monitoring>,
    /// Ask nothing: take flags and defaults
    #[arg(long)]
    defaults: bool,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// How applications reach the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Connect {
    /// A Unix socket: applications on this machine
    Socket,
    /// A TCP port, with a token: applications in other containers of a private network
    Tcp,
}

/// The example's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    /// JavaScript or TypeScript, with the package `tallyd` of npm
    Node,
    /// Python, with the package `tallyd` of PyPI
    Python,
    /// Rust, with the crate `tallyd-client`
    Rust,
    /// Any other: the command line
    Shell,
}

/// The monitoring that files are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Monitoring {
    /// Prometheus' and Grafana's provisioning: alerts, sources, dashboards
    Grafana,
    /// Nothing
    None,
}

pub(super) fn run(args: &InitArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let answers = prompts::ask(args, config)?;
    let files = files::of(&answers)?;
    check(&files)?;
    let standing: Vec<_> = files.iter().map(|file| args.folder.join(&file.path)).filter(|path| path.exists()).collect();
    if let (false, Some(first)) = (args.force, standing.first()) {
        let more = match standing.len() {
            1 => String::new(),
            many => format!(" and {} more", many - 1),
        };
        bail!(
            "{}{more} would be replaced, and nothing was written. hint: --force replaces what is there",
            first.display()
        );
    }
    for file in &files {
        let path = args.folder.join(&file.path);
        write(&path, file).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    next_steps(args, &answers);
    Ok(ExitCode::SUCCESS)
}

/// Checks that the daemon accepts the configuration.
fn check(files: &[File]) -> anyhow::Result<()> {
    let config = files.iter().find(|file| file.path == Path::new("config.toml"));
    // One of the files is always the configuration.
    let text = config.map_or("", |file| file.text.as_str());
    Config::from_text(text, [])?;
    Ok(())
}

fn write(path: &Path, file: &File) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mode = if file.is_secret { 0o600 } else { 0o644 };
    let mut written = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    if file.is_secret {
        // A file that existed before keeps its mode otherwise.
        written.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    written.write_all(file.text.as_bytes())
}

/// The next steps, on standard error.
fn next_steps(args: &InitArgs, answers: &Answers) {
    if answers.database_url.is_none()
        && let Err(error) = embedded::server_programs(None)
    {
        output::hint(&error.to_string());
    }
    let folder = args.folder.display();
    let example = files::example(answers.language);
    let config = if args.folder == Path::new(".") { String::new() } else { format!(" --config {folder}/config.toml") };
    eprintln!("start the daemon:   tallyd{config}");
    eprintln!(
        "record a call:      set -a; . {folder}/{}; {}",
        files::ENVIRONMENT,
        example.command(&folder.to_string())
    );
    eprintln!("see it:             tallyd{config} costs; tallyd{config} open");
    eprintln!("if something fails: tallyd{config} doctor");
    if answers.has_secret() {
        output::hint(&format!(
            "config.toml or {} holds a secret: keep both out of version control",
            files::ENVIRONMENT
        ));
    }
}
