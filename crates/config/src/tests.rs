//! Layers, messages, and the shipped file.

use std::collections::BTreeSet;

use super::*;

const SHIPPED: &str = include_str!("../../../config.toml");

/// Loads a file's text, variables and flags.
fn load(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, file).unwrap();
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    Config::load(ConfigSources { file: Some(path), env: owned(env), overrides: owned(flags) })
}

/// The message of the error that these sources must give.
fn message(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, env, flags).expect_err("the sources must be refused").to_string()
}

/// Asserts that a message has each of the parts.
#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn no_sources_are_the_defaults_and_they_are_valid() {
    let sources = ConfigSources::<Vec<_>>::default();
    assert_eq!(Config::load(sources).unwrap(), Config::default());
}

#[test]
fn the_shipped_file_changes_nothing() {
    assert_eq!(load(SHIPPED, &[], &[]).unwrap(), Config::default());
}

#[test]
fn flags_win_over_the_environment_that_over_the_file_and_that_over_the_defaults() {
    let file = "[flusher]\nlanes = 3\nmax_batch_records = 5\nretry_max_ms = 700";
    let env = [("TALLYD_FLUSHER_LANES", "4"), ("TALLYD_FLUSHER_MAX_BATCH_RECORDS", "6"), ("HOME", "/")];
    let config = load(file, &env, &[("flusher.lanes", "5")]).unwrap();
    let flusher = &config.flusher;
    assert_eq!((flusher.lanes, flusher.max_batch_records, flusher.retry_max.as_millis()), (5, 6, 700));
    assert_eq!(flusher.retry_min.as_millis(), 100);
    assert_eq!(config.origins["flusher.lanes"], Origin::Flag);
    assert_eq!(config.origins["flusher.max_batch_records"], Origin::Variable(env[1].0.to_owned()));
    assert!(matches!(config.origins["flusher.retry_max_ms"], Origin::File(_, 4)));
    assert_eq!(config.origins.len(), 3);
}

