//! placeholder
use std::process::ExitCode;
/// placeholder
#[derive(clap::Args)]
pub struct DemoArgs {}
pub fn run(_a: &DemoArgs, _c: &crate::config::Config) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
