//! Builds the stages up to the point where records are accepted.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio::sync::{OnceCell, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::resources::{Connections, Questions, connections};
use super::{App, AppError, StartOptions, WriterThread, background};
use crate::http::{self, Daemon};
use crate::lock::DataLock;
use crate::metrics;
use crate::shutdown::Stage;
use tallyd_base::clock::{Clock, SystemClock};
use tallyd_config::{self, Config, Tls, TlsListener};
use tallyd_intake::Rules;
use tallyd_model::pricing::{Added, Catalog, CatalogError};
use tallyd_pipeline::connection::{self, ConnectionSlots, WireLimits};
use tallyd_pipeline::listener::{self, BindError, Door, ServeHttp};
use tallyd_pipeline::metrics::{FlushMetrics, IngestMetrics};
use tallyd_pipeline::seats::{SeatBounds, Seats};
use tallyd_pipeline::tls::{ListenerTls, TlsError};
use tallyd_store::dead_letters::quota::Quota;
use tallyd_store::prices::cache;
use tallyd_wal::append::Appender;
use tallyd_wal::channel::{self, ChunkReceiver};
use tallyd_wal::producers::{GRACE, Producers};
use tallyd_wal::recovery::{Recovery, recover};
use tallyd_wal::space::{Space, SpaceBounds};
use tallyd_wal::store::Engine;
use tallyd_wal::wal::Wal;
use tallyd_wal::window::{self, IdentityWindow};
use tallyd_wal::writer::{SyncMode, WalMetrics, Writer, WriterState};

/// The most connections of `http.metrics_listen`: a few scrapers and probes.
const METRICS_CONNECTIONS: usize = 64;

/// Starts everything that does not need the database.
pub(super) async fn start(config: Arc<Config>, options: StartOptions) -> Result<App, AppError> {
    let started = Instant::now();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let lock = DataLock::take(&config.data_dir, "tallyd serve")?;
    let renderer = metrics::install().map_err(|error| AppError::Metrics(error.to_string()))?;
    FlushMetrics::begin();
    ::metrics::gauge!(tallyd_base::registry::WAL_MAX_BYTES).set(config.wal.max_bytes as f64);
    // Thousands of prices are read while the WAL waits for the disk.
    let prices = tokio::task::spawn_blocking({
        let config = Arc::clone(&config);
        move || catalog(&config)
    });
    let (chunk_sender, receiver) = channel::channel(config.wal.channel_bytes);
    let (wal, writer) = start_writer(&config, receiver, &clock)?;
    let catalog = prices.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    let context = Arc::new(connection::IngestContext {
        chunks: chunk_sender.clone(),
        lanes: lanes(&config),
        rules: rules(&config),
        limits: wire_limits(&config),
        ack: config.wal.ack,
        catalog: Arc::new(ArcSwap::from_pointee(catalog)),
        budgets: Arc::default(),
        clock,
        metrics: IngestMetrics::default(),
        rooms: Arc::default(),
        quota: Arc::new(Quota::new((&config.dead_letters).into())),
    });
    let auth = http::auth::Auth::new(&config, &context.clock);
    let daemon = Arc::new(Daemon {
        metrics: renderer,
        wal,
        writer: Arc::clone(&writer.state),
        chunk_sender: Mutex::new(Some(chunk_sender)),
        accepting: AtomicBool::new(false),
        quota: Arc::clone(&context.quota),
        ingest: Mutex::new(Some(Arc::clone(&context))),
        auth,
        clock: Arc::clone(&context.clock),
        settings: http_settings(&config),
        config: Arc::clone(&config),
        codes: http::page::codes::Codes::default(),
        address: OnceLock::new(),
        grpc_address: OnceLock::new(),
        loading: OnceCell::new(),
        started,
        socket: config.socket_path().display().to_string(),
        data_dir: config.data_dir.display().to_string(),
    });
    let questions = Questions::start().map_err(|error| AppError::Threads(error.to_string()))?;
    let strangers = if config.listen.tcp.is_some() { config.listen.max_strangers } else { 0 };
    let mut open = connections(&Connections {
        producers: config.listen.max_connections + strangers,
        http: config.http.max_connections,
    });
    open.producers = open.producers.saturating_sub(strangers).max(1);
    if let Some(url) = config.auth.unprotected_url() {
        tracing::warn!(url, "the issuer is asked over plain HTTP: who is on the way can let anybody in; use https");
    }
    let mut certificates = Certificates { tls: &config.tls, made: Vec::new() };
    let http = serve_http(&config, &daemon, &questions, open.http, &mut certificates).await?;
    let stop_listening = CancellationToken::new();
    let stop_loading = CancellationToken::new();
    let tcp_tls = certificates.of(TlsListener::Tcp)?;
    let listeners = listen(&daemon, &context, &stop_listening, open.producers, tcp_tls).await?;
    daemon.accepting.store(true, std::sync::atomic::Ordering::Relaxed);
    tracing::info!(
        socket = daemon.socket,
        http = config.http.listen,
        unflushed = daemon.wal.unflushed_records(),
        after_ms = started.elapsed().as_millis() as u64,
        "records are accepted"
    );
    let background = background::spawn(&daemon, certificates.made);
    Ok(App {
        config,
        options,
        _lock: lock,
        context,
        daemon,
        writer,
        stop_listening,
        stop_loading,
        listeners,
        http,
        background,
        questions,
    })
}

