//! Stub servers of the vendors' reports, which answer as their documents say.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde_json::{Value, json};

pub(super) const ANTHROPIC_KEY: &str = "sk-ant-admin01-test";
pub(super) const OPENAI_KEY: &str = "sk-admin-test";
/// Buckets of a page, fewer than are asked for: the vendor decides.
const PAGE: usize = 10;

/// A line of a bill. Amounts are cents for Anthropic and dollars for OpenAI, as in their answers.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) workspace: &'static str,
    pub(super) model: &'static str,
    pub(super) tier: &'static str,
    /// Input, output, cache writes for 5 minutes and for an hour.
    pub(super) tokens: [u64; 4],
    pub(super) amount: String,
}

/// What the server does instead of answering.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// 429 with `Retry-After` in seconds.
    Limit(u64),
    /// 500.
    Broken,
    /// The connection ends within the page.
    CutOff,
    /// The page ends within its JSON.
    HalfAPage,
}

#[derive(Default)]
pub(super) struct Bills {
    pub(super) lines: BTreeMap<(&'static str, NaiveDate), Vec<Line>>,
    /// The next requests' faults, by a part of their path.
    pub(super) faults: Vec<(&'static str, Fault)>,
    pub(super) is_down: bool,
    /// Paths with parameters.
    asked: Vec<String>,
}

/// Both vendors' servers. Each answers as documented, and refuses parameters that are not.
pub(super) struct Vendors {
    pub(super) url: String,
    bills: Arc<Mutex<Bills>>,
}

struct Request {
    path: String,
    parameters: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
}

impl Request {
    fn read(mut reader: impl BufRead) -> Self {
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        reader.read_line(&mut line).unwrap();
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        line.clear();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            let (name, value) = line.split_once(':').unwrap();
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            line.clear();
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.replace("%5B%5D", "[]"), value.replace("%3D", "="))
        };
        Self { path: path.to_owned(), parameters: query.split('&').map(pair).collect(), headers }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.parameters.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }
}

impl Vendors {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bills = Arc::<Mutex<Bills>>::default();
        let kept = Arc::clone(&bills);
        // The threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, mut stream) = (Arc::clone(&kept), stream.unwrap());
                std::thread::spawn(move || {
                    let request = Request::read(BufReader::new(stream.try_clone().unwrap()));
                    let (head, body) = kept.lock().unwrap().answer(&request);
                    // The daemon may have been stopped.
                    let _ = write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}");
                });
            }
        });
        Self { url, bills }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Bills)) {
        change(&mut self.bills.lock().unwrap());
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.bills.lock().unwrap().asked)
    }
}

