//! Open files: each connection is one, and so are the log's segments, which must never go without.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files of everything but connections: stores, PostgreSQL, HTTP, the runtime.
const RESERVE: u64 = 256;

/// Raises the process's limit as far as it may, and says how many connections fit below it, at most `wanted`. The log
/// would fail, and the daemon end, if connections took the last descriptor.
pub(super) fn connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, the limit stays what it is.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    let Some(files) = current else { return wanted };
    let room = room(files);
    if room < wanted {
        tracing::warn!(
            wanted,
            connections = room,
            files,
            "fewer connections than listen.max_connections fit below the limit of open files (ulimit -n); more wait"
        );
    }
    room.min(wanted)
}

/// Connections below a limit of so many files. Under a small limit half of it is for the rest.
fn room(files: u64) -> usize {
    let room = files - RESERVE.min(files.div_ceil(2));
    usize::try_from(room).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_always_has_some() {
        assert_eq!(room(20_000), 19_744);
        assert_eq!(room(256), 128);
        assert_eq!(room(0), 1);
    }
}
