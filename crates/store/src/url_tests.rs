use super::*;

fn parse(url: &str) -> Address {
    Address::parse(url, None, Duration::from_secs(5)).unwrap()
}

#[test]
fn ssl_modes_mean_what_the_table_says() {
    let table = [
        ("postgres://h/d", SslMode::Prefer, Verify::Nothing),
        ("postgres://h/d?sslmode=disable", SslMode::Disable, Verify::Nothing),
        ("postgres://h/d?sslmode=prefer", SslMode::Prefer, Verify::Nothing),
        ("postgres://h/d?application_name=x&sslmode=require", SslMode::Require, Verify::Nothing),
        ("postgres://h/d?sslmode=verify-ca&connect_timeout=3", SslMode::Require, Verify::Full),
        ("postgres://h/d?sslmode=verify-full", SslMode::Require, Verify::Full),
        ("postgres://h/d?sslrootcert=%2Fca.pem", SslMode::Require, Verify::Full),
        ("host=h sslmode=verify-full dbname=d", SslMode::Require, Verify::Full),
        ("host=h sslmode='require' password='a b\\' c'", SslMode::Require, Verify::Nothing),
    ];
    for (url, mode, verify) in table {
        let address = parse(url);
        assert_eq!((address.config.get_ssl_mode(), address.verify), (mode, verify), "{url}");
    }
    assert_eq!(parse("host=h sslmode='require' password='a b\\' c'").config.get_password(), Some(&b"a b' c"[..]));
    assert_eq!(parse("postgres://h/d?sslrootcert=%2Fca.pem").ca_file, Some("/ca.pem".into()));
    let lifted = Address::parse("postgres://h/d", Some(Path::new("/ca.pem")), Duration::from_secs(5)).unwrap();
    assert_eq!(lifted.verify, Verify::Full);
}

#[test]
fn a_password_is_never_shown() {
    let redacted = [
        ("postgres://u:secret@h/d", "postgresql://u:***@h:5432/d?sslmode=prefer"),
        (
            "postgres://u:s%40cret@[::1]:6543,h2:7/d?sslmode=require",
            "postgresql://u:***@[::1]:6543,h2:7/d?sslmode=require",
        ),
        ("host=/run/pg user=u@x password=secret dbname=d", "postgresql:///d?host=/run/pg&user=u%40x&password=***"),
        ("postgres://h/d?user=u&password=secret", "postgresql://u:***@h:5432/d?sslmode=prefer"),
    ];
    for (url, expected) in redacted {
        assert_eq!(parse(url).redacted(), expected);
    }
    for wrong in
        ["postgres://u:secret@h:port/d", "secret", "postgres://u:secret@h/d?sslmode=yes", "user=u password=secret"]
    {
        let message = Address::parse(wrong, None, Duration::from_secs(5)).unwrap_err().to_string();
        assert!(!message.contains("secret"), "{message}");
        assert!(message.contains("hint: "), "{message}");
    }
}

#[test]
fn a_dead_connection_is_given_up_in_time() {
    let config = parse("postgres://h/d").config;
    assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(5)));
    assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(30)));
    assert_eq!(config.get_keepalives_idle(), Duration::from_secs(30));
    assert_eq!(config.get_keepalives_retries(), Some(3));
}

#[test]
fn libpq_gets_the_password_by_its_environment() {
    let mut command = Command::new("psql");
    parse("postgres://u:s%20ecret@h:6543/d?sslmode=require").set_environment(&mut command);
    let get = |name: &str| {
        command
            .get_envs()
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| value)
            .map(|v| v.to_str().unwrap().to_owned())
    };
    assert_eq!(get("PGPASSWORD").as_deref(), Some("s ecret"));
    assert_eq!(get("PGHOST").as_deref(), Some("h"));
    assert_eq!(get("PGPORT").as_deref(), Some("6543"));
    assert_eq!(get("PGUSER").as_deref(), Some("u"));
    assert_eq!(get("PGDATABASE").as_deref(), Some("d"));
    assert_eq!(get("PGSSLMODE").as_deref(), Some("require"));
    assert_eq!(get("PGSERVICE"), None);
    assert_eq!(command.get_args().count(), 0);
}

#[test]
fn several_hosts_are_asked_for_one_that_can_be_written_to() {
    let table = [
        ("postgres://h/d", TargetSessionAttrs::Any),
        ("postgres://h,h2/d", TargetSessionAttrs::ReadWrite),
        ("postgres://h,h2/d?target_session_attrs=any", TargetSessionAttrs::ReadWrite),
        ("postgres://h/d?target_session_attrs=read-write", TargetSessionAttrs::ReadWrite),
        ("postgres://h/d?target_session_attrs=primary", TargetSessionAttrs::ReadWrite),
        ("hostaddr=::1,127.0.0.1", TargetSessionAttrs::ReadWrite),
    ];
    for (url, attributes) in table {
        assert_eq!(parse(url).config.get_target_session_attrs(), attributes, "{url}");
    }
    for mode in ["read-only", "standby", "prefer-standby"] {
        let url = format!("postgres://h,h2/d?target_session_attrs={mode}");
        let message = Address::parse(&url, None, Duration::from_secs(5)).unwrap_err().to_string();
        assert!(message.contains("takes no writes"), "{message}");
    }
}

#[test]
fn what_a_url_says_to_other_programs_is_passed_over() {
    let url = "postgres://u:p@h:6543/d?pgbouncer=true&connection_limit=1&application_name=x&supa=base-pooler.x";
    assert_eq!(parse(url).config.get_application_name(), Some("x"));
    let message =
        Address::parse("postgres://h/d?pgbuoncer=true", None, Duration::from_secs(5)).unwrap_err().to_string();
    assert!(message.contains("pgbuoncer"), "{message}");
}

#[test]
fn a_password_ends_with_its_line_and_one_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    assert!(read_password(&file).unwrap_err().contains("cannot be read"));
    for (text, password) in [("secret\n", "secret"), (" a b \r\n", " a b "), ("plain", "plain")] {
        fs::write(&file, text).unwrap();
        assert_eq!(read_password(&file).unwrap(), password.as_bytes());
    }
    fs::write(&file, "\n").unwrap();
    assert!(read_password(&file).unwrap_err().contains("is empty"));
}