fn whole(status: &str, body: &str) -> (String, String) {
    (format!("{status}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len()), body.to_owned())
}

impl Bills {
    /// The head of an answer, without the empty line, and its body.
    fn answer(&mut self, request: &Request) -> (String, String) {
        self.asked.push(format!("{} page={}", request.path, request.one("page")));
        let fault = self.faults.iter().position(|(part, _)| request.path.contains(part));
        let fault = fault.map(|at| self.faults.remove(at).1).or(self.is_down.then_some(Fault::Broken));
        let page = match self.page(request) {
            Ok(page) => page.to_string(),
            Err((status, message)) => {
                return whole(status, &json!({"type": "error", "error": {"message": message}}).to_string());
            }
        };
        match fault {
            None => whole("200 OK", &page),
            Some(Fault::Limit(seconds)) => {
                let (head, body) = whole("429 Too Many Requests", "{\"error\": {\"type\": \"rate_limit_error\"}}");
                (format!("{head}\r\nretry-after: {seconds}"), body)
            }
            Some(Fault::Broken) => whole("500 Internal Server Error", "{\"error\": {\"type\": \"api_error\"}}"),
            Some(Fault::CutOff) => {
                (format!("200 OK\r\ncontent-length: {}", page.len()), page[..page.len() / 2].to_owned())
            }
            Some(Fault::HalfAPage) => whole("200 OK", &page[..page.len() / 2]),
        }
    }

    fn page(&self, request: &Request) -> Result<Value, (&'static str, String)> {
        let is_anthropic = request.path.starts_with("/v1/organizations/");
        let header = |name: &str| request.headers.get(name).map_or("", String::as_str);
        let is_known = match is_anthropic {
            true => header("x-api-key") == ANTHROPIC_KEY && header("anthropic-version") == "2023-06-01",
            false => header("authorization") == format!("Bearer {OPENAI_KEY}"),
        };
        if !is_known {
            return Err(("401 Unauthorized", "invalid admin key".to_owned()));
        }
        let wrong = |message: String| ("400 Bad Request", message);
        let [start, end, group] = match is_anthropic {
            true => ["starting_at", "ending_at", "group_by[]"],
            false => ["start_time", "end_time", "group_by"],
        };
        let known = [start, end, group, "bucket_width", "limit", "page"];
        if let Some((name, _)) = request.parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            return Err(wrong(format!("unknown parameter {name}")));
        }
        let day = |name: &str| -> Result<NaiveDate, (&'static str, String)> {
            let text = request.one(name);
            let at = match is_anthropic {
                true => text.parse::<DateTime<Utc>>().ok(),
                false => text.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
            };
            at.map(|at| at.date_naive()).ok_or_else(|| wrong(format!("{name}: {text:?}")))
        };
        let (from, end) = (day(start)?, day(end)?);
        let limit: usize = request.one("limit").parse().map_err(|_| wrong("limit".to_owned()))?;
        if limit > 31 || request.one("bucket_width") != "1d" {
            return Err(wrong("limit or bucket_width".to_owned()));
        }
        let skipped = match request.one("page") {
            "" => 0,
            token => {
                token.trim_start_matches("page_").trim_end_matches('=').parse().map_err(|_| wrong("page".to_owned()))?
            }
        };
        let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day < end).collect();
        let shown = &days[skipped..days.len().min(skipped + limit.min(PAGE))];
        let data: Vec<Value> =
            shown.iter().map(|day| self.bucket(*day, request, group)).collect::<Result<_, _>>().map_err(wrong)?;
        let end = skipped + shown.len();
        let next = (end < days.len()).then(|| format!("page_{end}=="));
        Ok(json!({"data": data, "has_more": next.is_some(), "next_page": next}))
    }

    fn bucket(&self, day: NaiveDate, request: &Request, group: &str) -> Result<Value, String> {
        let groups = request.all(group);
        let has = |names: &[&str]| match groups == names {
            true => Ok(()),
            false => Err(format!("{groups:?}")),
        };
        let lines = |vendor| self.lines.get(&(vendor, day)).map_or(&[][..], Vec::as_slice);
        let id = |line: &Line| if line.workspace.is_empty() { Value::Null } else { json!(line.workspace) };
        let anthropic = |results: Vec<Value>| json!({"starting_at": format!("{day}T00:00:00Z"), "ending_at": format!("{}T00:00:00Z", day + Days::new(1)), "results": results});
        let openai = |results: Vec<Value>| {
            let second = |day: NaiveDate| day.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp();
            json!({"object": "bucket", "start_time": second(day), "end_time": second(day + Days::new(1)), "results": results})
        };
        Ok(match request.path.as_str() {
            "/v1/organizations/cost_report" => {
                has(&["workspace_id", "description"])?;
                let result = |line: &Line| {
                    let is_tokens = !line.model.is_empty();
                    json!({"amount": line.amount, "currency": "USD", "workspace_id": id(line), "description": "usage",
                        "cost_type": if is_tokens { "tokens" } else { "web_search" }, "context_window": "0-200k",
                        "model": is_tokens.then_some(line.model), "service_tier": is_tokens.then_some(line.tier),
                        "token_type": "uncached_input_tokens", "inference_geo": "global"})
                };
                anthropic(lines("anthropic").iter().map(result).collect())
            }
            "/v1/organizations/usage_report/messages" => {
                has(&["workspace_id", "model", "service_tier", "inference_geo"])?;
                let result = |line: &Line| {
                    let [input, output, short, long] = line.tokens;
                    json!({"uncached_input_tokens": input, "output_tokens": output, "cache_read_input_tokens": 0,
                        "cache_creation": {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long},
                        "server_tool_use": {"web_search_requests": 0}, "api_key_id": null, "workspace_id": id(line),
                        "model": line.model, "service_tier": line.tier, "context_window": null, "inference_geo": "global"})
                };
                anthropic(lines("anthropic").iter().filter(|line| !line.model.is_empty()).map(result).collect())
            }
            "/v1/organization/costs" => {
                has(&["project_id", "line_item"])?;
                // A number, with its digits.
                let result = |line: &Line| {
                    let value: Value = serde_json::from_str(&line.amount).unwrap();
                    json!({"object": "organization.costs.result", "amount": {"value": value, "currency": "usd"},
                        "line_item": format!("{}, input", line.model), "project_id": id(line)})
                };
                openai(lines("openai").iter().map(result).collect())
            }
            "/v1/organization/usage/completions" => {
                has(&["project_id", "model", "batch", "service_tier"])?;
                let result = |line: &Line| {
                    json!({"object": "organization.usage.completions.result", "input_tokens": line.tokens[0],
                        "input_cached_tokens": 0, "output_tokens": line.tokens[1], "num_model_requests": 1,
                        "project_id": id(line), "model": line.model, "batch": line.tier == "batch",
                        "service_tier": if line.tier == "batch" { "default" } else { line.tier }})
                };
                openai(lines("openai").iter().map(result).collect())
            }
            path if path.starts_with("/v1/organization/usage/") => {
                has(&["project_id", "model"])?;
                openai(Vec::new())
            }
            path => return Err(format!("unknown path {path}")),
        })
    }
}
