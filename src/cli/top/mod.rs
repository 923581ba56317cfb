//! `tallyd top`: the daemon's live state at a terminal.
//!
//! | module | content |
//! |---|---|
//! | [`sample`] | the daemon's state at an instant, and rates between two of them |
//! | [`view`] | the state of the screen, and the effect of keys |
//! | [`draw`] | the picture |
//!
//! One thread takes samples of the daemon; this one draws and reads the keyboard. So keys work at once, even while a
//! daemon hangs. The terminal is restored after a key, SIGTERM, or a panic (ratatui's hook).

mod draw;
mod sample;
mod view;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::sample::{Sample, Throughput};
use self::view::{Action, View};
use super::output;
use crate::http::socket::AskError;
use crate::http::{Status, Today};
use tallyd_config::Config;
use tallyd_store::queries::grouped::Dimension;

/// Watch the running daemon: rates, the WAL, today's cost by model. Exits 3 if none is running at its start.
#[derive(Args)]
#[command(after_help = "Where standard output is not a terminal it prints one picture, as with --once.

Keys: q quit, p pause, Tab sort, arrows scroll, ? help.

Examples:
  tallyd top
  tallyd top --once
  tallyd top --by tag:team
  tallyd top --json --interval 10 | jq -c '[.rates.acked, .status.wal.unflushed_records]'")]
pub(super) struct TopArgs {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Groups of today's costs: model, provider, app, user, endpoint or tag:NAME
    #[arg(long, value_name = "DIMENSION", default_value = "model", value_parser = by)]
    by: String,
    /// Look twice, an interval apart, print one picture as text, and end
    #[arg(long)]
    once: bool,
    /// Print a line of JSON at each look instead, until it is stopped; with --once a single one
    #[arg(long)]
    json: bool,
}

/// The longest wait before a key is handled.
const KEYS_EVERY: Duration = Duration::from_millis(50);
/// The size of the picture without a terminal.
const TEXT_SIZE: (u16, u16) = (80, 24);

/// A message from the sampling thread.
enum Message {
    /// A sample, or the error of taking one.
    Heard(Box<Result<Sample, String>>),
    /// SIGTERM.
    Stop,
}

fn by(text: &str) -> Result<String, String> {
    Dimension::parse(text).map(|dimension| dimension.name())
}

pub(super) fn run(args: &TopArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let interval = Duration::from_secs(args.interval);
    // Without a daemon there is nothing to draw.
    if let Err(error @ AskError::NotRunning(_)) =
        super::block_on(async { Ok(Sample::take(&config.data_dir, &args.by).await) })?
    {
        output::error(&error.into());
        return Ok(ExitCode::from(3));
    }
    let (sender, messages) = channel();
    let (data_dir, by) = (config.data_dir.clone(), args.by.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before the terminal is changed: from here on SIGTERM is a message, and the terminal is restored after it.
    let terminate = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    let looking = move || runtime.block_on(samples((&data_dir, &by), interval, &sender, terminate));
    std::thread::Builder::new().name("samples".into()).spawn(looking)?;
    let on_terminal = std::io::stdout().is_terminal();
    if args.json {
        lines(&messages, args.once)
    } else if args.once || !on_terminal {
        picture(&messages)?;
        if !args.once {
            output::hint("standard output is not a terminal: this was one picture; --json goes on");
        }
        Ok(ExitCode::SUCCESS)
    } else {
        live(&messages)
    }
}

/// Takes a sample at each interval until the receiver is gone.
async fn samples((data_dir, by): (&Path, &str), interval: Duration, sender: &Sender<Message>, mut terminate: Signal) {
    let stopping = sender.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        let _ = stopping.send(Message::Stop);
    });
    loop {
        let heard = Sample::take(data_dir, by).await.map_err(|error| error.to_string());
        if sender.send(Message::Heard(Box::new(heard))).is_err() {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

/// Prints one picture of two samples.
fn picture(messages: &Receiver<Message>) -> anyhow::Result<()> {
    let mut view = View::default();
    for _ in 0..2 {
        match messages.recv()? {
            Message::Heard(heard) => view.hear(*heard),
            Message::Stop => break,
        }
    }
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(TEXT_SIZE.0);
    print!("{}", draw::text(&view, width.clamp(20, 400), TEXT_SIZE.1));
    Ok(())
}

/// A sample as a line of JSON. A sum may be beyond 64 bits, which a tree of JSON values could not represent.
#[derive(Default, Serialize)]
struct Line<'a> {
    rates: Option<Throughput>,
    status: Option<&'a Status>,
    today: Option<&'a Today>,
    error: Option<&'a String>,
}

/// Prints a line of JSON for each sample, from the second on.
fn lines(messages: &Receiver<Message>, once: bool) -> anyhow::Result<ExitCode> {
    let mut before: Option<Sample> = None;
    let mut out = output::Stream::new();
    loop {
        let heard = match messages.recv()? {
            Message::Heard(heard) => *heard,
            Message::Stop => return Ok(ExitCode::SUCCESS),
        };
        let line = match &heard {
            Ok(sample) => before.as_ref().map(|before| Line {
                rates: sample.since(before),
                status: Some(&sample.status),
                today: sample.today.as_ref(),
                error: None,
            }),
            Err(error) => Some(Line { error: Some(error), ..Line::default() }),
        };
        let is_read = line.map(|line| out.line(&line)).transpose()?;
        before = heard.ok().or(before);
        let Some(is_read) = is_read else { continue };
        if !is_read || !out.flush()? || once {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Draws on the terminal until the person quits.
fn live(messages: &Receiver<Message>) -> anyhow::Result<ExitCode> {
    let mut terminal = ratatui::try_init()?;
    let outcome = (|| {
        let mut view = View::default();
        let mut changed = true;
        loop {
            if changed {
                terminal.draw(|frame| draw::draw(&view, frame.area(), frame.buffer_mut()))?;
            }
            changed = false;
            match messages.recv_timeout(Duration::ZERO) {
                Ok(Message::Heard(heard)) => {
                    view.hear(*heard);
                    changed = true;
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if event::poll(KEYS_EVERY)? {
                let event = event::read()?;
                changed = true;
                if action(&event).is_some_and(|action| !view.act(action)) {
                    return Ok(());
                }
            }
        }
    })();
    ratatui::try_restore()?;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// The action for an event; none for a change of size and for keys without a meaning.
fn action(event: &Event) -> Option<Action> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = event else {
        return None;
    };
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Action::Quit),
        KeyCode::Char('p' | ' ') => Some(Action::Pause),
        KeyCode::Char('?' | 'h') => Some(Action::Help),
        KeyCode::Tab | KeyCode::Right => Some(Action::SortNext),
        KeyCode::BackTab | KeyCode::Left => Some(Action::SortBack),
        KeyCode::Down | KeyCode::Char('j') => Some(Action::Down),
        KeyCode::Up | KeyCode::Char('k') => Some(Action::Up),
        _ => None,
    }
}
