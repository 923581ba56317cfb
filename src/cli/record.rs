//! `tallyd record`: one call from flags or JSON, or one a line from standard input.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value};

use tallyd_config::Config;

/// Record one call, or one a line from standard input. Prints the daemon's answer, a line of JSON a record, once the
/// record is on disk. Exits 0 if all were accepted, 3 if no daemon is running.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd record --provider claude --model claude-sonnet-4-5 --input-tokens 1200 --output-tokens 300 --user-id u1
  tallyd record --json '{\"provider\":\"rentcast\",\"endpoint\":\"/avm/value\",\"user_id\":\"u1\"}'
  tallyd record --stdin < calls.ndjson")]
pub(super) struct RecordArgs {
    /// The record as a JSON object
    #[arg(long, value_name = "OBJECT", conflicts_with_all = ["stdin", "provider"])]
    json: Option<String>,
    /// Read records from standard input, one JSON object a line
    #[arg(long, conflicts_with = "provider")]
    stdin: bool,
    /// claude, rentcast, openai …
    #[arg(long)]
    provider: Option<String>,
    /// The model as the vendor names it
    #[arg(long)]
    model: Option<String>,
    /// The endpoint's path
    #[arg(long)]
    endpoint: Option<String>,
    /// The user on whose behalf the call was made
    #[arg(long)]
    user_id: Option<String>,
    /// The application that made the call
    #[arg(long)]
    app: Option<String>,
    /// Prompt tokens at the full rate
    #[arg(long)]
    input_tokens: Option<u64>,
    /// Generated tokens
    #[arg(long)]
    output_tokens: Option<u64>,
    /// Prompt tokens read from a cache
    #[arg(long)]
    cache_read_tokens: Option<u64>,
    /// Prompt tokens written to a 5-minute cache
    #[arg(long)]
    cache_write_5m_tokens: Option<u64>,
    /// Prompt tokens written to a 1-hour cache
    #[arg(long)]
    cache_write_1h_tokens: Option<u64>,
    /// Billable requests [default: 1]
    #[arg(long)]
    requests: Option<u64>,
    /// standard, batch …
    #[arg(long)]
    service_tier: Option<String>,
    /// Where the model ran, if not at its vendor: bedrock, vertex, azure, openrouter
    #[arg(long)]
    platform: Option<String>,
    /// HTTP status [default: 200]
    #[arg(long)]
    status: Option<u16>,
    /// What the call cost, if the catalog should not say
    #[arg(long, value_name = "USD", allow_hyphen_values = true)]
    cost_usd: Option<String>,
    /// When it was made, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    occurred_at: Option<String>,
}

pub(super) fn run(args: &RecordArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let socket = config.socket_path();
    let stream = match UnixStream::connect(&socket) {
        Ok(stream) => stream,
        Err(error) => {
            let no_daemon = format!("no daemon answers on {}; start one with `tallyd serve`", socket.display());
            super::output::error(&anyhow::Error::new(error).context(no_daemon));
            return Ok(ExitCode::from(3));
        }
    };
    let answers = BufReader::new(stream.try_clone()?);
    let sending = std::thread::spawn({
        let lines = lines(args)?;
        move || send(stream, lines)
    });
    let mut accepted = true;
    for answer in answers.lines() {
        let answer =
            answer.context("the daemon closed the connection; what it has not answered may not be recorded")?;
        accepted &= answer.starts_with("{\"ok\":true");
        super::output::json_text(&answer);
    }
    let sent = sending.join().unwrap_or_else(|_| bail!("the sending thread panicked"))?;
    if sent == 0 {
        bail!("standard input held no record");
    }
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Lines = Box<dyn Iterator<Item = std::io::Result<String>> + Send>;

fn lines(args: &RecordArgs) -> anyhow::Result<Lines> {
    if args.stdin {
        return Ok(Box::new(BufReader::new(std::io::stdin()).lines()));
    }
    let line = match &args.json {
        // One line on the wire, however it was typed.
        Some(json) => json.replace(['\n', '\r'], " "),
        None if args.provider.is_some() => from_flags(args),
        None => bail!("nothing to record: give --provider, --json or --stdin; see `tallyd record --help`"),
    };
    Ok(Box::new(std::iter::once(Ok(line))))
}

fn from_flags(args: &RecordArgs) -> String {
    let texts = [
        ("provider", &args.provider),
        ("model", &args.model),
        ("endpoint", &args.endpoint),
        ("user_id", &args.user_id),
        ("app", &args.app),
        ("service_tier", &args.service_tier),
        ("platform", &args.platform),
        ("cost_usd", &args.cost_usd),
        ("occurred_at", &args.occurred_at),
    ];
    let numbers = [
        ("input_tokens", args.input_tokens),
        ("output_tokens", args.output_tokens),
        ("cache_read_tokens", args.cache_read_tokens),
        ("cache_write_5m_tokens", args.cache_write_5m_tokens),
        ("cache_write_1h_tokens", args.cache_write_1h_tokens),
        ("requests", args.requests),
        ("status", args.status.map(u64::from)),
    ];
    let texts = texts.iter().filter_map(|(name, text)| text.as_ref().map(|text| (*name, Value::from(text.as_str()))));
    let numbers = numbers.iter().filter_map(|(name, number)| number.map(|number| (*name, Value::from(number))));
    let record: Map<_, _> = texts.chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect();
    Value::Object(record).to_string()
}

fn send(mut stream: UnixStream, lines: Lines) -> anyhow::Result<u64> {
    let mut sent = 0;
    for line in lines {
        let line = line.context("standard input")?;
        if line.trim().is_empty() {
            continue;
        }
        sent += 1;
        stream.write_all(line.as_bytes())?;
        stream.write_all(b"\n")?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(sent)
}
