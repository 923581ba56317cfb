//! `tallyd open`: a link into the admin page.

use std::process::ExitCode;

use clap::Args;

use super::output;
use crate::http::socket::{self, AskError};
use tallyd_config::Config;

/// Print a link that signs in to the admin page of the running daemon: once, within 15 minutes, for 12 hours. Exits 3 if no
/// daemon is running.
#[derive(Args)]
#[command(after_help = "Examples:\n  tallyd open\n  xdg-open \"$(tallyd open)\"")]
pub(super) struct OpenArgs {}

pub(super) fn run(_args: &OpenArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match super::block_on(async { Ok(socket::get(&config.data_dir, "/link").await) })? {
        Ok(link) => {
            println!("{}", String::from_utf8_lossy(&link));
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ AskError::NotRunning(_)) => {
            output::error(&error.into());
            Ok(ExitCode::from(3))
        }
        Err(error) => Err(error.into()),
    }
}
