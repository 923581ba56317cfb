//! Every route, in one table, with the role that it needs.
//!
//! A handler's path and method stand in its `#[utoipa::path]`, so the routes and the OpenAPI document cannot differ. No
//! route on `http.listen` exposes costs without a token, unless `http.metrics_spend` is set.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::OpenApiRouter;

use super::auth::{Gate, Identity, Role, gate, gate_if_shown};
use super::error::ApiError;
use super::places::{self, RequestSlots};
use super::table::{Table, routes};
use super::{SharedDaemon, admin, answer, book, health, ingest, openapi, otlp, page, status, today, v1};

/// The longest body before a token was checked, bytes: it has a token or a password.
const STRANGERS_BODY_BYTES: usize = 8 * 1024;

/// Open. A platform's probe may send credentials of its own, which are not looked at.
fn health<T: Table>() -> T {
    T::default().routes(routes!(health::healthz)).routes(routes!(health::readyz))
}

/// Open; costs only with a token or by a setting.
fn counters<T: Table>() -> T {
    T::default().routes(routes!(metrics))
}

/// As in the system that tallyd replaces. For the roles `read` and `admin`; changes for `admin` alone.
fn replaced<T: Table>() -> T {
    T::default()
        .routes(routes!(admin::cost_history::cost_history))
        .routes(routes!(admin::costs::costs))
        .routes(routes!(admin::costs::set_budget))
        .routes(routes!(admin::users::user_stats))
        .routes(routes!(admin::users::all))
        .routes(routes!(admin::metrics::metrics))
        .routes(routes!(admin::pricing::pricing))
        .routes(routes!(admin::pricing::set_rentcast_cost))
}

/// The API proper, which the page uses as well. For the roles `read` and `admin`; changes for `admin` alone.
fn questions<T: Table>() -> T {
    T::default()
        .routes(routes!(v1::costs::costs))
        .routes(routes!(v1::change::change))
        .routes(routes!(v1::bounds::bounds))
        .routes(routes!(v1::latency::latency))
        .routes(routes!(v1::dimensions::list))
        .routes(routes!(v1::units::units, v1::units::state))
        .routes(routes!(v1::users::users))
        .routes(routes!(v1::users::user))
        .routes(routes!(v1::sessions::sessions))
        .routes(routes!(v1::sessions::history))
        .routes(routes!(v1::records::search))
        .routes(routes!(v1::calls::amend_call))
        .routes(routes!(v1::calls::void_call))
        .routes(routes!(v1::calls::call_amendments))
        .routes(routes!(v1::dead_letters::dead_letters))
        .routes(routes!(v1::dead_letters::groups))
        .routes(routes!(v1::decisions::retry_many))
        .routes(routes!(v1::decisions::drop_many))
        .routes(routes!(v1::prices::prices, v1::price_changes::add))
        .routes(routes!(v1::overview::pipeline))
        .routes(routes!(v1::audit::audit))
        .routes(routes!(v1::overview::overview))
        .routes(routes!(v1::forecast::forecast))
        .routes(routes!(v1::closings::closings))
        .routes(routes!(v1::report::report))
        .routes(routes!(v1::budgets::budgets, v1::budgets::set))
        .routes(routes!(v1::budgets::remove))
        .routes(routes!(v1::alert_rules::rules, v1::alert_rules::set))
        .routes(routes!(v1::alert_rules::remove))
        .routes(routes!(v1::alerts::alerts))
        .routes(routes!(v1::alerts::acknowledge))
        .routes(routes!(v1::prices::unpriced))
        .routes(routes!(v1::price_changes::preview))
        .routes(routes!(v1::reprice::reprice))
        .routes(routes!(v1::reprice::plan))
        .routes(routes!(v1::deploys::deploys))
        .routes(routes!(v1::deploys::remove))
        .routes(routes!(v1::aliases::list, v1::aliases::set, v1::aliases::remove))
        .routes(routes!(v1::price_changes::changes))
        .routes(routes!(v1::price_sync::show, v1::price_sync::dismiss))
        .routes(routes!(v1::price_sync::apply))
        .routes(routes!(v1::price_changes::withdraw))
        .routes(routes!(v1::decisions::letter))
        .routes(routes!(v1::decisions::retry))
        .routes(routes!(v1::decisions::drop_letter))
}

/// For the role `admin` alone, on the page as well.
fn secrets<T: Table>() -> T {
    T::default().routes(routes!(v1::tokens::tokens, v1::tokens::create)).routes(routes!(v1::tokens::revoke))
}

/// For the roles `ingest` and `admin`.
fn ingest_routes<T: Table>() -> T {
    T::default()
        .routes(routes!(ingest::records::record))
        .routes(routes!(v1::deploys::add))
        .routes(routes!(otlp::traces))
        .routes(routes!(otlp::logs))
        .routes(routes!(otlp::metrics))
}

/// The OpenAPI document of all routes.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let routes: OpenApiRouter<SharedDaemon> = health();
    let routes = routes.merge(counters()).merge(replaced()).merge(questions()).merge(secrets()).merge(ingest_routes());
    openapi::complete(routes.into_openapi())
}

/// Routes that take records, with the bounds of their bodies.
fn records() -> Router<SharedDaemon> {
    let routes: Router<SharedDaemon> = ingest_routes();
    routes.layer(from_fn(ingest::body::unpack)).route_layer(from_fn_with_state(Arc::default(), ingest::body::few))
}

