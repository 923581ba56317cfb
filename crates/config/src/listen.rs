//! `[listen]`: the daemon's addresses for records, and the limits of one connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tallyd_protocol::limits;

use super::error::Faults;
use super::{Secret, form};

/// Bytes that a Unix socket's path may have: `sun_path` less its closing zero, on every system that tallyd runs on.
const SOCKET_PATH_BYTES: usize = 103;

/// Bytes that a token over TCP has at least.
const TOKEN_BYTES_MIN: usize = 16;

/// The listeners of the wire protocol.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Path of the Unix socket. Empty: `tallyd.sock` in the data folder.
    #[serde(with = "form::empty_is_none")]
    pub socket: Option<PathBuf>,
    /// Permissions of the socket's file, octal. Each user who may write to the socket may record.
    #[serde(with = "form::octal")]
    pub socket_mode: u32,
    /// Address for the same protocol over TCP, `host:port`. Empty: none.
    #[serde(with = "form::empty_is_none")]
    pub tcp: Option<String>,
    /// Tokens that TCP clients may show, secret, of 16 characters at least. Required with `tcp`; several, so that one can be
    /// replaced.
    pub tcp_tokens: Vec<Secret>,
    /// Connections over TCP that have not shown a token yet, of one address half of them at most; the one that is waited for
    /// longest makes room for the next. They do not count towards `max_connections`.
    pub max_strangers: usize,
    /// Connections at once, all listeners together; more wait until one ends. TCP has half of them at most.
    pub max_connections: usize,
    /// Bytes of one frame. Unfinished frames beyond 64 KiB share 32 MiB, and connections wait beyond.
    pub max_frame_bytes: usize,
    /// Records of one frame.
    pub max_frame_records: usize,
    /// Frames of one connection that wait for their acknowledgement; the connection is not read beyond.
    pub max_in_flight_frames: usize,
    /// Bytes of one line of newline-delimited JSON.
    pub max_line_bytes: usize,
    /// How long a new connection may take to say hello.
    #[serde(rename = "hello_timeout_ms", with = "form::milliseconds")]
    pub hello_timeout: Duration,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: 0o660,
            tcp: None,
            tcp_tokens: Vec::new(),
            max_strangers: 512,
            max_connections: 12_000,
            max_frame_bytes: limits::FRAME_BYTES,
            max_frame_records: limits::FRAME_RECORDS,
            max_in_flight_frames: 64,
            max_line_bytes: 64 * 1024,
            hello_timeout: Duration::from_secs(10),
        }
    }
}

impl Listen {
    pub(super) fn validate(&self, faults: &mut Faults, socket_path: &Path) {
        let path_bytes = socket_path.as_os_str().len();
        if path_bytes > SOCKET_PATH_BYTES {
            let reason = format!(
                "{} has {path_bytes} bytes, a Unix socket's path at most {SOCKET_PATH_BYTES}; set a shorter one",
                socket_path.display()
            );
            faults.add("listen.socket", reason);
        }
        if let Some(address) = &self.tcp {
            faults.is_address("listen.tcp", address);
            if self.tcp_tokens.is_empty() {
                let reason = "listen.tcp is set, and without tokens nobody could connect; add at least one";
                faults.add("listen.tcp_tokens", reason);
            }
        }
        if self.tcp_tokens.iter().any(|token| token.expose().len() < TOKEN_BYTES_MIN) {
            let reason = format!(
                "a token has fewer than {TOKEN_BYTES_MIN} characters and could be found by trying; `openssl rand -hex 32` makes \
                 a good one"
            );
            faults.add("listen.tcp_tokens", reason);
        }
        if self.tcp_tokens.iter().any(Secret::is_elsewhere) {
            faults.add(
                "listen.tcp_tokens",
                "file: and env: are not read here; set the variable TALLYD_LISTEN_TCP_TOKENS",
            );
        }
        faults.in_range("listen.max_strangers", self.max_strangers, 4..=65_536);
        faults.in_range("listen.max_connections", self.max_connections, 1..=1_000_000);
        faults.in_range("listen.max_frame_bytes", self.max_frame_bytes, 4096..=256 * 1024 * 1024);
        faults.in_range("listen.max_frame_records", self.max_frame_records, 1..=1_000_000);
        faults.in_range("listen.max_in_flight_frames", self.max_in_flight_frames, 1..=65_536);
        faults.in_range("listen.max_line_bytes", self.max_line_bytes, 1024..=256 * 1024 * 1024);
        faults.in_range("listen.hello_timeout_ms", self.hello_timeout.as_millis(), 100..=600_000);
    }
}
