//! Claude Code's metric `claude_code.token.usage`, for users who export metrics and not events: a sum with a point for
//! each type of token, model and session.
//!
//! The points of one export that differ only in their type become one record, so `calls` counts intervals of export,
//! not requests. Only deltas are accepted. A total since the start of a process would need the total before, which
//! another daemon, or this one before a restart, may have received.

use std::collections::BTreeMap;

use super::items::{DELTA, ItemSource, Metric, Point};
use super::logs::SYNTHETIC;
use super::record::Draft;
use super::{ItemContext, Took};
use tallyd_config::{ClaudeCode, Otlp};

/// The metric's name.
const NAME: &str = "claude_code.token.usage";
/// The record's field for each type of token. The metric does not tell the lifetime of cache writes.
const FIELDS: [(&str, &str); 4] = [
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cacheRead", "cache_read_tokens"),
    ("cacheCreation", "cache_write_5m_tokens"),
];

/// A record for each model, session, user and interval of the sum.
///
/// # Errors
/// If its points are totals.
pub fn records(
    reading: &ItemContext<'_>,
    source: &ItemSource,
    metric: Metric,
    drafts: &mut Vec<Draft>,
) -> Result<Took, String> {
    let config = reading.config;
    if config.claude_code != ClaudeCode::Metrics || metric.name != NAME {
        return Ok(Took::Ignored);
    }
    if metric.temporality != DELTA {
        return Err("claude_code.token.usage holds totals, of which no interval can be told for certain; set \
             OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta where Claude Code runs"
            .to_owned());
    }
    let mut groups: BTreeMap<_, Draft> = BTreeMap::new();
    for point in &metric.points {
        if point.attributes.text(&["model"]) == Some(SYNTHETIC) {
            continue;
        }
        let kind = point.attributes.text(&["type"]).unwrap_or_default();
        let field = FIELDS.iter().find(|(known, _)| *known == kind);
        let draft = groups.entry(key(config, source, point)).or_insert_with(|| begin(config, source, point));
        match (field, point.value) {
            (Some((_, field)), Some(tokens)) => draft.add(field, tokens),
            (None, Some(0)) => {}
            _ => draft.not_understood(&format!("{NAME} {kind}")),
        }
    }
    let took = if groups.is_empty() { Took::Ignored } else { Took::Record };
    drafts.extend(groups.into_values());
    Ok(took)
}

/// The common properties of one record's points.
fn key(config: &Otlp, source: &ItemSource, point: &Point) -> (u64, u64, [String; 4], BTreeMap<String, String>) {
    let text = |names: &[&str]| point.attributes.text(names).unwrap_or_default().to_owned();
    let user = source.user(config, &point.attributes).unwrap_or_default().to_owned();
    let texts = [text(&["model"]), text(&["session.id"]), text(&["query_source"]), user];
    (point.start_ns, point.time_ns, texts, source.tags(config, &point.attributes))
}

fn begin(config: &Otlp, source: &ItemSource, point: &Point) -> Draft {
    let mut draft = Draft::default();
    draft.occurred_at(point.time_ns);
    draft.text("provider", Some("anthropic"));
    draft.text("model", point.attributes.text(&["model"]));
    draft.text("endpoint", Some("/v1/messages"));
    draft.text("user_id", source.user(config, &point.attributes));
    draft.text("app", source.resource.text(&["service.name"]));
    draft.tags(source.tags(config, &point.attributes));
    draft.note("session_id", point.attributes.text(&["session.id"]));
    draft.keep(None, &point.attributes, |name| !["type", "model", "session.id"].contains(&name));
    source.keep(&mut draft);
    draft
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::attributes::Attributes;
    use super::*;
    use tallyd_model::pricing::{Catalog, PricingOptions};

    fn point(kind: &str, model: &str, value: i64) -> Point {
        let attributes = Attributes::from([("type", kind.into()), ("model", model.into()), ("session.id", "s".into())]);
        Point { start_ns: 1, time_ns: 1_790_000_000_000_000_000, value: Some(value), attributes }
    }

    fn read(claude_code: ClaudeCode, temporality: i32, points: Vec<Point>) -> Result<Vec<Draft>, String> {
        let config = Otlp { claude_code, ..Otlp::default() };
        let mut drafts = Vec::new();
        let metric = Metric { name: "claude_code.token.usage".into(), temporality, points };
        let catalog = Catalog::builtin(&PricingOptions::default()).unwrap();
        let reading = ItemContext { config: &config, catalog: &catalog };
        records(&reading, &ItemSource::default(), metric, &mut drafts).map(|_| drafts)
    }

    #[test]
    fn points_that_differ_in_their_type_alone_are_one_record() {
        let points = vec![
            point("input", "opus", 1),
            point("cacheRead", "opus", 2),
            point("output", "haiku", 3),
            point("cacheCreation", "opus", 4),
            point("input", "opus", 10),
        ];
        let drafts = read(ClaudeCode::Metrics, DELTA, points).unwrap();
        let fields = |draft: &Draft| FIELDS.map(|(_, field)| draft.get(field).as_i64());
        assert_eq!(
            drafts.iter().map(|draft| draft.get("model")).collect::<Vec<_>>(),
            [&json!("haiku"), &json!("opus")]
        );
        assert_eq!(fields(&drafts[0]), [None, Some(3), None, None]);
        assert_eq!(fields(&drafts[1]), [Some(11), None, Some(2), Some(4)]);
    }

    #[test]
    fn totals_are_rejected_what_is_unknown_is_named_and_without_the_setting_nothing_is_read() {
        assert!(read(ClaudeCode::Metrics, 2, vec![]).unwrap_err().contains("=delta"));
        let drafts = read(ClaudeCode::Metrics, DELTA, vec![point("thought", "opus", 1)]).unwrap();
        assert_eq!(drafts[0].get("metadata")["tallyd.not_understood"], "claude_code.token.usage thought");
        let drafts = read(ClaudeCode::Metrics, DELTA, vec![point("input", "opus", -1)]).unwrap();
        assert_eq!(drafts[0].get("input_tokens"), -1, "refused with the record");
        assert_eq!(read(ClaudeCode::Metrics, DELTA, vec![point("input", "<synthetic>", 1)]).unwrap(), []);
        assert_eq!(read(ClaudeCode::Logs, 2, vec![point("thought", "opus", 1)]).unwrap(), []);
    }
}
