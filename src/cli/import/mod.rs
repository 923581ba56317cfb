//! placeholder
use std::process::ExitCode;
/// placeholder
#[derive(clap::Args)]
pub struct ImportArgs {}
pub fn run(_a: &ImportArgs, _c: &crate::config::Config) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