/// Routes on `http.listen`.
pub(crate) fn public(daemon: SharedDaemon) -> Router {
    let for_role = |needs, by_page| from_fn_with_state(Gate { daemon: Arc::clone(&daemon), needs, by_page }, gate);
    let answers = Arc::new(RequestSlots::answers());
    let asked = |routes: Router<SharedDaemon>, needs, by_page| {
        routes
            .route_layer(from_fn_with_state(Arc::clone(&answers), places::few))
            .route_layer(from_fn(answer::tag))
            .route_layer(from_fn(places::keep))
            .route_layer(from_fn(answer::unchanged))
            .route_layer(for_role(needs, by_page))
            .route_layer(from_fn(answer::count))
    };
    let records = records().route_layer(for_role(Role::Ingest, false)).route_layer(from_fn(answer::count));
    let gate_if_shown =
        from_fn_with_state(Gate { daemon: Arc::clone(&daemon), needs: Role::Read, by_page: false }, gate_if_shown);
    let counters = match daemon.config.http.metrics_listen {
        // All scrapes without a token count as one sender.
        None => counters::<Router<SharedDaemon>>()
            .route_layer(from_fn_with_state(Arc::new(RequestSlots::answers()), places::few))
            .route_layer(from_fn(places::keep))
            .route_layer(gate_if_shown),
        Some(_) => Router::new(),
    };
    let open: Router<SharedDaemon> = health();
    let router = open
        .merge(counters)
        .merge(asked(replaced(), Role::Read, false))
        .merge(asked(questions(), Role::Read, true))
        .merge(asked(secrets(), Role::Admin, true))
        .merge(records);
    let header = |name: &'static str, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    router
        .merge(openapi::routes())
        .merge(page::assets::routes())
        .merge(book::routes())
        .merge(page::sign_in::routes().layer(DefaultBodyLimit::max(STRANGERS_BODY_BYTES)))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(daemon.settings.max_body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(CompressionLayer::new())
        .layer(cors(&daemon.settings.cors_origins))
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("x-frame-options", "DENY"))
        .layer(header("referrer-policy", "no-referrer"))
        .layer(header("content-security-policy", "default-src 'none'; frame-ancestors 'none'"))
        .layer(header("cross-origin-resource-policy", "same-origin"))
        .with_state(daemon)
}

/// Routes on the record socket: those that take records. The socket's permissions decide who may record, so no token is
/// needed.
pub(crate) fn on_socket(daemon: SharedDaemon) -> Router {
    let anyone = Identity { actor: "socket".to_owned(), role: Role::Ingest, address: String::new(), costs: None };
    let records = records().route_layer(Extension(anyone)).route_layer(from_fn(answer::count));
    records
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(daemon.settings.max_body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(daemon)
}

/// Routes on `http.metrics_listen`.
pub(crate) fn monitoring(daemon: SharedDaemon) -> Router {
    let router: Router<SharedDaemon> = health();
    let metrics = get(metrics_with_spend)
        .layer(from_fn_with_state(Arc::new(RequestSlots::answers()), places::few))
        .layer(from_fn(places::keep));
    router.route("/metrics", metrics).fallback(not_found).layer(CatchPanicLayer::custom(panicked)).with_state(daemon)
}

/// Routes on the local socket.
pub(crate) fn local(daemon: SharedDaemon) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz_in_full))
        .route("/metrics", get(metrics_with_spend))
        .route("/status", get(status::status))
        .route("/today", get(today::today))
        .route("/link", get(link))
        .fallback(not_found)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(daemon)
}

/// Cross-origin requests: from configured origins, with tokens in headers and never with cookies.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, HeaderName::from_static("idempotency-key")])
        .expose_headers([ETAG, RETRY_AFTER, LINK, admin::users::TOTAL_COUNT])
        .max_age(std::time::Duration::from_secs(600))
}

type Exposition = ([(HeaderName, &'static str); 1], String);

/// The daemon's metrics, in Prometheus' text format. With a token of the role `read` (or the setting `http.metrics_spend`) also costs
/// by model.
#[utoipa::path(get, path = "/metrics", tag = "health", security((), ("bearer" = [])),
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
async fn metrics(State(daemon): State<SharedDaemon>, identity: Option<Extension<Identity>>) -> Exposition {
    exposition(&daemon, identity.is_some() || daemon.config.http.metrics_spend)
}

/// As `/metrics`, with costs: for listeners that let in by address or by file permissions.
async fn metrics_with_spend(State(daemon): State<SharedDaemon>) -> Exposition {
    exposition(&daemon, true)
}

fn exposition(daemon: &super::Daemon, with_spend: bool) -> Exposition {
    let mut text = crate::metrics::exposition(&daemon.metrics);
    if let (true, Some(loading)) = (with_spend, daemon.loading.get()) {
        text.push_str(&crate::metrics::spend_exposition(&loading.flusher.loader.spend.since_start()));
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// A link that signs in to the page. On the local socket alone, whose user can read the database anyway.
async fn link(State(daemon): State<SharedDaemon>) -> Result<String, ApiError> {
    // Before the schema is in place no session can be stored; the code stays valid, and the page tries again.
    daemon.link().ok_or_else(|| ApiError::unavailable("the HTTP listener is not there yet"))
}

/// A handler's panic becomes an answer 500 and an error in the daemon log. The connection and all others go on.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = said.unwrap_or("(not text)"), "a request's handler panicked");
    let hint = "report this, with the daemon log's lines of this minute";
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the daemon failed at this request", hint)
        .into_response()
}

async fn not_found() -> impl IntoResponse {
    ApiError::not_found("there is nothing here", "/api/docs lists the endpoints; health is at /healthz and /readyz")
}

async fn method_not_allowed() -> impl IntoResponse {
    let (code, message) = ("method_not_allowed", "the path takes other methods");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, code, message, "the header Allow names them, and /api/docs")
}
