//! The protocol: JSON-RPC 2.0, a message a line. Of its methods a server of tools has `initialize`, `ping`, `tools/list` and
//! `tools/call`.
//!
//! A line has at most [`LINE_BYTES_MAX`] bytes; the rest of a longer one is skipped, and it is refused. Notifications are not
//! answered. The server ends with its input.

use std::io::{BufRead, Read, Write};

use serde_json::{Value as Answer, json};

use super::tools::{self, Failure};
use tallyd_model::json::{self, Value};

/// The longest message, bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Versions whose messages are the same here, the newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const INSTRUCTIONS: &str = "Costs of paid API calls, from tallyd. Amounts are exact decimal text in USD. Days are of the reporting time zone, \
    which answers name. Unpriced calls have no cost yet: they are not in the amounts. Ask `costs` for sums, `explain_change` for causes.";

/// The server. `call` runs a tool and returns its answer's text.
pub(super) struct Server<C> {
    pub(super) call: C,
}

/// A JSON-RPC error.
struct Fault {
    code: i32,
    message: String,
}

impl Fault {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl<C: Fn(&str, &Value) -> Result<String, Failure>> Server<C> {
    /// Answers messages until the input ends.
    ///
    /// # Errors
    /// If the input cannot be read, or the output cannot be written.
    pub(super) fn run(&self, mut input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let answer = if line.len() > LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                input.skip_until(b'\n')?;
                let fault = Fault::new(-32600, format!("a message has at most {LINE_BYTES_MAX} bytes"));
                Some(faulty(&Answer::Null, &fault))
            } else if line.trim_ascii().is_empty() {
                None
            } else {
                self.answer(&line)
            };
            if let Some(answer) = answer {
                writeln!(output, "{answer}")?;
                output.flush()?;
            }
        }
    }

    /// The answer to a message; none to a notification.
    fn answer(&self, line: &[u8]) -> Option<Answer> {
        let message: Value = match json::from_slice(line) {
            Ok(message) => message,
            Err(error) => return Some(faulty(&Answer::Null, &Fault::new(-32700, error.to_string()))),
        };
        let id = match message.get("id") {
            Some(Value::String(text)) => Some(json!(text)),
            Some(Value::Number(digits)) => digits.parse::<i64>().ok().map(|number| json!(number)),
            _ => None,
        };
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            // An answer to a request that this server never makes is left alone.
            let is_answer = message.get("result").is_some() || message.get("error").is_some();
            let fault = Fault::new(-32600, "not a request of JSON-RPC: it does not have a method");
            return (!is_answer).then(|| faulty(&id.unwrap_or_default(), &fault));
        };
        let id = id?;
        let nothing = Value::Null;
        let done = self.request(method, message.get("params").unwrap_or(&nothing));
        Some(match done {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(fault) => faulty(&id, &fault),
        })
    }

    fn request(&self, method: &str, parameters: &Value) -> Result<Answer, Fault> {
        match method {
            "initialize" => {
                let asked = parameters.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
                let version = VERSIONS.into_iter().find(|known| *known == asked).unwrap_or(VERSIONS[0]);
                Ok(json!({
                    "protocolVersion": version,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "tallyd", "title": "tallyd", "version": env!("CARGO_PKG_VERSION")},
                    "instructions": INSTRUCTIONS,
                }))
            }
            "ping" => Ok(json!({})),
            "tools/list" => Ok(json!({"tools": tools::list()})),
            "tools/call" => {
                let name = parameters.get("name").and_then(Value::as_str);
                let name = name.ok_or_else(|| Fault::new(-32602, "params.name: the tool's name is missing"))?;
                let (text, is_error) = match (self.call)(name, parameters.get("arguments").unwrap_or(&Value::Null)) {
                    Ok(text) => (text, false),
                    Err(Failure::Unknown) => return Err(Fault::new(-32602, format!("there is no tool {name:?}"))),
                    Err(Failure::Told(text)) => (text, true),
                };
                Ok(json!({"content": [{"type": "text", "text": text}], "isError": is_error}))
            }
            _ => Err(Fault::new(-32601, format!("there is no method {method:?}"))),
        }
    }
}

fn faulty(id: &Answer, fault: &Fault) -> Answer {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": fault.code, "message": fault.message}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(input: &[u8]) -> Vec<Answer> {
        let call = |name: &str, arguments: &Value| match name {
            "echo" => Ok(arguments.get("text").and_then(Value::as_str).unwrap_or_default().to_owned()),
            "fails" => Err(Failure::Told("why".to_owned())),
            _ => Err(Failure::Unknown),
        };
        let mut output = Vec::new();
        Server { call }.run(input, &mut output).unwrap();
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_message_has_one_answer_and_no_byte_ends_the_server() {
        let long = format!("{{\"id\":1,\"method\":\"ping\",\"params\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
        let deep = "[".repeat(100_000);
        for (line, code) in [
            ("{", -32700),
            ("\u{0}", -32700),
            (deep.as_str(), -32700),
            (long.as_str(), -32600),
            ("[]", -32600),
            ("{\"id\":1}", -32600),
            ("{\"id\":1,\"method\":\"resources/list\"}", -32601),
            ("{\"id\":1,\"method\":\"tools/call\"}", -32602),
            ("{\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"rm\"}}", -32602),
        ] {
            let text = format!("{line}\n\n{{\"id\":\"a\",\"method\":\"ping\"}}");
            let found = answers(text.as_bytes());
            assert_eq!(found.len(), 2, "{}", &line[..line.len().min(80)]);
            assert_eq!(found[0]["error"]["code"], code, "{}", found[0]);
            assert_eq!(found[1], json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
        }
        for silent in [
            "{\"method\":\"notifications/initialized\"}",
            "{\"id\":1,\"result\":{}}",
            "{\"id\":null,\"method\":\"ping\"}",
            "",
        ] {
            assert!(answers(silent.as_bytes()).is_empty(), "{silent}");
        }
    }

    #[test]
    fn a_tools_failure_is_content_and_an_older_version_is_agreed_on() {
        let ask = |method: &str, parameters: Answer| {
            let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": parameters}).to_string();
            let answer = answers(message.as_bytes()).remove(0);
            assert_eq!(answer["id"], 7);
            answer["result"].clone()
        };
        let echoed = ask("tools/call", json!({"name": "echo", "arguments": {"text": "ü\n"}}));
        assert_eq!(echoed, json!({"content": [{"type": "text", "text": "ü\n"}], "isError": false}));
        let failed = ask("tools/call", json!({"name": "fails"}));
        assert_eq!((&failed["isError"], &failed["content"][0]["text"]), (&json!(true), &json!("why")));
        for (asked, agreed) in [("2024-11-05", "2024-11-05"), ("1999-01-01", VERSIONS[0])] {
            assert_eq!(ask("initialize", json!({"protocolVersion": asked}))["protocolVersion"], agreed);
        }
    }
}
