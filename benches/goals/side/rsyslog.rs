//! A peer that Debian ships: rsyslogd with a Unix socket, a disk-assisted queue and its PostgreSQL output, which
//! inserts a row a message in a transaction a batch. It writes into the call log, without rollups, prices or
//! acknowledgements.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Calls, Cluster};

const MESSAGES: usize = 100_000;

/// Sends messages and waits for their rows. Returns rows a second; none if rsyslog's module is not installed.
pub fn measure(cluster: &Cluster) -> Option<f64> {
    let installed = Command::new("rsyslogd").arg("-v").stdout(Stdio::null()).status().is_ok();
    if !installed {
        println!("rsyslogd is not installed: scripts/need-rsyslog does it");
        return None;
    }
    cluster.empty_tables();
    let folder = tempfile::Builder::new().prefix("tallyd-bench").tempdir().expect("a folder");
    let _daemon = Rsyslogd::start(cluster, folder.path());
    let mut lines = String::new();
    for call in Calls::new(10_000, 2).take(MESSAGES) {
        let id = uuid::Uuid::from_bytes(call.id.unwrap_or_default());
        lines.push_str(&format!(
            "<14>Nov 20 12:00:00 host api: {id},{},{},{},{},{},{},{}\n",
            call.provider,
            call.model,
            call.endpoint,
            call.user_id,
            call.input_tokens,
            call.output_tokens,
            call.cache_read_tokens
        ));
    }
    let start = Instant::now();
    let mut socket = UnixStream::connect(folder.path().join("in.sock")).expect("rsyslogd's socket");
    socket.write_all(lines.as_bytes()).expect("messages");
    drop(socket);
    let deadline = start + Duration::from_secs(300);
    while cluster.sql("SELECT count(*) FROM api_usage_log").parse() != Ok(MESSAGES) {
        assert!(Instant::now() < deadline, "rsyslogd did not load its messages");
        // Counting the call log ten times a second costs the server a few percent of a core.
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(MESSAGES as f64 / start.elapsed().as_secs_f64())
}

struct Rsyslogd(Child);

impl Rsyslogd {
    fn start(cluster: &Cluster, folder: &Path) -> Self {
        // The first field begins with the blank after the tag.
        let id = "trim('%msg:F,44:1%')::uuid".to_owned();
        let others = (2..=8).map(|index| format!("'%msg:F,44:{index}%'"));
        let values: Vec<String> = std::iter::once(id).chain(others).collect();
        let configuration = format!(
            "global(workDirectory=\"{folder}\")
             module(load=\"imptcp\")
             module(load=\"ompgsql\")
             template(name=\"row\" type=\"string\" option.stdsql=\"on\" string=\"INSERT INTO api_usage_log \
               (occurred_at, id, provider, model, endpoint, user_id, input_tokens, output_tokens, cache_read_tokens) \
               VALUES ('2026-11-20T12:00:00Z', {values})\")
             ruleset(name=\"load\") {{
               action(type=\"ompgsql\" server=\"{server}\" user=\"tallyd\" pass=\"\" db=\"tallyd\" template=\"row\"
                 queue.type=\"LinkedList\" queue.filename=\"queue\" queue.maxDiskSpace=\"2g\" queue.size=\"200000\"
                 queue.dequeueBatchSize=\"5000\" queue.saveOnShutdown=\"on\" action.resumeRetryCount=\"-1\")
             }}
             input(type=\"imptcp\" path=\"{folder}/in.sock\" unlink=\"on\" ruleset=\"load\")\n",
            folder = folder.display(),
            server = cluster.folder().display(),
            values = values.join(","),
        );
        let file = folder.join("rsyslog.conf");
        std::fs::write(&file, configuration).expect("a configuration");
        let child = Command::new("rsyslogd")
            .args(["-n", "-i", "NONE", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .expect("rsyslogd");
        let socket = folder.join("in.sock");
        let deadline = Instant::now() + Duration::from_secs(30);
        while !socket.exists() {
            assert!(Instant::now() < deadline, "rsyslogd did not open its socket");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(child)
    }
}

impl Drop for Rsyslogd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
