//! PostgreSQL's own COPY of the very rows that tallyd has loaded, from a file, into the same emptied table.

use std::path::PathBuf;
use std::time::Instant;

use crate::support::Cluster;

/// The call log's rows in a file, and their number.
pub struct Rows {
    file: PathBuf,
    count: usize,
}

impl Rows {
    /// Dumps the call log in the order of the calls' times, and leaves it unchanged.
    pub fn dump(cluster: &Cluster, count: usize) -> Self {
        let file = cluster.folder().join("rows");
        cluster
            .sql(&format!("\\copy (SELECT * FROM api_usage_log ORDER BY occurred_at) TO '{}' BINARY", file.display()));
        Self { file, count }
    }

    /// `\copy` by psql, one session. Returns rows a second.
    pub fn by_psql(&self, cluster: &Cluster) -> f64 {
        self.load(cluster, &format!("\\copy api_usage_log FROM '{}' BINARY", self.file.display()))
    }

    /// COPY from a file that the server reads itself, one session. Returns rows a second.
    pub fn by_server(&self, cluster: &Cluster) -> f64 {
        self.load(cluster, &format!("COPY api_usage_log FROM '{}' BINARY", self.file.display()))
    }

    fn load(&self, cluster: &Cluster, statement: &str) -> f64 {
        cluster.empty_tables();
        let start = Instant::now();
        cluster.sql(statement);
        self.count as f64 / start.elapsed().as_secs_f64()
    }
}
