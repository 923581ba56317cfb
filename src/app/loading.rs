//! The stages that need PostgreSQL: finds or starts it, migrates its schema, starts the lanes.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::build::lanes as configured_lanes;
use super::dimensions::DimensionTask;
use super::presence::{Presence, note_database};
use super::price_sync::PriceSyncTask;
use super::session_samples::SessionSamples;
use super::upkeep::Upkeep;
use crate::alerts::courier::Courier;
use crate::alerts::reports::ReportTask;
use crate::alerts::rules::RuleTask;
use crate::budgets::watch::BudgetWatch;
use crate::http::{Daemon, Loading};
use crate::shutdown::Stage;
use crate::vendors::VendorTask;
use tallyd_base::clock::SystemClock;
use tallyd_base::registry;
use tallyd_config::{Config, UserIndex};
use tallyd_model::pricing::Catalog;
use tallyd_model::rollup::day::Days;
use tallyd_model::rollup::guard::{KeyBounds, KeyGuard};
use tallyd_pipeline::flusher::lane::Lane;
use tallyd_pipeline::flusher::merge::{DeltasState, Merging};
use tallyd_pipeline::flusher::{FlushOptions, Flusher, LaneState, Trouble};
use tallyd_pipeline::metrics::FlushMetrics;
use tallyd_pipeline::standing::Standing;
use tallyd_store::load::Loader;
use tallyd_store::load::earlier::EarlierCalls;
use tallyd_store::load::partitions::Partitions;
use tallyd_store::prices::feed::PriceFeed;
use tallyd_store::prices::write_catalog;
use tallyd_store::{
    ConnectError, CopyAccess, Database, DatabaseError, DatabaseOptions, FailureClass, MigrateError, MigrateOptions,
    describe, migrate,
};
use tallyd_wal::WalError;

/// The pause before the migration is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why loading cannot begin. Waiting would not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadingError {
    /// The database's address is wrong, or the private PostgreSQL does not start.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The schema contradicts the configuration.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

/// State of the data plane that is renewed from the database.
pub(super) struct Live {
    pub catalog: Arc<ArcSwap<Catalog>>,
    pub budgets: Arc<Standing>,
}

/// Starts the lanes once the schema is in place. Waits for as long as the database is down.
pub(super) async fn open(
    config: &Config,
    accept_rewound: bool,
    live: &Live,
    daemon: &Arc<Daemon>,
    stop: CancellationToken,
    lanes: &mut Stage<WalError>,
) -> Result<(), LoadingError> {
    let database = Arc::new(Database::open(&DatabaseOptions::from(config)).await?);
    let (is_migrated, migrated) = watch::channel(false);
    let flusher = Arc::new(flusher(config, accept_rewound, daemon, &database, migrated));
    for number in 0..flusher.lanes.len() {
        // A lane's number has 16 bits.
        let number = number as u16;
        lanes.spawn(format!("flusher lane {number}"), Lane::new(Arc::clone(&flusher), number, stop.clone()).run());
    }
    lanes.spawn("merge", {
        let merging = Merging { flusher: Arc::clone(&flusher) };
        let stop = stop.clone();
        async move {
            merging.run(stop).await;
            Ok(())
        }
    });
    let pool = database.pool(config.http.pool_size);
    // Set once, here.
    let loading = Loading {
        flusher: Arc::clone(&flusher),
        database: Arc::clone(&database),
        pool,
        schema: Mutex::default(),
        is_up: AtomicBool::new(false),
    };
    let _ = daemon.loading.set(loading);
    bring_up_to_date(config, &database, daemon, &live.catalog.load()).await?;
    let presence = Presence::new(config, daemon, Arc::clone(&database));
    lanes.spawn("presence", {
        let stop = stop.clone();
        async move {
            presence.run(stop).await;
            Ok(())
        }
    });
    is_migrated.send_replace(true);
    tell_link(config, daemon);
    let feed = PriceFeed {
        database: Arc::clone(&database),
        options: config.pricing.clone(),
        catalog: Arc::clone(&live.catalog),
        data_dir: config.data_dir.clone(),
    };
    lanes.spawn("prices", {
        let stop = stop.clone();
        async move {
            feed.run(stop).await;
            Ok(())
        }
    });
    let budgets = BudgetWatch {
        database: Arc::clone(&database),
        options: config.alerts.clone(),
        zone: config.rollup.time_zone,
        clock: Arc::new(SystemClock),
        flusher: Arc::clone(&flusher),
        standing: Arc::clone(&live.budgets),
        catalog: Arc::clone(&live.catalog),
    };
    lanes.spawn("budgets", {
        let stop = stop.clone();
        async move {
            budgets.run(stop).await;
            Ok(())
        }
    });
    if !config.alerts.all_routes().is_empty() {
        let courier = Courier {
            database: Arc::clone(&database),
            options: config.alerts.clone(),
            zone: config.rollup.time_zone,
            clock: Arc::new(SystemClock),
        };
        let stop = stop.clone();
        lanes.spawn("messages", async move {
            courier.run(stop).await;
            Ok(())
        });
    }
    let rules = RuleTask::new(config, &database);
    lanes.spawn("alert rules", {
        let stop = stop.clone();
        async move {
            rules.run(stop).await;
            Ok(())
        }
    });
    if config.reports.is_any() {
        let reports = ReportTask {
            database: Arc::clone(&database),
            options: config.reports.clone(),
            interval: config.alerts.interval,
            zone: config.rollup.time_zone,
            clock: Arc::new(SystemClock),
        };
        let stop = stop.clone();
        lanes.spawn("reports", async move {
            reports.run(stop).await;
            Ok(())
        });
    }
    if let Some(task) = PriceSyncTask::new(config, &database) {
        let stop = stop.clone();
        lanes.spawn("price list", async move {
            task.run(stop).await;
            Ok(())
        });
    }
    if let Some(task) = VendorTask::new(&daemon.config, &database) {
        let stop = stop.clone();
        lanes.spawn("vendor bills", async move {
            task.run(stop).await;
            Ok(())
        });
    }
    let dimensions = DimensionTask::new(config, &database);
    lanes.spawn("dimensions", {
        let stop = stop.clone();
        async move {
            dimensions.run(stop).await;
            Ok(())
        }
    });
    let samples = SessionSamples::new(config, &database);
    lanes.spawn("session samples", {
        let stop = stop.clone();
        async move {
            samples.run(stop).await;
            Ok(())
        }
    });
    let upkeep = Upkeep::new(config, database, live.catalog.load_full());
    lanes.spawn("upkeep", async move {
        upkeep.run(stop).await;
        Ok(())
    });
    Ok(())
}

