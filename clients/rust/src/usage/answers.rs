//! Records from answers that no [`crate::Call`] was made for: fetched later, kept in a queue, or results of a batch.
//!
//! The record's id is derived from the vendor's id of the answer. So an answer that a second run of the same job records
//! again is the same call. `clients/vectors/batches.json` has cases for every client.

use std::fmt;

use serde_json::{Map, Value, json};
use tallyd_protocol::Record;
use uuid::Uuid;

use super::{anthropic, google, openai, owned, text};

const NAMESPACE: Uuid = Uuid::from_u128(0x6d0f_4d1e_6d2b_5a7e_9a55_0f9a_5f3b_7c11);

/// The form of an answer's usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Anthropic's messages.
    Anthropic,
    /// OpenAI's, and that of the many vendors that follow it.
    OpenAi,
    /// Gemini's.
    Google,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Google => "google",
        }
    }

    /// The provider of this family, unless another one is named.
    fn provider(self) -> &'static str {
        if self == Self::Anthropic { "claude" } else { self.name() }
    }
}

/// A line in a batch's results that is not a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAResult {
    /// The line's number, from 1; None for a value that was not read from a line.
    pub line: Option<usize>,
    what: String,
}

impl fmt::Display for NotAResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            None => write!(f, "the value {}", self.what),
            Some(line) => write!(f, "line {line} {}", self.what),
        }
    }
}

impl std::error::Error for NotAResult {}

/// The record of a complete answer. `provider` is for another vendor whose answers have this family's form.
///
/// An answer without usage was paid for, so its record is unpriced. An answer without a vendor's id gets a new id at each
/// call.
///
/// ```
/// use tallyd_client::usage::{Family, record_of};
///
/// let answer = serde_json::json!({"id": "msg_1", "model": "claude-sonnet-4-5", "usage": {"input_tokens": 12, "output_tokens": 5}});
/// let record = record_of(Family::Anthropic, &answer, None);
/// assert_eq!(record.id, record_of(Family::Anthropic, &answer, None).id);
/// ```
#[must_use]
pub fn record_of(family: Family, answer: &Value, provider: Option<&str>) -> Record {
    let read = match family {
        Family::Anthropic => anthropic(answer),
        Family::OpenAi => openai(answer),
        Family::Google => google(answer),
    };
    let mut record = read.unwrap_or_else(|| untold(answer));
    record.provider = provider.unwrap_or(family.provider()).to_owned().into();
    let own = text(&answer[if family == Family::Google { "responseId" } else { "id" }]);
    if !own.is_empty() {
        let name = format!("{}\n{own}", record.provider);
        record.id = Some(Uuid::new_v5(&NAMESPACE, name.as_bytes()).into_bytes());
        record.request_id = own.to_owned().into();
    }
    record.occurred_at = made_at(&answer["created"]).or_else(|| made_at(&answer["created_at"]));
    record
}

/// The unpriced record of an answer without usage.
fn untold(answer: &Value) -> Record {
    let model = if answer["model"].is_null() { &answer["modelVersion"] } else { &answer["model"] };
    let metadata = json!({"tallyd.not_understood": "usage"}).to_string();
    Record { model: owned(model), metadata: Some(metadata.into()), ..Record::default() }
}

/// Whole seconds since 1970 as microseconds.
fn made_at(seconds: &Value) -> Option<i64> {
    let seconds = seconds.as_f64().filter(|seconds| *seconds > 0.0 && seconds.fract() == 0.0)?;
    // A number beyond an i64 becomes the largest, which has no value in microseconds.
    (seconds as i64).checked_mul(1_000_000)
}

/// The records of a batch's results, from the lines of its file. Their service tier is `batch`. Results that were not billed
/// (errored, cancelled, expired) have no record; empty lines are skipped. A line that is not a result gives an error, and
/// the iterator goes on with the next line.
///
/// ```
/// use tallyd_client::usage::{Family, records_of_batch};
/// # let recorder = tallyd_client::Recorder::builder(tallyd_client::Endpoint::unix("/run/tallyd/tallyd.sock")).disabled(true).build();
///
/// let file = r#"{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1","usage":{"input_tokens":12,"output_tokens":5}}}}"#;
/// for record in records_of_batch(Family::Anthropic, file.lines(), None) {
///     recorder.record(record?);
/// }
/// # Ok::<(), tallyd_client::usage::NotAResult>(())
/// ```
pub fn records_of_batch<L: AsRef<str>>(
    family: Family,
    lines: impl IntoIterator<Item = L>,
    provider: Option<&str>,
) -> impl Iterator<Item = Result<Record, NotAResult>> {
    let numbered = lines.into_iter().zip(1..).filter(|(line, _)| !line.as_ref().trim().is_empty());
    numbered.filter_map(move |(line, number)| {
        let parsed: Result<Value, _> = serde_json::from_str(line.as_ref());
        let result =
            parsed.map_err(|error| format!("is not JSON: {error}")).and_then(|line| result(family, &line, provider));
        result.map_err(|what| NotAResult { line: Some(number), what }).transpose()
    })
}

/// The record of one parsed result of a batch; None if it was not billed. See [`records_of_batch`].
///
/// # Errors
/// [`NotAResult`] for a value that is not a batch result of this family.
pub fn record_of_result(family: Family, value: &Value, provider: Option<&str>) -> Result<Option<Record>, NotAResult> {
    result(family, value, provider).map_err(|what| NotAResult { line: None, what })
}

fn result(family: Family, line: &Value, provider: Option<&str>) -> Result<Option<Record>, String> {
    let Some(answer) = answer_of(family, line)? else { return Ok(None) };
    let mut record = record_of(family, answer, provider);
    let tiers = record.service_tier.split('+').filter(|tier| !["", "standard", "batch"].contains(tier));
    let tier = std::iter::once("batch").chain(tiers).collect::<Vec<_>>().join("+");
    record.service_tier = tier.into();
    let name = [&line["custom_id"], &line["key"]].map(text).into_iter().find(|name| !name.is_empty());
    if let Some(name) = name {
        let own = record.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let mut metadata: Map<String, Value> = own.unwrap_or_default();
        metadata.entry("custom_id").or_insert_with(|| json!(name));
        record.metadata = Some(Value::Object(metadata).to_string().into());
    }
    Ok(Some(record))
}

/// The answer in a result; None if the vendor did not bill it.
fn answer_of(family: Family, line: &Value) -> Result<Option<&Value>, String> {
    let has = |name: &str| line.get(name).is_some();
    let (result, response) = (&line["result"], &line["response"]);
    match family {
        Family::Anthropic if has("result") => Ok((result["type"] == "succeeded").then(|| &result["message"])),
        Family::OpenAi if has("response") => Ok((response["status_code"] == 200).then(|| &response["body"])),
        Family::Google if has("response") || has("error") => {
            Ok(response.as_object().is_some_and(|fields| !fields.is_empty()).then_some(response))
        }
        _ => Err(format!("is not a result of a batch of {}'s", family.name())),
    }
}