/// The prices at the start: the copy of the database's prices on disk, until the database answers.
fn catalog(config: &Config) -> Result<Catalog, CatalogError> {
    let (catalog, _) = Catalog::layered(&config.pricing, &cache::read(&config.data_dir)).or_else(|error| {
        tracing::error!(%error, "the copy of the added prices is left out");
        Catalog::layered(&config.pricing, &Added::default())
    })?;
    Ok(catalog)
}

fn start_writer(
    config: &Config,
    receiver: ChunkReceiver,
    clock: &Arc<dyn Clock>,
) -> Result<(Arc<Wal>, WriterThread), AppError> {
    let folder = config.data_dir.join("wal");
    // A number of days, which fits.
    let idle_us = i64::try_from(config.wal.producer_idle.as_micros()).unwrap_or(i64::MAX);
    let mut producers = Producers::new(config.wal.max_producers, idle_us, GRACE);
    let recovery = Recovery {
        folder: &folder,
        engine: Engine::Sled,
        new_buffer_id: Uuid::now_v7(),
        now_us: clock.now_us(),
        may_lose_committed: config.wal.sync != tallyd_config::Sync::Always,
    };
    let (recovered, mark) = recover(&recovery, &mut producers)?;
    let bounds = window::WindowBounds { span: config.wal.identity_window, max: config.wal.max_identities };
    let window = IdentityWindow::open(&folder, bounds, clock.now_us())?;
    let wal = Wal::new(&folder, &recovered, config.wal.recent_bytes);
    let snapshot = producers.snapshot(clock.now_us());
    let appender = Appender::new(Arc::clone(&wal), mark, recovered.next_key, lanes(config), snapshot)?;
    let state = Arc::new(WriterState::new(window.state()));
    let writer = Writer {
        receiver,
        appender,
        wal: Arc::clone(&wal),
        producers,
        window,
        space: space(&folder, &config.wal),
        sync: sync(&config.wal),
        segment_bytes: config.wal.segment_bytes,
        clock: Arc::clone(clock),
        state: Arc::clone(&state),
        metrics: WalMetrics::default(),
    };
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("tallyd-wal".into()).spawn(move || {
        // The receiver is gone while the daemon ends.
        let _ = end.send(writer.run());
    });
    // Not joined: the thread sends its result itself.
    drop(thread.map_err(|error| AppError::Threads(error.to_string()))?);
    Ok((wal, WriterThread { ended, state }))
}

/// The number of lanes; the configuration bounds it.
pub(super) fn lanes(config: &Config) -> u16 {
    u16::try_from(config.flusher.lanes).unwrap_or(u16::MAX)
}

fn sync(wal: &tallyd_config::Wal) -> SyncMode {
    match wal.sync {
        tallyd_config::Sync::Always => SyncMode::Always,
        tallyd_config::Sync::Interval => SyncMode::Interval(wal.interval),
        tallyd_config::Sync::Os => SyncMode::Os,
    }
}

fn space(folder: &Path, wal: &tallyd_config::Wal) -> Space {
    Space::new(folder, SpaceBounds { max_bytes: wal.max_bytes, min_free_bytes: wal.min_free_bytes })
}

/// The configured bounds of a record.
pub(crate) fn rules(config: &Config) -> Rules {
    let limits = &config.limits;
    Rules {
        text_bytes: limits.text_bytes,
        metadata_bytes: limits.metadata_bytes,
        extra_units: limits.extra_units,
        tokens: limits.tokens,
        occurred_at_min_us: limits.occurred_at_min_us,
        // Bounded by the configuration, so it fits.
        ahead_us: limits.ahead.as_micros() as i64,
        strip_query: limits.strip_query,
        stated_costs: limits.stated_costs,
        stated_cost_max: limits.stated_cost_max_usd,
        response_ids: false,
    }
}

fn wire_limits(config: &Config) -> WireLimits {
    let listen = &config.listen;
    WireLimits {
        commit_wait: config.wal.commit_wait,
        max_frame_bytes: listen.max_frame_bytes,
        max_frame_records: listen.max_frame_records,
        max_line_bytes: listen.max_line_bytes,
        max_in_flight_frames: listen.max_in_flight_frames,
        hello_timeout: listen.hello_timeout,
    }
}

