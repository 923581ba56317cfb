//! The configuration: a file, and after a NUL byte the environment, one `NAME=value` per line.

use tallyd_config::Config;

/// Keys and values of a configuration.
pub const WORDS: [&[u8]; 10] = [
    b"\n[listen]\n",
    b"\n[wal]\n",
    b"max_bytes = 1000000000\n",
    b"sync = \"interval\"\n",
    b"\n[database]\nurl = \"postgres://u:p@h/d\"\n",
    b"\0TALLYD_WAL_MAX_BYTES=1000000000\n",
    b"DATABASE_URL=postgres://u:p@h/d?sslmode=verify-full\n",
    b"PORT=8080\n",
    b"\"\"\"\n",
    b"9223372036854775807",
];

/// Reads a configuration. An accepted one can be shown, and its text is TOML.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, variables) = text.split_once('\0').unwrap_or((text, ""));
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Config::from_text(file, variables) {
        Ok(config) => {
            let shown = config.effective_toml().expect("what was read from text can be written as text");
            let parsed = toml::from_str::<toml::Table>(&shown);
            assert!(parsed.is_ok(), "{parsed:?} in\n{shown}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
