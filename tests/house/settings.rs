//! Each key of the configuration changes something that a test sees.

use std::collections::BTreeMap;

use tallyd_config::{Config, env};

use crate::read;

/// A file, a test in it, and the keys whose effect it sees. The file names each key, or its variable, as users set it.
const SEEN: &[(&str, &str, &[&str])] = &[
    ("tests/faults/disk_full.rs", "up_to_the_reserve", &["wal.min_free_bytes"]),
    ("tests/faults/steps.rs", "killed_at", &["flusher.flush_interval_ms"]),
    ("tests/field/main.rs", "every_case_comes_out_right", &["otlp.user_attributes"]),
    (
        "tests/hostile/dead_letters.rs",
        "a_flood_of_refusals_is_answered_and_counted_and_little_of_it_is_kept",
        &["dead_letters.rows_per_day", "dead_letters.total_rows_per_day"],
    ),
    (
        "tests/hostile/dead_letters.rs",
        "old_letters_go_and_it_is_told_how_many_nobody_had_decided_about",
        &["dead_letters.keep_days"],
    ),
    (
        "tests/hostile/listeners.rs",
        "a_crowd_without_a_token_over_tcp_takes_no_place_from_those_who_record",
        &["listen.max_connections"],
    ),
    (
        "tests/hostile/producers.rs",
        "greetings_and_floods_of_names_evict_nobody_who_may_send_again",
        &["wal.max_producers"],
    ),
    ("tests/hostile/sql.rs", "a_count_beyond_its_bound_is_refused_and_the_bound_is_a_setting", &["limits.tokens"]),
    (
        "tests/hostile/stated_costs.rs",
        "a_token_may_be_denied_what_the_setting_allows_and_the_setting_may_deny_it_to_all",
        &["limits.stated_costs"],
    ),
    ("tests/http/changes.rs", "alerts_are_listed_acknowledged_and_kept", &["alerts.interval_ms"]),
    ("tests/http/client.rs", "with", &["http.listen"]),
    (
        "tests/http/connections.rs",
        "a_connection_too_many_is_served_health_and_told_to_come_again",
        &["http.max_connections"],
    ),
    ("tests/http/dimensions.rs", "attributes_of_opentelemetry_become_tags", &["otlp.tag_attributes"]),
    ("tests/http/dimensions.rs", "headers_become_tags_where_a_record_does_not_state_them", &["http.tag_headers"]),
    (
        "tests/it/dimensions.rs",
        "past_the_bound_values_count_as_other_and_the_call_log_keeps_them",
        &["dimensions.names", "dimensions.max_values_per_day"],
    ),
    ("tests/http/connections.rs", "metrics_have_an_address_of_their_own_where_one_is_set", &["http.metrics_listen"]),
    ("tests/http/spend.rs", "an_address_of_its_own_and_the_setting_show_it_without_a_token", &["http.metrics_spend"]),
    (
        "tests/http/grpc.rs",
        "the_usual_port_is_taken_if_it_is_free_and_nobody_is_kept_from_starting_if_it_is_not",
        &["otlp.grpc_listen"],
    ),
    (
        "tests/http/jwt.rs",
        "a_row_of_user_profiles_makes_an_admin_for_as_long_as_it_says_so",
        &["auth.jwks_url", "auth.audience", "auth.admin_ttl_ms"],
    ),
    ("tests/http/jwt.rs", "a_shared_secret_verifies_hs256_and_nothing_else", &["auth.hs256_secret"]),
    (
        "tests/http/jwt.rs",
        "an_address_that_fails_often_is_told_so_and_its_valid_tokens_are_let_in",
        &["http.trusted_proxies", "auth.failures_per_minute"],
    ),
    (
        "tests/http/jwt.rs",
        "keys_are_rotated_served_stale_and_not_fetched_for_every_stranger",
        &["auth.jwks_ttl_ms", "auth.jwks_refetch_ms"],
    ),
    ("tests/http/jwt.rs", "stale_keys_serve_within_their_bound_only", &["auth.jwks_max_stale_ms"]),
    (
        "tests/http/otlp.rs",
        "claude_code_is_recorded_from_its_events_or_its_metrics_and_never_from_both",
        &["otlp.claude_code"],
    ),
    (
        "tests/http/password.rs",
        "a_password_signs_an_admin_in_and_the_session_goes_on_and_ends",
        &["auth.publishable_key"],
    ),
    ("tests/http/password.rs", "who_does_not_get_in_is_told_why", &["auth.issuer"]),
    ("tests/http/records.rs", "bodies_are_bounded_before_and_after_decompression", &["http.max_body_bytes"]),
    (
        "tests/http/settings.rs",
        "a_daemon_with_other_settings_does_otherwise",
        &[
            "listen.socket",
            "listen.socket_mode",
            "listen.max_strangers",
            "listen.max_frame_bytes",
            "listen.max_frame_records",
            "listen.max_line_bytes",
            "listen.hello_timeout_ms",
            "limits.text_bytes",
            "limits.metadata_bytes",
            "limits.extra_units",
            "limits.occurred_at_min",
            "limits.ahead_ms",
            "limits.strip_query",
            "limits.stated_cost_max_usd",
            "wal.max_identities",
            "rollup.max_endpoints_per_day",
            "rollup.max_apps_per_day",
            "log_table.partitions_ahead",
            "dead_letters.bytes_per_day",
            "dead_letters.total_bytes_per_day",
            "users.table",
            "users.id_column",
            "users.columns",
            "users.tier_column",
            "users.session_max_idle_minutes",
            "users.session_max_age_minutes",
            "http.analysis_endpoint",
            "http.max_connections_per_address",
            "http.statement_timeout_ms",
            "otlp.input_includes_cached",
            "pricing.rentcast_plan",
            "pricing.prices",
            "pricing.aliases",
            "price_sync.interval_hours",
            "price_sync.providers",
            "log.format",
        ],
    ),
    (
        "tests/http/acks.rs",
        "what_is_answered_is_in_postgresql_and_outlives_the_data_folder_and_counts_once",
        &["wal.ack", "wal.commit_wait_ms"],
    ),
    (
        "tests/http/tls.rs",
        "listeners_prove_themselves_and_a_new_certificate_cuts_no_connection",
        &["tls.certificate", "tls.key", "tls.listeners"],
    ),
    (
        "tests/http/tls.rs",
        "clients_need_a_certificate_where_the_setting_says_so",
        &["tls.client_ca", "tls.client_listeners"],
    ),
    ("tests/http/settings.rs", "the_log_is_synced_as_often_as_the_setting_says", &["wal.sync", "wal.interval_ms"]),
    (
        "tests/http/settings.rs",
        "the_private_clusters_programs_are_looked_for_where_the_setting_says",
        &["database.embedded_bin_dir"],
    ),
    ("tests/http/tokens.rs", "pages_of_other_origins_may_ask_only_where_that_is_configured", &["http.cors_origins"]),
    (
        "tests/it/alerts.rs",
        "each_receiver_is_told_once_of_a_rule_and_of_its_end_and_a_report_has_the_rollups_sums",
        &["alerts.routes", "reports.daily", "reports.weekly", "reports.monthly", "reports.at"],
    ),
    (
        "tests/it/budgets.rs",
        "an_alert_is_delivered_once_though_the_webhook_fails_first_and_daemons_restart",
        &["alerts.webhook_url", "alerts.retry_min_ms"],
    ),
    (
        "tests/it/budgets.rs",
        "unusual_spend_is_told_once_a_day_and_a_new_user_is_not_unusual",
        &["alerts.unusual_factor", "alerts.unusual_min_usd"],
    ),
    (
        "tests/it/crash.rs",
        "killed_at_random_moments_it_keeps_every_acknowledged_record_exactly_once",
        &["wal.segment_bytes", "flusher.max_batch_records"],
    ),
    ("tests/it/damage.rs", "what_is_left_of_segments_that_sled_cannot_read_is_loaded_once", &["wal.recent_bytes"]),
    (
        "tests/it/failover.rs",
        "a_host_that_never_answers_does_not_keep_the_next_one_from_being_asked",
        &["database.connect_timeout_ms"],
    ),
    ("tests/it/records.rs", "at_its_bound_the_log_holds_clients_back_and_resumes_by_itself", &["wal.max_bytes"]),
    (
        "tests/it/outage.rs",
        "with_a_backlog_that_no_deadline_is_long_enough_for_batches_shrink_until_they_load",
        &["flusher.statement_deadline_ms"],
    ),
    ("tests/it/partitions.rs", "a_month_that_was_begun_with_days_goes_on", &["log_table.partition"]),
    ("tests/it/partitions.rs", "rows_come_by_user_where_that_index_is_kept", &["log_table.user_index"]),
    (
        "tests/it/password.rs",
        "a_password_in_a_file_is_rotated_without_a_restart_whichever_side_comes_first",
        &["database.password_file"],
    ),
    ("tests/it/pooler.rs", "survives", &["http.pool_size"]),
    (
        "tests/it/prices.rs",
        "a_change_is_found_by_looking_where_notifications_do_not_come_through",
        &["pricing.refresh_ms"],
    ),
    (
        "tests/it/prices.rs",
        "a_list_is_looked_at_by_itself_and_applied_by_a_person_or_by_a_setting",
        &["price_sync.list", "price_sync.apply"],
    ),
    (
        "tests/it/closings.rs",
        "a_month_closes_by_itself_each_difference_has_its_name_and_what_changes_opens_again",
        &[
            "vendors.interval_minutes",
            "vendors.days",
            "vendors.after_hours",
            "vendors.retry_min_ms",
            "vendors.anthropic.admin_key",
            "vendors.anthropic.base_url",
            "vendors.anthropic.workspaces",
            "vendors.openai.admin_key",
            "vendors.openai.base_url",
            "vendors.openai.workspaces",
        ],
    ),
    ("tests/it/retention.rs", "the_daemon_drops_what_is_older_than_it_is_told_to_keep", &["retention.log_days"]),
    (
        "tests/it/archive.rs",
        "a_partition_is_in_its_file_before_it_is_dropped_however_often_that_is_killed",
        &["retention.archive"],
    ),
    (
        "tests/it/archive/bucket.rs",
        "a_service_that_fails_is_told_with_a_hint_and_loading_goes_on",
        &[
            "retention.s3.endpoint",
            "retention.s3.region",
            "retention.s3.access_key_id",
            "retention.s3.secret_access_key",
            "retention.s3.path_style",
            "retention.s3.patience_ms",
        ],
    ),
    (
        "tests/it/archive/bucket.rs",
        "a_service_that_hangs_or_cuts_connections_costs_a_bounded_time_and_the_partition_stays",
        &["retention.s3.timeout_ms"],
    ),
    ("tests/it/roles.rs", "the_owner_and_the_writer_load_and_another_role_is_told_why_it_cannot", &["database.url"]),
    ("tests/it/rollups.rs", "days_begin_at_midnight_of_the_reporting_time_zone", &["rollup.time_zone"]),
    (
        "tests/it/rollups.rs",
        "past_the_bound_models_count_as_other_in_the_rollup_and_as_themselves_in_the_log",
        &["rollup.max_models_per_day"],
    ),
    ("tests/it/support/daemon.rs", "with_data", &["data_dir"]),
    ("tests/it/shutdown.rs", "sighup_changes_what_is_logged_and_a_wrong_filter_changes_nothing", &["log.filter"]),
    (
        "tests/it/shutdown.rs",
        "sigterm_while_postgresql_is_down_ends_in_time_and_the_next_start_loads_the_rest",
        &["shutdown.deadline_ms"],
    ),
    (
        "tests/it/records.rs",
        "over_tcp_a_token_opens_the_door_and_nothing_else_does",
        &["listen.tcp", "listen.tcp_tokens"],
    ),
    (
        "tests/it/tls.rs",
        "a_server_that_cannot_prove_itself_gets_no_record_until_it_can_and_nothing_is_lost",
        &["database.ca_file"],
    ),
    ("tests/it/slots.rs", "a_batch_that_finds_no_slot_goes_on_filling", &["flusher.lanes"]),
];

