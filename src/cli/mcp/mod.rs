//! `tallyd mcp`: a server of the Model Context Protocol on standard input and output, with read-only tools.
//!
//! An assistant's program starts the command, and asks it in place of a person. Each tool is one `GET` of the daemon's
//! HTTP API ([`tools`]), so the role of the token decides, bounds and statement timeouts hold, and no second way to the
//! data exists. The command does not read the database: an assistant's machine often has only a token.
//!
//! *Transport*: a line of JSON a message ([`server`]). Messages are answered one after the other, because an assistant waits for
//! each answer, and a tool's time is bounded. Standard output has messages alone.
//!
//! *Without an SDK*: the official one changes features of `serde` and `futures-util` for the whole program and adds twelve crates, for
//! the four methods that tools need. `make test-mcp` holds this server to the official client of Python.

mod server;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use self::server::Server;
use self::tools::Daemon;
use tallyd_config::{Config, TlsListener};
use tallyd_model::json::Value;

/// Serve an assistant with costs: the Model Context Protocol on standard input and output
#[derive(Args)]
#[command(after_help = "Examples:
  TALLYD_HTTP_TOKEN=$(tallyd token create --name assistant --role read) tallyd mcp
  tallyd mcp --url https://tallyd.example.com --token-file ~/.config/tallyd/token
  claude mcp add tallyd -- tallyd mcp --token-file ~/.config/tallyd/token
Its tools only read: costs, top movers, why spend changed, the forecast, budgets, alerts, unpriced models, one user's days. They ask the
daemon's HTTP API with the token, whose role holds. docs/guide/mcp.md has the configurations of assistants.")]
pub(super) struct McpArgs {
    /// The daemon's HTTP address [default: http.listen of the configuration]
    #[arg(long, value_name = "URL", env = "TALLYD_HTTP")]
    url: Option<String>,
    /// A file with the token; otherwise TALLYD_HTTP_TOKEN has it. A token of the role `read` is enough
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

pub(super) fn run(args: &McpArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let scheme = if config.tls.of(TlsListener::Http).is_some() { "https" } else { "http" };
    let url = args.url.clone().unwrap_or_else(|| format!("{scheme}://{}", config.http.listen));
    if !url.starts_with("http://") && !url.starts_with("https://") {
        anyhow::bail!("--url: {url:?} does not begin with http:// or https://");
    }
    let token = match &args.token_file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("--token-file {}", file.display()))?,
        None => std::env::var("TALLYD_HTTP_TOKEN").unwrap_or_default(),
    };
    let token = token.trim().to_owned();
    if token.is_empty() {
        anyhow::bail!(
            "there is no token. hint: `tallyd token create --name assistant --role read` makes one; give it as TALLYD_HTTP_TOKEN or in \
             the file of --token-file"
        );
    }
    let daemon = Daemon { url: url.trim_end_matches('/').to_owned(), token };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server =
        Server { call: |name: &str, arguments: &Value| runtime.block_on(tools::call(&daemon, name, arguments)) };
    server.run(std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
