//! `tallyd open`: a link to the running daemon's page that signs in once.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::config::Config;
use crate::http::page::link::Link;
use crate::http::socket::{self, AskError};

/// Print a link to the running daemon's page that signs in once, as admin, within five minutes. Works where the page is on
/// this machine alone. Exits 3 if no daemon is running.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd open\n  xdg-open \"$(tallyd open)\"\n  tallyd open --json | jq -r .url")]
pub struct OpenArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &OpenArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let answer = super::block_on(async { Ok(socket::post(&config.data_dir, "/open").await) })?;
    let body = match answer {
        Ok(body) => body,
        Err(error @ AskError::NotRunning(_)) => {
            output::error(&error.into());
            return Ok(ExitCode::from(3));
        }
        Err(error) => return Err(error.into()),
    };
    let link: Link = serde_json::from_slice(&body)?;
    if args.json {
        output::json(&link)?;
    } else {
        println!("{}", link.url);
    }
    Ok(ExitCode::SUCCESS)
}