/// A key whose effect no test sees at a daemon: the source that passes its value on, and the test of the code that gets
/// it.
const IN_PARTS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "wal.channel_bytes",
        "src/app/build.rs",
        "channel::channel(config.wal.channel_bytes)",
        "crates/wal/src/channel.rs",
        "a_full_channel_makes_the_sender_wait_and_a_gone_writer_frees_it",
    ),
    (
        "wal.producer_idle_days",
        "src/app/build.rs",
        "wal.producer_idle.as_micros()",
        "crates/wal/src/producers/tests.rs",
        "a_clock_that_jumps_makes_nobody_idle",
    ),
    (
        "wal.identity_window_days",
        "src/app/build.rs",
        "span: config.wal.identity_window",
        "crates/wal/src/window/tests.rs",
        "a_slice_ends_with_a_quarter_of_the_time_and_what_is_old_is_forgotten_but_not_by_a_jump_of_the_clock",
    ),
    (
        "flusher.retry_min_ms",
        "src/app/loading.rs",
        "retry_min: options.retry_min",
        "crates/pipeline/src/flusher/lane.rs",
        "pauses_double_from_the_shortest_to_the_longest",
    ),
    (
        "flusher.retry_max_ms",
        "src/app/loading.rs",
        "retry_max: options.retry_max",
        "crates/pipeline/src/flusher/lane.rs",
        "pauses_double_from_the_shortest_to_the_longest",
    ),
    // The effect of the bound is tested with its default.
    (
        "listen.max_in_flight_frames",
        "src/app/build.rs",
        "max_in_flight_frames: listen.max_in_flight_frames",
        "tests/hostile/listeners.rs",
        "those_who_send_and_never_read_hold_little_and_hold_up_nobody",
    ),
];

