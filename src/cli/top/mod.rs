//! `tallyd top`: the daemon's pulse at a terminal.
//!
//! | module | content |
//! |---|---|
//! | [`sample`] | what the daemon says at an instant, and rates of two of them |
//! | [`view`] | what is on the screen, and what keys do |
//! | [`draw`] | the picture |
//!
//! A thread asks the daemon; this one draws and listens to the keyboard. So the keys answer at once, also while a daemon hangs.
//! The terminal is restored however it ends: by a key, by SIGTERM, by a panic (ratatui's hook).

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
    /// What the table of today's costs shows: model, provider, app, user, endpoint or tag:NAME
    #[arg(long, value_name = "DIMENSION", default_value = "model", value_parser = by)]
    by: String,
    /// Look twice, an interval apart, print one picture as text, and end
    #[arg(long)]
    once: bool,
    /// Print a line of JSON at each look instead, until it is stopped; with --once a single one
    #[arg(long)]
    json: bool,
}

/// How long a key may wait for the screen.
const KEYS_EVERY: Duration = Duration::from_millis(50);
/// A picture that nobody has a terminal for.
const TEXT_SIZE: (u16, u16) = (80, 24);

/// What the other thread says.
enum Message {
    /// The daemon was looked at.
    Heard(Box<Result<Sample, String>>),
    /// SIGTERM.
    Stop,
}

fn by(text: &str) -> Result<String, String> {
    Dimension::parse(text).map(|dimension| dimension.name())
}

pub(super) fn run(args: &TopArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let interval = Duration::from_secs(args.interval);
    // A daemon that is not there at all is no picture.
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

/// Looks at the daemon at each interval until nobody listens.
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

/// One picture of two looks.
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

/// What a look prints as a line. A sum may be beyond 64 bits, which a tree of JSON values would not hold.
#[derive(Default, Serialize)]
struct Line<'a> {
    rates: Option<Throughput>,
    status: Option<&'a Status>,
    today: Option<&'a Today>,
    error: Option<&'a String>,
}

/// A line of JSON a look, from the second on.
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

/// The terminal, until somebody has seen enough.
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

/// What an event means; none for a change of size and for keys without a meaning.
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
