//! A stub of an S3-compatible service: multipart uploads, ranges, heads and deletions, and the faults of a bad day.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::support::until;

pub(super) const KEY: &str = "AKIATEST";
pub(super) const REGION: &str = "eu-test-1";

/// Failures instead of an answer, to requests of a method whose target has a text.
#[derive(Clone)]
pub(super) enum Fault {
    /// This status and code, that many times.
    Answer(&'static str, &'static str, usize),
    /// No answer: the request is kept, and does not take effect.
    StallBefore,
    /// No answer, after the request took effect.
    StallAfter,
    /// Half of an answer, after the request took effect; then nothing.
    StallWithin,
    /// Half of an answer, after the request took effect; then the connection is cut.
    Cut,
    /// The connection is cut without an answer.
    CutBefore,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    /// Key and parts, by the upload's id.
    uploads: BTreeMap<String, (String, BTreeMap<usize, Vec<u8>>)>,
    fault: Option<(&'static str, &'static str, Fault)>,
    stalled: bool,
    next: usize,
    /// Method and target of each request.
    asked: Vec<String>,
}

/// The service. Its bucket is `calls`.
pub(super) struct S3 {
    pub(super) url: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

struct Request {
    method: String,
    /// The key, without the bucket, if the path has it.
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<(String, Self)> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        line.clear();
        while reader.read_line(&mut line).unwrap_or(0) > 2 {
            let (name, value) = line.split_once(':')?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            line.clear();
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        };
        let query = query.split('&').map(pair).collect();
        let key = path.trim_start_matches('/').trim_start_matches("calls/").to_owned();
        Some((format!("{method} {target}"), Self { method, key, query, headers, body }))
    }
}

fn xml(status: &str, body: &str) -> (String, Vec<u8>) {
    (format!("{status}\r\ncontent-length: {}", body.len()), body.into())
}

fn refusal(status: &str, code: &str) -> (String, Vec<u8>) {
    xml(status, &format!("<Error><Code>{code}</Code><Message>It is so.</Message></Error>"))
}

impl State {
    fn answer(&mut self, request: &Request) -> (String, Vec<u8>) {
        let allowed = request.headers.get("authorization").map(String::as_str).unwrap_or_default();
        let named = format!("Credential={KEY}/");
        if !allowed.contains(&named) || !allowed.contains(&format!("/{REGION}/s3/")) {
            return refusal("403 Forbidden", "InvalidAccessKeyId");
        }
        let key = &request.key;
        let upload = request.query.get("uploadId");
        match (request.method.as_str(), upload) {
            ("POST", None) if request.query.contains_key("uploads") => {
                self.next += 1;
                let id = format!("upload{}", self.next);
                self.uploads.insert(id.clone(), (key.clone(), BTreeMap::new()));
                xml(
                    "200 OK",
                    &format!(
                        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                    ),
                )
            }
            ("PUT", Some(id)) => {
                let part = request.query["partNumber"].parse().unwrap();
                let Some((_, parts)) = self.uploads.get_mut(id) else {
                    return refusal("404 Not Found", "NoSuchUpload");
                };
                parts.insert(part, request.body.clone());
                (format!("200 OK\r\netag: \"part{part}\"\r\ncontent-length: 0"), Vec::new())
            }
            ("POST", Some(id)) => {
                let Some((key, parts)) = self.uploads.remove(id) else {
                    return refusal("404 Not Found", "NoSuchUpload");
                };
                self.objects.insert(key, parts.into_values().flatten().collect());
                xml("200 OK", "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>")
            }
            ("DELETE", Some(id)) => {
                self.uploads.remove(id);
                xml("204 No Content", "")
            }
            ("DELETE", None) => {
                self.objects.remove(key);
                xml("204 No Content", "")
            }
            ("GET" | "HEAD", _) => self.object(request),
            other => panic!("{other:?} is not expected"),
        }
    }

    fn object(&self, request: &Request) -> (String, Vec<u8>) {
        let Some(bytes) = self.objects.get(&request.key) else { return refusal("404 Not Found", "NoSuchKey") };
        let described = "etag: \"whole\"\r\nlast-modified: Mon, 30 Nov 2026 10:00:00 GMT";
        if request.method == "HEAD" {
            return (format!("200 OK\r\n{described}\r\ncontent-length: {}", bytes.len()), Vec::new());
        }
        let range = request.headers["range"].strip_prefix("bytes=").unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let part = bytes[from..bytes.len().min(to + 1)].to_vec();
        let last = from + part.len() - 1;
        let head = format!("content-range: bytes {from}-{last}/{}\r\ncontent-length: {}", bytes.len(), part.len());
        (format!("206 Partial Content\r\n{described}\r\n{head}"), part)
    }
}

impl S3 {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::<(Mutex<State>, Condvar)>::default();
        let kept = Arc::clone(&shared);
        // The threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, stream) = (Arc::clone(&kept), stream.unwrap());
                std::thread::spawn(move || serve(&kept, &stream));
            }
        });
        Self { url, shared }
    }

    /// Sets, or ends, the fault of requests of a method whose target has a text.
    pub(super) fn fault(&self, fault: Option<(&'static str, &'static str, Fault)>) {
        let mut state = self.shared.0.lock().unwrap();
        state.fault = fault;
        state.stalled = false;
        self.shared.1.notify_all();
    }

    pub(super) fn until_stalled(&self) {
        until("a request is stalled", || {
            if self.shared.0.lock().unwrap().stalled { Ok(()) } else { Err("not yet".into()) }
        });
    }

    /// The names of all objects, without their prefix.
    pub(super) fn names(&self) -> Vec<String> {
        let state = self.shared.0.lock().unwrap();
        state.objects.keys().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
    }

    pub(super) fn uploads(&self) -> usize {
        self.shared.0.lock().unwrap().uploads.len()
    }

    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.0.lock().unwrap().asked)
    }

    /// Changes a byte in the middle of an object.
    pub(super) fn damage(&self, name: &str) {
        let mut state = self.shared.0.lock().unwrap();
        let (_, bytes) = state.objects.iter_mut().find(|(key, _)| key.ends_with(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
}

fn serve(shared: &(Mutex<State>, Condvar), mut stream: &TcpStream) {
    let Some((asked, request)) = Request::read(stream) else { return };
    let mut state = shared.0.lock().unwrap();
    state.asked.push(asked.clone());
    let fault = state.fault.clone().filter(|(method, text, _)| request.method == *method && asked.contains(text));
    let (head, body) = match fault {
        Some((method, text, Fault::Answer(status, code, times))) => {
            state.fault = (times > 1).then_some((method, text, Fault::Answer(status, code, times - 1)));
            refusal(status, code)
        }
        Some((_, _, Fault::CutBefore)) => return,
        Some((_, _, stall)) => {
            if matches!(stall, Fault::StallAfter) {
                state.answer(&request);
            }
            if matches!(stall, Fault::StallWithin | Fault::Cut) {
                let (head, body) = state.answer(&request);
                let half = &body[..body.len() / 2];
                // The client may be gone.
                let _ = write!(stream, "HTTP/1.1 {head}\r\n\r\n").and_then(|()| stream.write_all(half));
            }
            if matches!(stall, Fault::Cut) {
                return;
            }
            state.stalled = true;
            // It ends with the fault; the client is gone by then.
            drop(shared.1.wait_while(state, |state| state.stalled));
            return;
        }
        None => state.answer(&request),
    };
    drop(state);
    // The client may be gone.
    let _ = write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n").and_then(|()| stream.write_all(&body));
}