async fn listen(
    daemon: &Arc<Daemon>,
    context: &Arc<connection::IngestContext>,
    stop: &CancellationToken,
    max_connections: usize,
    tls: Option<Arc<ListenerTls>>,
) -> Result<Stage<std::convert::Infallible>, AppError> {
    let mut stage = Stage::default();
    let (config, router) = (&daemon.config, http::on_socket(Arc::clone(daemon)));
    let http: ServeHttp = Arc::new(move |stream, stop| http::serve::on_socket(stream, router.clone(), stop).boxed());
    let all = Arc::new(Semaphore::new(max_connections));
    let places = Arc::new(ConnectionSlots { all, tcp: Arc::new(Semaphore::new(max_connections.div_ceil(2))) });
    let strangers = Seats::new(SeatBounds::strangers(config.listen.max_strangers));
    let tokens: Arc<[String]> = config.listen.tcp_tokens.iter().map(|token| token.expose().to_owned()).collect();
    let unix = listener::bind_unix(&config.socket_path(), config.listen.socket_mode).await?;
    let mut bound = vec![("the Unix socket", unix)];
    if let Some(address) = &config.listen.tcp {
        bound.push(("the TCP listener", listener::bind_tcp(address, tls).await?));
    }
    for (name, listener) in bound {
        let (context, stop) = (Arc::clone(context), stop.clone());
        let (tokens, strangers, places) = (Arc::clone(&tokens), Arc::clone(&strangers), Arc::clone(&places));
        let http = Arc::clone(&http);
        stage.spawn(name, async move {
            listener.run(context, Door { tokens, strangers, places, http }, stop).await;
            Ok(())
        });
    }
    Ok(stage)
}

/// The listeners' certificates, as they are read.
struct Certificates<'c> {
    tls: &'c Tls,
    made: Vec<Arc<ListenerTls>>,
}

impl Certificates<'_> {
    fn of(&mut self, listener: TlsListener) -> Result<Option<Arc<ListenerTls>>, TlsError> {
        let made = ListenerTls::of(self.tls, listener)?;
        self.made.extend(made.clone());
        Ok(made)
    }
}

fn http_settings(config: &Config) -> http::Settings {
    http::Settings {
        zone: config.rollup.time_zone,
        statement_timeout: config.http.statement_timeout,
        max_body_bytes: config.http.max_body_bytes,
        users: config.users.clone(),
        analysis_endpoint: config.http.analysis_endpoint.clone(),
        cors_origins: config.http.cors_origins.clone(),
    }
}

/// The listener for OTLP over gRPC. If the default port is taken, the daemon starts without this listener, because
/// nobody asked for it.
async fn grpc_listener(config: &Config) -> Result<Option<tokio::net::TcpListener>, AppError> {
    match config.otlp.grpc_listen.as_str() {
        "" => Ok(None),
        tallyd_config::GRPC_AUTO => match listener::tcp_listener(tallyd_config::GRPC_ADDRESS).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) => {
                let address = tallyd_config::GRPC_ADDRESS;
                tracing::warn!(%error, address, "OTLP is not taken over gRPC; otlp.grpc_listen names another address, or none");
                Ok(None)
            }
        },
        address => Ok(Some(listener::tcp_listener(address).await?)),
    }
}

/// The public listener runs on the API's threads, the local socket on the daemon's.
async fn serve_http(
    config: &Config,
    daemon: &Arc<Daemon>,
    questions: &Questions,
    max_connections: usize,
    certificates: &mut Certificates<'_>,
) -> Result<Stage<std::io::Error>, AppError> {
    let mut stage = Stage::default();
    let address = &config.http.listen;
    let public = listener::tcp_listener(address).await?;
    if let Ok(address) = public.local_addr() {
        // Set once, here.
        let _ = daemon.address.set(address);
    }
    let local = http::socket::bind(&config.data_dir)
        .map_err(|error| BindError::Io(format!("the control socket in {}", config.data_dir.display()), error))?;
    let router = http::public(Arc::clone(daemon));
    // Behind a proxy all connections come from the proxy's address.
    let is_direct = config.http.trusted_proxies == 0;
    let per_address = if is_direct { config.http.max_connections_per_address } else { usize::MAX };
    let bounds = SeatBounds::new(max_connections, per_address);
    let tls = certificates.of(TlsListener::Http)?;
    stage.spawn_on(&questions.handle(), "the HTTP listener", async move {
        http::serve::serve(public, tls, router, bounds).await;
        Ok(())
    });
    if let Some(listener) = grpc_listener(config).await? {
        if let Ok(address) = listener.local_addr() {
            // Set once, here.
            let _ = daemon.grpc_address.set(address);
            tracing::info!(%address, "OTLP is taken over gRPC");
        }
        let (daemon, tls) = (Arc::clone(daemon), certificates.of(TlsListener::Grpc)?);
        stage.spawn_on(&questions.handle(), "the gRPC listener", async move {
            http::otlp::grpc::serve(listener, tls, daemon, max_connections / 2).await;
            Ok(())
        });
    }
    if let Some(address) = &config.http.metrics_listen {
        let (listener, router) = (listener::tcp_listener(address).await?, http::monitoring(Arc::clone(daemon)));
        let tls = certificates.of(TlsListener::Metrics)?;
        // On the daemon's own threads, like the local socket: monitoring must be answered under any load of requests.
        stage.spawn("the metrics listener", async move {
            http::serve::serve(listener, tls, router, SeatBounds::new(METRICS_CONNECTIONS, METRICS_CONNECTIONS)).await;
            Ok(())
        });
    }
    let router = http::local(Arc::clone(daemon));
    stage.spawn("the control socket", async move { axum::serve(local, router).await });
    Ok(stage)
}
