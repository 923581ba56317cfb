//! The metrics, from their registry.

use tallyd_base::registry;

use super::{head, holds};

#[test]
fn the_page_of_the_metrics_is_the_registry() {
    let mut text = head("Metrics", "`crates/base/src/registry.rs`");
    text.push_str(
        "`GET /metrics` has these for Prometheus. The endpoint needs no token; `http.metrics_listen` moves it to an address of its own. Costs, tokens, calls and credits by model are shown on that address, and on `http.listen` to requests with a token of the role `read`, or to everybody with `http.metrics_spend`. `process_*` are the process's own by their standard names. Times are in seconds, sizes in bytes. [grafana/](../../grafana/) has dashboards and alerts,\n\
         and the [runbook](../operate/runbook.md) a section for each alert.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    let mut metrics: Vec<_> = registry::ALL.iter().collect();
    metrics.sort_unstable_by_key(|metric| metric.name);
    for metric in metrics {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = metric.help.trim().replace('|', "\\|");
        text.push_str(&format!("| `{}` | {} | {} | {help} |\n", metric.name, metric.kind, labels.join(", ")));
    }
    holds("docs/reference/metrics.md", &text);
}