#[test]
fn values_are_typed() {
    let file = r#"
        data_dir = "/var/lib/tallyd"
        [listen]
        socket_mode = "600"
        tcp = "[::]:7421"
        tcp_tokens = ["the-first-of-two-tokens", "the-second-of-two-tokens"]
        [limits]
        occurred_at_min = "2020-01-01T01:00:00+01:00"
        [wal]
        sync = "interval"
        producer_idle_days = 2
        [rollup]
        time_zone = "Europe/Berlin"
        [log_table]
        partition = "day"
        user_index = "never"
        [pricing]
        rentcast_plan = "growth"
        [[pricing.prices]]
        provider = "claude"
        model = "claude-sonnet-5"
        effective_from = "2026-12-01"
        per_million = { input = "1.8", output = "9" }
        [log]
        format = "json"
    "#;
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(config.socket_path(), PathBuf::from("/var/lib/tallyd/tallyd.sock"));
    assert_eq!(config.listen.socket_mode, 0o600);
    assert_eq!(config.listen.tcp.as_deref(), Some("[::]:7421"));
    assert_eq!(
        config.listen.tcp_tokens.iter().map(Secret::expose).collect::<Vec<_>>(),
        ["the-first-of-two-tokens", "the-second-of-two-tokens"]
    );
    assert_eq!(config.limits.occurred_at_min_us, 1_577_836_800_000_000);
    assert_eq!((config.wal.sync, config.wal.producer_idle.as_secs()), (Sync::Interval, 172_800));
    assert_eq!(config.rollup.time_zone, "Europe/Berlin".parse::<tallyd_model::zone::Tz>().unwrap());
    assert_eq!((config.log_table.partition, config.log_table.user_index), (Granularity::Day, UserIndex::Never));
    assert_eq!(config.pricing.rentcast_plan, tallyd_model::pricing::Plan::Growth);
    assert_eq!(config.pricing.prices[0].spec().unwrap().effective_from_us, 1_796_083_200_000_000);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let layers = layers::Layers::new();
    let names: BTreeSet<String> = layers.keys().map(env::variable).collect();
    assert_eq!(names.len(), layers.keys().count());
    for name in ["TALLYD_DATA_DIR", "TALLYD_HTTP_LISTEN", "TALLYD_DATABASE_URL", "TALLYD_LOG_TABLE_PARTITION"] {
        assert!(names.contains(name), "{name}");
    }
    let config = load(
        "",
        &[
            ("TALLYD_LISTEN_TCP_TOKENS", "the-first-of-two-tokens, the-second-of-two-tokens,"),
            ("TALLYD_LIMITS_STRIP_QUERY", "false"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.listen.tcp_tokens.len(), 2);
    assert!(!config.limits.strip_query);
}

#[test]
fn the_variables_of_platforms_give_way_to_our_own() {
    let url = |env: &[(&str, &str)]| load("", env, &[]).unwrap().database.url.map(|url| url.expose().to_owned());
    let (platform, own) = (("DATABASE_URL", "postgres://p"), ("TALLYD_DATABASE_URL", "postgres://own"));
    assert_eq!(url(&[platform]).as_deref(), Some("postgres://p"));
    assert_eq!(url(&[platform, own]).as_deref(), Some("postgres://own"));
    assert_eq!(url(&[own, platform]).as_deref(), Some("postgres://own"));
    assert_eq!(url(&[("DATABASE_URL", "")]), None);
    let listen = |env: &[(&str, &str)]| load("[http]\nlisten = \"h:1\"", env, &[]).unwrap().http.listen;
    let (port, own) = (("PORT", "8080"), ("TALLYD_HTTP_LISTEN", "127.0.0.1:0"));
    assert_eq!(listen(&[]), "h:1");
    assert_eq!(listen(&[port]), "0.0.0.0:8080");
    assert_eq!(listen(&[("PORT", "any"), own]), "127.0.0.1:0", "a port that does not count may be anything");
    assert_eq!((listen(&[port, own]), listen(&[own, port])), ("127.0.0.1:0".into(), "127.0.0.1:0".into()));
    let short = load("", &[("TALLYD_SOCKET", "/run/s"), ("TALLYD_LOG", "debug"), ("TALLYD_CONFIG", "x")], &[]).unwrap();
    assert_eq!((short.socket_path(), &*short.log.filter), (PathBuf::from("/run/s"), "debug"));
    let links = [("TALLYD_SERVICE_HOST", "h"), ("TALLYD_PORT", "tcp://h:1"), ("TALLYD_PORT_7420_TCP", "x")];
    assert!(load("", &links, &[]).unwrap().origins.is_empty());
}

#[test]
fn unknown_names_are_refused_with_what_was_perhaps_meant() {
    says(
        &message("[wal]\nmax_byte = 1", &[], &[]),
        &["config.toml", "wal.max_byte", "did you mean wal.max_bytes?", "sync"],
    );
    says(&message("[lisen]\ntcp = \"\"", &[], &[]), &["unknown key lisen", "did you mean listen", "shutdown"]);
    says(&message("[qqqqqq]", &[], &[]), &["unknown key qqqqqq; allowed: alerts, auth, data_dir"]);
    says(&message("[listen.tcp]\nport = 1", &[], &[]), &["listen.tcp must be text in quotes, not a section"]);
    says(
        &message("", &[("TALLYD_HTP_LISTEN", "x")], &[]),
        &["TALLYD_HTP_LISTEN", "closest known one is TALLYD_HTTP_LISTEN"],
    );
    says(&message("", &[], &[("wal.max_byte", "1")]), &["command line", "did you mean wal.max_bytes?"]);
}

#[test]
fn values_are_refused_with_their_origin_and_what_is_accepted() {
    says(
        &message("[wal]\nmax_bytes = \"8G\"", &[], &[]),
        &["config.toml, line 2: wal.max_bytes must be a whole number, not text"],
    );
    says(&message("listen = 5", &[], &[]), &["listen must be a section, not a whole number"]);
    let lanes = message("", &[("TALLYD_FLUSHER_LANES", "two")], &[]);
    says(&lanes, &["environment variable TALLYD_FLUSHER_LANES: flusher.lanes must be a whole number, not \"two\""]);
    let sync = message("[wal]\nsync = \"never\"", &[], &[]);
    says(&sync, &["config.toml, line 2: wal.sync", "`never`", "`always`, `interval`, `os`"]);
    says(&message("[wal]\nmax_bytes = -1", &[], &[]), &["config.toml, line 2: wal.max_bytes", "-1"]);
    says(&message("[rollup]\ntime_zone = \"Berlin\"", &[], &[]), &["rollup.time_zone", "Europe/Berlin"]);
    for mode in ["rw", "0888", "1777", "+660", ""] {
        let text = message(&format!("[listen]\nsocket_mode = \"{mode}\""), &[], &[]);
        says(&text, &["listen.socket_mode", "octal"]);
    }
    says(&message("[limits]\noccurred_at_min = \"2015\"", &[], &[]), &["limits.occurred_at_min", "RFC 3339"]);
    says(&message("", &[("PORT", "http")], &[]), &["PORT", "http.listen", "between 1 and 65535"]);
    says(&message("[wal]\n\nsync = ", &[], &[]), &["config.toml is not valid TOML: line 3"]);
    let missing =
        ConfigSources { file: Some(PathBuf::from("/nowhere/config.toml")), ..ConfigSources::<Vec<_>>::default() };
    says(&Config::load(missing).unwrap_err().to_string(), &["cannot read", "/nowhere/config.toml"]);
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let file = "lanes = 2\n\n[wal]\nmax_byte = 1\nsync = \"never\"\ninterval_ms = 0\nsegment_bytes = \"64M\"\n\
                [http]\n# Two of a list.\ncors_origins = [\"a\", \"https://b\", \"c\"]\npool_size = 1000\n\
                statement_timeout_ms = 1\n";
    let env =
        [("TALLYD_FLUSHER_LANE", "2"), ("TALLYD_FLUSHER_LANES", "40"), ("TALLYD_LOG", "tallyd=loud"), ("PORT", "x")];
    let said = message(file, &env, &[("shutdown.deadline_ms", "1")]);
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "the configuration has 14 mistakes:",
        "config.toml, line 1: unknown key lanes; allowed: ",
        "config.toml, line 4: unknown key wal.max_byte, did you mean wal.max_bytes?",
        "config.toml, line 5: wal.sync: unknown variant `never`",
        "config.toml, line 6: wal.interval_ms: 0 is out of range; set it between 1 and 60000",
        "config.toml, line 7: wal.segment_bytes must be a whole number, not text in quotes",
        "config.toml, line 10: http.cors_origins: \"a\" is not an origin",
        "config.toml, line 10: http.cors_origins: \"c\" is not an origin",
        "config.toml, line 11: http.pool_size: 1000 is out of range",
        "config.toml, line 12: http.statement_timeout_ms: 1 is out of range",
        "unknown environment variable TALLYD_FLUSHER_LANE; the closest known one is TALLYD_FLUSHER_LANES",
        "environment variable PORT: http.listen: \"x\" is not a port",
        "environment variable TALLYD_FLUSHER_LANES: flusher.lanes: 40 is out of range",
        "command line: shutdown.deadline_ms: 1 is out of range",
        "environment variable TALLYD_LOG: log.filter: \"tallyd=loud\"",
    ];
    for (line, part) in lines.iter().zip(expected) {
        assert!(line.contains(part), "{line:?} lacks {part:?} in\n{said}");
    }
    assert_eq!(lines.len(), expected.len(), "{said}");
    // Not TOML at all: mistakes in the environment are reported all the same.
    let said = message("[wal\n", &env, &[]);
    says(&said, &["config.toml is not valid TOML: line 1", "TALLYD_FLUSHER_LANE;", "flusher.lanes: 40"]);
    // An unreadable value is reported once; its default is not compared with the others.
    let said = message("[wal]\nsegment_bytes = \"8\"\nmax_bytes = 300000", &[], &[]);
    says(&said, &["wal.segment_bytes must be"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn contradictions_are_refused_with_what_to_do() {
    for (file, parts) in [
        ("data_dir = \"\"", &["data_dir", "name a folder"][..]),
        ("[listen]\ntcp = \"0.0.0.0:1\"", &["listen.tcp_tokens", "add at least one"]),
        ("[listen]\ntcp = \"here\"\ntcp_tokens = [\"t\"]", &["listen.tcp", "write host:port"]),
        ("[listen]\ntcp_tokens = [\"\"]", &["listen.tcp_tokens", "16 characters"]),
        ("[listen]\nmax_connections = 0", &["listen.max_connections", "between 1 and"]),
        ("[limits]\nmetadata_bytes = 1000000", &["limits.metadata_bytes", "listen.max_frame_bytes"]),
        ("[wal]\nmax_bytes = 67108863", &["wal.segment_bytes", "a quarter of wal.max_bytes"]),
        ("[wal]\nchannel_bytes = 1048575", &["wal.channel_bytes", "listen.max_frame_bytes"]),
        ("[flusher]\nretry_min_ms = 20000", &["flusher.retry_max_ms", "retry_min_ms"]),
        ("[http]\nlisten = \"localhost\"", &["http.listen", "write host:port"]),
        ("[log]\nfilter = \"tallyd=loud\"", &["log.filter", "tallyd=loud"]),
        (
            "[[pricing.prices]]\nprovider = \"p\"\nper_million = { input = \"-1\" }",
            &["pricing.prices", "negative rate"],
        ),
        ("[pricing]\nrefresh_ms = 0", &["pricing.refresh_ms"]),
        ("[shutdown]\ndeadline_ms = 0", &["shutdown.deadline_ms", "between 100 and"]),
        ("[log_table]\npartitions_ahead = 0", &["log_table.partitions_ahead"]),
        ("[rollup]\nmax_models_per_day = 0", &["rollup.max_models_per_day"]),
        ("[database]\nconnect_timeout_ms = 1", &["database.connect_timeout_ms"]),
    ] {
        says(&message(file, &[], &[]), parts);
    }
    assert!(load("[wal]\nmax_bytes = 134217728", &[], &[]).is_ok(), "a quarter is allowed");
    let long = format!("data_dir = \"/{}\"", "d".repeat(100));
    says(&message(&long, &[], &[]), &["listen.socket", "set a shorter one"]);
}

#[test]
fn the_effective_file_shows_origins_and_hides_secrets() {
    let file = "[listen]\ntcp = \"h:1\"\ntcp_tokens = [\"hidden-token-of-16\"]";
    let env = [("DATABASE_URL", "postgres://u:hidden-password@h/db")];
    let config = load(file, &env, &[("wal.sync", "os")]).unwrap();
    let effective = config.effective_toml().unwrap();
    assert!(!effective.contains("hidden") && !format!("{config:?}").contains("hidden"), "{effective}");
    says(
        &effective,
        &[
            "data_dir = \"./tallyd-data\"\n",
            "url = \"postgres://u:***@h/db\"  # environment variable DATABASE_URL\n",
            "sync = \"os\"  # command line\n",
            "tcp_tokens = [\"***\"]  # ",
            "socket_mode = \"0660\"\n",
        ],
    );
    let defaults = Config::default().effective_toml().unwrap();
    assert_eq!(
        load(&defaults, &[], &[]).map(|config| Config { origins: BTreeMap::new(), ..config }).unwrap(),
        Config::default()
    );
}

/// Each key whose value may be in a file or a variable is read by the check, and each other secret refuses such a value.
#[test]
fn values_that_are_elsewhere_are_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("url");
    std::fs::write(&here, "https://hooks.example.com\n").unwrap();
    let alerts = |webhook: &str, url: &str, secret: &str| {
        let file = format!(
            "[alerts]\nwebhook_url = \"{webhook}\"\nroutes = [{{ name = \"oncall\", kind = \"webhook\", url = \"{url}\", secret = \"{secret}\" }}]"
        );
        load(&file, &[], &[]).unwrap().read_elsewhere()
    };
    let (file, none) = (format!("file:{}", here.display()), "env:TALLYD_TEST_OF_NO_SUCH_VARIABLE");
    // PATH is set wherever tests run.
    alerts(&file, "env:PATH", "whsec_literal").unwrap();
    let gone = format!("file:{}", dir.path().join("gone").display());
    let said = alerts(none, &gone, none).unwrap_err().to_string();
    let expected = [
        "the configuration has 3 mistakes:",
        "line 2: alerts.webhook_url: the variable TALLYD_TEST_OF_NO_SUCH_VARIABLE is not set",
        "line 3: alerts.routes: route \"oncall\": its url: ",
        "line 3: alerts.routes: route \"oncall\": its secret: the variable TALLYD_TEST_OF_NO_SUCH_VARIABLE is not set",
    ];
    for (line, part) in said.lines().zip(expected) {
        assert!(line.contains(part), "{line:?} lacks {part:?} in\n{said}");
    }
    assert_eq!(said.lines().count(), expected.len(), "{said}");
    let value = "env:A_VARIABLE_WITH_THE_VALUE_OF_THE_SECRET";
    for (file, key) in [
        (format!("[listen]\ntcp_tokens = [\"{value}\"]"), "listen.tcp_tokens"),
        (format!("[auth]\nissuer = \"https://a\"\nhs256_secret = \"{value}\""), "auth.hs256_secret"),
    ] {
        says(&message(&file, &[], &[]), &[key, "are not read here"]);
    }
}
