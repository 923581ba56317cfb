//! `tallyd serve`: the daemon.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::app::{App, StartOptions, exit_code};
use crate::log_lines::{Fields, JsonLines};
use tallyd_base::threads;
use tallyd_config::{Config, LogFormat};

/// Run the daemon until SIGTERM or SIGINT. SIGHUP reads log.filter again.
#[derive(Args, Default)]
#[command(after_help = "Examples:
  tallyd serve
  TALLYD_DATABASE_URL=postgresql://tally@db.example.com/app tallyd serve
  TALLYD_DATA_DIR=/var/lib/tallyd TALLYD_SOCKET=/run/tallyd/tallyd.sock tallyd serve")]
pub(super) struct ServeArgs {
    /// Go on from the state of a database that was restored to an earlier one: the records that the WAL
    /// still has are loaded on top of it
    #[arg(long)]
    accept_rewound_database: bool,
}

/// The least number of threads of the daemon's runtime; the WAL's writer has one of its own.
const WORKERS_MIN: usize = 2;

pub(super) fn run(
    args: &ServeArgs,
    config: Config,
    load: impl Fn() -> anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    let options = StartOptions { accept_rewound_database: args.accept_rewound_database };
    let set_filter = start_log(&config)?;
    let reload = || match load().and_then(|config| Ok(set_filter.reload(config.log.targets()?)?)) {
        Ok(()) => tracing::info!("SIGHUP: log.filter was read again; other settings wait for a restart"),
        Err(error) => tracing::error!(%error, "SIGHUP: nothing was changed"),
    };
    let workers = std::thread::available_parallelism().map_or(WORKERS_MIN, usize::from).max(WORKERS_MIN);
    threads::assure(workers)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .thread_name("tallyd")
        .build()?;
    let outcome = runtime.block_on(async {
        let app = App::start(config, options).await?;
        tell_ready();
        tokio::spawn(feed_watchdog());
        let stop = async {
            stop_signal(reload).await;
            tell_stopping();
        };
        app.run(stop).await
    });
    // A hanging task must not keep the process alive.
    runtime.shutdown_background();
    let code = ExitCode::from(exit_code(&outcome));
    if let Err(error) = outcome {
        super::output::error(&error.into());
    }
    Ok(code)
}

/// Returns once a signal tells the daemon to stop. Calls `reload` at each SIGHUP until then.
async fn stop_signal(reload: impl Fn()) {
    // Signal handlers can be installed in any process that has a runtime.
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    let mut hang_up = signal(SignalKind::hangup()).expect("SIGHUP can be handled");
    loop {
        tokio::select! {
            _ = terminate.recv() => return tracing::info!("SIGTERM"),
            _ = interrupt.recv() => return tracing::info!("SIGINT"),
            _ = hang_up.recv() => reload(),
        }
    }
}

fn tell_ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("records are accepted")]);
}

fn tell_stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("loading received records")]);
}

/// Feeds the watchdog at twice the rate that it asks for, for ever; returns at once if there is none. The feeding task
/// is on the runtime that serves producers, so a daemon whose threads hang is restarted. If the WAL's writer dies, the
/// daemon ends by itself.
async fn feed_watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(10)));
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Notifies systemd (`Type=notify`). Under any other supervisor `NOTIFY_SOCKET` is not set, and this does nothing.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the supervisor at NOTIFY_SOCKET was not told");
    }
}

/// Replaces the filter of the daemon log.
type SetFilter = reload::Handle<Targets, Registry>;

fn start_log(config: &Config) -> anyhow::Result<SetFilter> {
    let (filter, set_filter) = reload::Layer::new(config.log.targets()?);
    let log = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer();
    match config.log.format {
        LogFormat::Text => {
            let lines = lines.fmt_fields(Fields).with_target(false).with_writer(io::stderr);
            log.with(lines.with_ansi(io::stderr().is_terminal())).init();
        }
        LogFormat::Json => log.with(lines.json().with_ansi(false).with_writer(JsonLines::default)).init(),
    }
    Ok(set_filter)
}
