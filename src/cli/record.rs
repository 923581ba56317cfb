//! `tallyd record`: one call from flags or JSON, or a call on each line of standard input.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use tallyd_config::Config;

/// Record one call, or one a line from standard input. Prints the daemon's answer, a line of JSON a record, once the
/// record is on disk. Exits 0 if all were accepted, 3 if no daemon is running.
#[derive(Args)]
#[command(after_help = "Examples:
  tallyd record --provider claude --model claude-sonnet-5 --input-tokens 1200 --output-tokens 300 --user-id u1
  tallyd record --json '{\"provider\":\"rentcast\",\"endpoint\":\"/avm/value\",\"user_id\":\"u1\"}'
  tallyd record --stdin < calls.ndjson")]
pub(super) struct RecordArgs {
    /// The record as a JSON object
    #[arg(long, value_name = "OBJECT", conflicts_with_all = ["stdin", "provider"])]
    json: Option<String>,
    /// Read records from standard input, one JSON object a line
    #[arg(long, conflicts_with = "provider")]
    stdin: bool,
    #[command(flatten)]
    flags: Flags,
}

macro_rules! flags {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty = $default:expr, $kind:ident;)*) => {
        /// A flag for each field of the record; as JSON, the record.
        #[derive(Args, Serialize)]
        struct Flags {
            $(
                $(#[doc = $doc])*
                #[arg(long, allow_negative_numbers = true)]
                #[serde(skip_serializing_if = "Option::is_none")]
                $name: Option<flag::$kind>,
            )*
        }
    };
}

tallyd_protocol::for_each_field!(flags);

/// The types of flags, one for each kind of field. The daemon checks the rest.
#[expect(non_camel_case_types, reason = "the kinds' names")]
mod flag {
    pub(super) type id = String;
    /// RFC 3339.
    pub(super) type time = String;
    pub(super) type required = String;
    pub(super) type text = String;
    pub(super) type count = u64;
    pub(super) type units = tallyd_model::json::Text;
    pub(super) type status = u16;
    pub(super) type latency = u32;
    pub(super) type decimal = String;
    pub(super) type json = tallyd_model::json::Text;
    pub(super) type tags = tallyd_model::json::Text;
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
        let answer = answer.context("the daemon closed the connection; unanswered records may not be recorded")?;
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
        // One line on the wire, even if the argument has several.
        Some(json) => json.replace(['\n', '\r'], " "),
        None if args.flags.provider.is_some() => tallyd_model::json::to_string(&args.flags)?,
        None => bail!("nothing to record: give --provider, --json or --stdin; see `tallyd record --help`"),
    };
    Ok(Box::new(std::iter::once(Ok(line))))
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn the_flags_are_the_record_and_what_is_not_given_is_not_said() {
        let said =
            ["", "--provider", "x", "--cost-usd", "-0.5", "--status", "529", "--extra-units", r#"{"image":2.50}"#];
        let record = tallyd_model::json::to_string(&Line::parse_from(said).flags).unwrap();
        assert_eq!(record, r#"{"provider":"x","extra_units":{"image":2.50},"status":529,"cost_usd":"-0.5"}"#);
        for wrong in [["", "--metadata", "{"], ["", "--input-tokens", "1.5"], ["", "--status", "65536"]] {
            assert!(Line::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