fn has_test(file: &str, test: &str) -> bool {
    read(file).contains(&format!("fn {test}("))
}

#[test]
fn each_key_changes_something_that_a_test_sees() {
    let mut keys: BTreeMap<String, usize> = Config::keys().into_iter().map(|key| (key, 0)).collect();
    let mut count = |key: &str| *keys.get_mut(key).unwrap_or_else(|| panic!("{key} is not a key")) += 1;
    for (file, test, seen) in SEEN {
        assert!(has_test(file, test), "{test} is not in {file}");
        let text = read(file);
        for key in *seen {
            count(key);
            // In a file of settings a key is in its section.
            let (section, name) = key.split_once('.').unwrap_or(("", key));
            let is_set = text.contains(&format!("\"{}\"", env::variable(key)))
                || text.contains(&format!("[{section}]")) && text.contains(&format!("{name} = "));
            assert!(is_set, "{file} never sets {key}");
        }
    }
    for (key, source, words, file, test) in IN_PARTS {
        count(key);
        assert!(read(source).contains(words), "{source} does not hand {key} over by `{words}`");
        assert!(has_test(file, test), "{test} is not in {file}");
    }
    let unseen: Vec<_> = keys.iter().filter(|(_, times)| **times != 1).collect();
    assert!(unseen.is_empty(), "each key has one test here that sees its work; these have none or several: {unseen:?}");
}
