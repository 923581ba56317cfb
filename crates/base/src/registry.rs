//! Every metric of the daemon, with the names of its labels. Counters end in `_total`, times are in seconds, sizes in bytes.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// One metric.
pub struct Metric {
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Begins with `tallyd_`.
    pub name: &'static str,
    /// The labels of each of its series, in their order.
    pub labels: &'static [&'static str],
    /// One sentence, with the space of the doc comment before it.
    pub help: &'static str,
}

macro_rules! registry {
    ($($(#[doc = $help:literal])+ $kind:ident $constant:ident = $name:literal $({ $($label:ident),+ })?;)+) => {
        $($(#[doc = $help])+ pub const $constant: &str = $name;)+

        /// All metrics.
        pub const ALL: &[Metric] = &[$(Metric {
            kind: stringify!($kind),
            name: $name,
            labels: &[$($(stringify!($label)),+)?],
            help: concat!($($help),+),
        }),+];
    };
}

registry! {
    /// The running version, as a label. Always 1.
    gauge BUILD_INFO = "tallyd_build_info" { version };
    /// Open client connections, by transport.
    gauge CONNECTIONS = "tallyd_connections" { transport };
    /// Records that arrived, accepted or not.
    counter RECORDS_RECEIVED = "tallyd_records_received_total";
    /// Records that were durable already when they arrived again, by their number, their request's key or a stated id.
    counter RECORDS_DUPLICATE = "tallyd_records_duplicate_total";
    /// Spans, log records and metrics that came by OTLP, by signal and outcome.
    counter OTLP_ITEMS = "tallyd_otlp_items_total" { signal, outcome };
    /// Records that were refused, by the code that the sender got.
    counter RECORDS_REFUSED = "tallyd_records_refused_total" { code };
    /// Accepted records for which no price is known, duplicates included: their cost is NULL until one is.
    counter RECORDS_UNPRICED = "tallyd_records_unpriced_total";
    /// Records with unknown usage, by the unknown name.
    counter NOT_UNDERSTOOD = "tallyd_not_understood_total" { what };
    /// Spans and events with used tokens that were not recorded, by the kind that they were taken for.
    counter OTLP_PASSED_OVER = "tallyd_otlp_passed_over_total" { what };
    /// Records whose stated cost differs from the catalog's by more than the tolerance, by provider and model.
    counter STATED_COST_DIFFERS = "tallyd_stated_cost_differs_total" { what };
    /// Ids that senders stated and that are remembered, so that a second record of the call is a duplicate.
    gauge IDENTITIES = "tallyd_identities";
    /// Stated ids that were forgotten before their time, because there were more than wal.max_identities.
    counter IDENTITIES_FORGOTTEN = "tallyd_identities_forgotten_early_total";
    /// Connections that were closed for an error of the client, by its code.
    counter PROTOCOL_ERRORS = "tallyd_protocol_errors_total" { code };
    /// Times that a client said the name of a producer that another process was using at that moment.
    counter PRODUCER_NAMES_SHARED = "tallyd_producer_names_shared_total";
    /// Records that are acknowledged: durable, or committed where wal.ack or the client asks for it.
    counter RECORDS_ACKED = "tallyd_records_acked_total";
    /// Bytes that wait between connections and the WAL.
    gauge CHANNEL_BYTES = "tallyd_channel_bytes";
    /// Bytes of records in the WAL.
    gauge WAL_BYTES = "tallyd_wal_bytes";
    /// Bytes of records at which the WAL is full.
    gauge WAL_MAX_BYTES = "tallyd_wal_max_bytes";
    /// Segments of the WAL.
    gauge WAL_SEGMENTS = "tallyd_wal_segments";
    /// Records in the WAL that are not in PostgreSQL yet.
    gauge WAL_UNFLUSHED_RECORDS = "tallyd_wal_unflushed_records";
    /// Records whose acknowledgement waits until PostgreSQL has committed them, by wal.ack or by the client's wish.
    gauge RECORDS_UNCOMMITTED = "tallyd_records_awaiting_commit";
    /// Age of the oldest record that is not in PostgreSQL yet; 0 without any.
    gauge OLDEST_UNFLUSHED_SECONDS = "tallyd_oldest_unflushed_age_seconds";
    /// 1 while the WAL is at one of its bounds and clients have to wait.
    gauge WAL_FULL = "tallyd_wal_full";
    /// 1 while synced values cannot be read and their readable rest was not replayed; see tallyd wal list.
    gauge WAL_DAMAGED = "tallyd_wal_damaged";
    /// Time to make one group of records durable, the disk's sync included.
    histogram WAL_COMMIT_SECONDS = "tallyd_wal_commit_seconds";
    /// Records that one commit of the WAL made durable.
    histogram WAL_BATCH_RECORDS = "tallyd_wal_batch_records";
    /// Records that are committed in PostgreSQL.
    counter RECORDS_COMMITTED = "tallyd_records_committed_total";
    /// Records that went to the dead letters, by kind.
    counter DEAD_LETTERS = "tallyd_dead_letters_total" { kind };
    /// Refused records beyond the day's bound: they were answered and counted, and are not kept.
    counter DEAD_LETTERS_COUNTED = "tallyd_dead_letters_counted_total";
    /// Dead letters that were deleted because they were older than dead_letters.keep_days.
    counter DEAD_LETTERS_EXPIRED = "tallyd_dead_letters_expired_total";
    /// Dead letters that nobody has decided about, of all daemons on this database.
    gauge DEAD_LETTERS_WAITING = "tallyd_dead_letters_waiting";
    /// The largest share that today's refused records have used of a bound of [dead_letters]; at 1 they are only counted.
    gauge DEAD_LETTERS_USED = "tallyd_dead_letters_day_used_ratio";
    /// 1 if PostgreSQL answered when the daemon last asked, which it does every few seconds; 0 from the start until it first does.
    gauge DATABASE_UP = "tallyd_database_up";
    /// Time of one transaction that loads a batch, from BEGIN to COMMIT.
    histogram FLUSH_SECONDS = "tallyd_flush_seconds";
    /// Records of one transaction.
    histogram FLUSH_BATCH_RECORDS = "tallyd_flush_batch_records";
    /// Attempts to load, or to bring the schema up to date, that failed and will be tried again, by class of failure.
    counter FLUSH_FAILURES = "tallyd_flush_failures_total" { class };
    /// Times that a batch went on filling because as many transactions as may were loading into the same PostgreSQL.
    counter FLUSH_CROWDED = "tallyd_flush_crowded_total";
    /// Sums by user that wait to be merged into the rollups, by PostgreSQL statistics: about.
    gauge USER_DELTAS_ROWS = "tallyd_user_deltas_rows";
    /// How long sums by user have waited without a committed merge; 0 without any.
    gauge USER_DELTAS_AGE_SECONDS = "tallyd_user_deltas_age_seconds";
    /// Time of one merge by this daemon, from the ring's turn to the freed space.
    histogram MERGE_SECONDS = "tallyd_merge_seconds";
    /// Sums that this daemon has merged.
    counter MERGED_ROWS = "tallyd_merged_rows_total";
    /// Merges of this daemon that failed and are tried again.
    counter MERGE_FAILURES = "tallyd_merge_failures_total";
    /// 1 while a lane holds its records back because of a failure that only a person can mend.
    gauge FLUSH_HOLD = "tallyd_flush_hold" { lane };
    /// USD of the calls that this daemon has committed, by provider and model; (other) beyond 256 pairs. Shown to tokens that may see costs.
    counter COST_USD = "tallyd_cost_usd_total" { provider, model };
    /// USD of the batches whose sum is negative, as for refunds, without their sign; tallyd_cost_usd_total does not have them.
    counter CREDITS_USD = "tallyd_credits_usd_total" { provider, model };
    /// Tokens of the calls that this daemon has committed, by provider, model and type.
    counter TOKENS = "tallyd_tokens_total" { provider, model, type };
    /// Calls that this daemon has committed, by provider, model and status: ok, or error from 400 on.
    counter CALLS = "tallyd_calls_total" { provider, model, status };
    /// Committed calls without a cost, by provider and model: tallyd_cost_usd_total does not have them.
    counter CALLS_UNPRICED = "tallyd_calls_unpriced_total" { provider, model };
    /// Calls that this daemon's upkeep has dropped from the call log; their sums are kept.
    counter RETENTION_CALLS = "tallyd_retention_dropped_calls_total";
    /// Partitions of the call log that this daemon's upkeep has dropped.
    counter RETENTION_PARTITIONS = "tallyd_retention_dropped_partitions_total";
    /// Partitions that were due and stayed for another hour, because others were using them or this role may not drop them.
    gauge RETENTION_OVERDUE = "tallyd_retention_overdue_partitions";
    /// 1 while the last partition could not be written to the archive or read back from it, and so was not dropped; otherwise 0.
    gauge ARCHIVE_FAILING = "tallyd_archive_failing";
    /// Days of the call log that this daemon has counted by dimensions that were added.
    counter DIMENSION_DAYS = "tallyd_dimension_days_counted_total";
    /// Calls of forgotten users that arrived afterwards and that this daemon's upkeep has made anonymous.
    counter FORGOTTEN_CALLS = "tallyd_forgotten_late_calls_total";
    /// Unpriced calls by provider and model; models beyond a bound count under `(other)`.
    gauge UNPRICED_CALLS = "tallyd_unpriced_calls" { provider, model };
    /// Share of a budget that is used in its current period, by the budget's name; 1 is all of it; a removed budget has 0.
    gauge BUDGET_SPENT_RATIO = "tallyd_budget_spent_ratio" { budget };
    /// Share of a budget that its current period will have used by its end, by the forecast; 0 where there is none.
    gauge BUDGET_FORECAST_RATIO = "tallyd_budget_forecast_ratio" { budget };
    /// Age of the state of budgets that this daemon knows, in seconds: the time since a daemon last evaluated them.
    gauge BUDGETS_AGE_SECONDS = "tallyd_budgets_age_seconds";
    /// Time of one evaluation of budgets by this daemon.
    histogram BUDGETS_EVALUATION_SECONDS = "tallyd_budgets_evaluation_seconds";
    /// Alerts that this daemon has raised.
    counter ALERTS_RAISED = "tallyd_alerts_raised_total";
    /// Alerts and reports that this daemon has delivered.
    counter ALERTS_DELIVERED = "tallyd_alerts_delivered_total";
    /// Deliveries that failed and are tried again.
    counter ALERT_FAILURES = "tallyd_alert_failures_total";
    /// Times that prices were read from the database, at the start and after each change.
    counter PRICE_RELOADS = "tallyd_price_reloads_total";
    /// Rows of `api_prices` that cannot be applied; see the daemon's log, or `tallyd prices check`.
    gauge PRICES_INVALID = "tallyd_prices_invalid";
    /// 1 while the last look at the list of [price_sync] has failed; `tallyd prices sync` says why.
    gauge PRICE_LIST_FAILING = "tallyd_price_list_failing";
    /// Prices that the list of [price_sync] has otherwise and that wait for a decision.
    gauge PRICE_LIST_CHANGES = "tallyd_price_list_changes_waiting";
    /// Days of the last vendors.days by vendor and state: matched, differs, open (ended and not closed), and those open for over 48 hours: overdue.
    gauge VENDOR_DAYS = "tallyd_vendor_days" { vendor, state };
    /// Requests that were not let in, by reason.
    counter AUTH_FAILURES = "tallyd_auth_failures_total" { reason };
    /// Answers of the HTTP API, by route and class of status.
    counter HTTP_RESPONSES = "tallyd_http_responses_total" { route, status };
    /// Time from a request of the HTTP API to the head of its answer, by route.
    histogram HTTP_SECONDS = "tallyd_http_request_duration_seconds" { route };
}

/// Passes the help texts to the recorder.
pub fn describe() {
    for Metric { kind, name, help, .. } in ALL {
        let help = help.trim();
        match *kind {
            "counter" => describe_counter!(*name, help),
            "gauge" => describe_gauge!(*name, help),
            _ => describe_histogram!(*name, help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Metric};

    #[test]
    fn names_follow_prometheus_conventions_and_stand_once() {
        let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for Metric { kind, name, help, .. } in ALL {
            assert!(name.starts_with("tallyd_"), "{name}");
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name}");
            assert!(help.trim().ends_with('.'), "{name}: {help}");
        }
    }
}