/// Logs a link to the page, if stderr is a terminal and the database is private. The person at this terminal owns that
/// database. Elsewhere logs are kept and read by others, and `tallyd open` makes the link.
fn tell_link(config: &Config, daemon: &Daemon) {
    if config.database.url.is_none()
        && std::io::stderr().is_terminal()
        && let Some(link) = daemon.link()
    {
        tracing::info!(link, "the admin page; this link signs in once, within 15 minutes");
    }
}

fn flusher(
    config: &Config,
    accept_rewound: bool,
    daemon: &Arc<Daemon>,
    database: &Arc<Database>,
    migrated: watch::Receiver<bool>,
) -> Flusher {
    let options = &config.flusher;
    // Segments that were written with more lanes need as many to drain.
    let count = configured_lanes(config).max(daemon.wal.lanes());
    daemon.wal.commits.begin(usize::from(count));
    let committed = daemon.wal.committed_at_start();
    let starting_at = |lane: u16| committed.get(usize::from(lane)).copied().unwrap_or(0);
    let loader = Loader {
        wal: Arc::clone(&daemon.wal),
        partitions: Partitions::new(config.log_table.partition),
        guard: KeyGuard::new(KeyBounds {
            models: config.rollup.max_models_per_day,
            endpoints: config.rollup.max_endpoints_per_day,
            apps: config.rollup.max_apps_per_day,
            values: config.dimensions.max_values_per_day,
        }),
        days: Days::new(config.rollup.time_zone),
        clock: Arc::new(SystemClock),
        quota: Arc::clone(&daemon.quota),
        by_user: config.log_table.user_index == UserIndex::Always,
        lanes: usize::from(count),
        spend: Arc::default(),
        earlier: EarlierCalls::new(daemon.wal.buffer_id(), config.wal.identity_window),
    };
    Flusher {
        loader,
        database: Arc::clone(database),
        options: FlushOptions {
            max_batch_records: options.max_batch_records,
            flush_interval: options.flush_interval,
            deadline: options.statement_deadline,
            retry_min: options.retry_min,
            retry_max: options.retry_max,
            accept_rewound,
        },
        lanes: (0..count).map(|lane| LaneState::starting_at(starting_at(lane))).collect(),
        migrated,
        committed_records: AtomicU64::new(0),
        deltas: DeltasState::default(),
    }
}

async fn bring_up_to_date(
    config: &Config,
    database: &Database,
    daemon: &Daemon,
    catalog: &Catalog,
) -> Result<(), LoadingError> {
    let options = MigrateOptions::from(config);
    let mut last = String::new();
    loop {
        let connected = database.connect("tallyd migrate").await;
        let is_up = |error: &ConnectError| error.class() != FailureClass::Transient;
        note_database(daemon, connected.as_ref().err().is_none_or(is_up));
        let (class, message) = match connected {
            Ok(mut connection) => match migrate(&mut connection, &options).await {
                Ok(report) => {
                    let database = database.redacted_url();
                    tracing::info!(
                        database,
                        applied = report.applied.len(),
                        history_rewritten = report.history_rewritten,
                        "the database answers, and its schema is up to date"
                    );
                    if matches!(report.access.copy, CopyAccess::Refused { .. }) {
                        tracing::warn!(advice = report.access.advice().join("; "), "the daemon's role cannot load");
                    }
                    // Before the first request: a client that reads an empty list of prices keeps it for a minute.
                    if let Err(error) = write_catalog(&connection, catalog).await {
                        tracing::warn!(error = describe(&error), "prices could not be written; upkeep tries again");
                    }
                    note_schema(daemon, None);
                    return Ok(());
                }
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) => (error.class(), error.to_string()),
            },
            Err(error) => (error.class(), error.to_string()),
        };
        FlushMetrics::failed(class);
        if message != last {
            tracing::warn!(
                class = class.name(),
                error = message,
                "the schema cannot be brought up to date yet; records are accepted meanwhile"
            );
            last.clone_from(&message);
        }
        note_schema(daemon, Some(Trouble { hold: class == FailureClass::Hold, message }));
        tokio::time::sleep(RETRY).await;
    }
}

/// Sets the schema's trouble, or none, for health and metrics.
fn note_schema(daemon: &Daemon, trouble: Option<Trouble>) {
    let holds = trouble.as_ref().is_some_and(|trouble| trouble.hold);
    metrics::gauge!(registry::FLUSH_HOLD, "lane" => "schema").set(f64::from(u8::from(holds)));
    if let Some(loading) = daemon.loading.get() {
        *loading.schema.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
