//! A miniature daemon: real Unix sockets, the real protocol, deduplication by sequence number, scripted faults. Each
//! connection takes the next script; without one it behaves like a healthy daemon.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rmp::decode;
use tallyd_protocol::{Ack, ClientMessage, ErrorFrame, Hello, Rejection, ServerMessage, Welcome, frame, scan};

/// How long a test waits for an expected event.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The behaviour of one connection.
#[derive(Debug, Clone)]
pub enum Script {
    /// Accepts, and reads nothing.
    Stuck,
    /// Closes after this many frames, the last of which is kept but not acknowledged.
    KeepThenClose(usize),
    /// Closes after this many frames, the last of which is forgotten.
    LoseThenClose(usize),
    /// Answers the hello with these bytes.
    Answer(Vec<u8>),
    /// Forgets the first frame, and answers it with these bytes.
    AnswerFrame(Vec<u8>),
    /// Keeps everything, and acknowledges once [`Daemon::release`] was called.
    HoldAcks,
    /// Welcomes with these bounds.
    Bounds { max_records: u32, max_frame_bytes: u32 },
    /// Refuses the records with these sequence numbers.
    Refuse(Vec<u64>),
    /// Fences the connection after this many frames.
    Fence(usize),
}

#[derive(Default)]
pub struct Kept {
    pub last_seq: u64,
    /// Durable records in order: sequence number and array form.
    pub records: Vec<(u64, Vec<u8>)>,
    /// Every frame body that arrived, duplicates included, with its first sequence number.
    pub frames: Vec<(u64, Vec<u8>)>,
    pub hellos: Vec<Hello>,
    pub scripts: VecDeque<Script>,
    /// The secret of a producer that is refused.
    pub refuses: Option<String>,
    pub connections: usize,
    released: bool,
    stopping: bool,
    streams: Vec<UnixStream>,
}

/// The state that survives a restart, and that tests wait for.
#[derive(Default)]
pub struct State {
    kept: Mutex<Kept>,
    changed: Condvar,
}

impl State {
    pub fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        let result = f(&mut self.kept.lock().unwrap());
        self.changed.notify_all();
        result
    }

    /// Waits until `done`; a test that waits too long fails.
    pub fn wait(&self, what: &str, done: impl Fn(&Kept) -> bool) {
        let (kept, timeout) =
            self.changed.wait_timeout_while(self.kept.lock().unwrap(), PATIENCE, |kept| !done(kept)).unwrap();
        drop(kept);
        assert!(!timeout.timed_out(), "waited in vain for: {what}");
    }
}

pub struct Daemon {
    pub state: Arc<State>,
    path: PathBuf,
    accepting: Option<JoinHandle<()>>,
}

impl Daemon {
    pub fn start(path: &Path, scripts: impl IntoIterator<Item = Script>) -> Self {
        let state = Arc::new(State::default());
        state.with(|kept| kept.scripts.extend(scripts));
        Self::restart(path, state)
    }

    /// Starts with the state of an earlier daemon.
    pub fn restart(path: &Path, state: Arc<State>) -> Self {
        state.with(|kept| kept.stopping = false);
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let accepting = thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&listener, &state)
        });
        Self { state, path: path.to_owned(), accepting: Some(accepting) }
    }

    pub fn release(&self) {
        self.state.with(|kept| kept.released = true);
    }

    /// Ends at once and closes all connections. The state stays.
    pub fn kill(mut self) -> Arc<State> {
        self.end();
        Arc::clone(&self.state)
    }

    fn end(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.state.with(|kept| {
            kept.stopping = true;
            kept.streams.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        });
        // Wakes the accept call, which then sees the flag.
        let _ = UnixStream::connect(&self.path);
        let joined = accepting.join();
        assert!(joined.is_ok() || thread::panicking(), "a connection of the daemon failed");
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn accept(listener: &UnixListener, state: &Arc<State>) {
    let mut connections = Vec::new();
    loop {
        let (stream, _) = listener.accept().unwrap();
        let script = state.with(|kept| {
            kept.connections += 1;
            kept.streams.push(stream.try_clone().unwrap());
            (!kept.stopping).then(|| kept.scripts.pop_front())
        });
        let Some(script) = script else { break };
        let state = Arc::clone(state);
        connections.push(thread::spawn(move || {
            // Tests check how the connection ended; the error says nothing more.
            let _ = serve(&stream, script.as_ref(), &state);
            if !matches!(script, Some(Script::Stuck)) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }));
    }
    connections.into_iter().for_each(|connection| connection.join().unwrap());
}

fn read_frame(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; frame::body_bytes(prefix, 16 << 20).unwrap()];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn say(mut stream: &UnixStream, message: &ServerMessage) -> io::Result<()> {
    let mut out = Vec::new();
    message.write_frame(&mut out);
    stream.write_all(&out)
}

fn serve(mut stream: &UnixStream, script: Option<&Script>, state: &State) -> io::Result<()> {
    if matches!(script, Some(Script::Stuck)) {
        return Ok(());
    }
    let ClientMessage::Hello(hello) = rmp_serde::from_slice(&read_frame(stream)?).unwrap() else { panic!("a hello") };
    let (last_seq, is_refused) = state.with(|kept| {
        let is_refused = kept.refuses.as_ref() == Some(&hello.secret);
        kept.hellos.push(hello);
        (kept.last_seq, is_refused)
    });
    if is_refused {
        let error = ErrorFrame { code: "secret".into(), message: "no".into() };
        return say(stream, &ServerMessage::Error(error));
    }
    if let Some(Script::Answer(bytes)) = script {
        return stream.write_all(bytes);
    }
    let (max_records, max_frame_bytes) = match script {
        Some(Script::Bounds { max_records, max_frame_bytes }) => (*max_records, *max_frame_bytes),
        _ => (16_384, 1 << 20),
    };
    let welcome = Welcome { protocol: 2, last_seq, max_frame_bytes, max_records, warning: None, budgets: None };
    say(stream, &ServerMessage::Welcome(welcome))?;
    for frame in 1.. {
        let body = read_frame(stream)?;
        assert!(body.len() <= max_frame_bytes as usize, "a frame of {} bytes", body.len());
        if matches!(script, Some(Script::LoseThenClose(frames)) if *frames == frame) {
            return Ok(());
        }
        if let Some(Script::AnswerFrame(bytes)) = script {
            return stream.write_all(bytes);
        }
        let ack = keep(&body, script, max_records, state);
        match script {
            Some(Script::KeepThenClose(frames)) if *frames == frame => return Ok(()),
            Some(Script::HoldAcks) => state.wait("the release of acks", |kept| kept.released || kept.stopping),
            _ => {}
        }
        say(stream, &ServerMessage::Ack(ack))?;
        if matches!(script, Some(Script::Fence(frames)) if *frames == frame) {
            let error = ErrorFrame { code: "fenced".into(), message: "another connection has this name".into() };
            return say(stream, &ServerMessage::Error(error));
        }
    }
    Ok(())
}

/// Reads a `records` body, keeps new records, and returns the ack.
fn keep(body: &[u8], script: Option<&Script>, max_records: u32, state: &State) -> Ack {
    let (first_seq, records) = parse(body);
    assert!(records.len() <= max_records as usize);
    state.with(|kept| {
        kept.frames.push((first_seq, body.to_vec()));
        let mut ack = Ack { seq: first_seq + records.len() as u64 - 1, ..Ack::default() };
        for (seq, record) in (first_seq..).zip(records) {
            if seq <= kept.last_seq {
                continue;
            }
            kept.last_seq = seq;
            if matches!(script, Some(Script::Refuse(refused)) if refused.contains(&seq)) {
                let (code, message) = ("range".into(), "no".into());
                ack.rejected.push(Rejection { seq, code, message, field: None });
            } else {
                kept.records.push((seq, record));
            }
        }
        ack
    })
}

fn parse(body: &[u8]) -> (u64, Vec<Vec<u8>>) {
    let mut rest = body;
    assert_eq!(decode::read_map_len(&mut rest).unwrap(), 1);
    name(&mut rest, "records");
    assert_eq!(decode::read_map_len(&mut rest).unwrap(), 2);
    name(&mut rest, "first_seq");
    let first_seq = decode::read_int(&mut rest).unwrap();
    name(&mut rest, "records");
    let count = decode::read_array_len(&mut rest).unwrap();
    let records = (0..count).map(|_| {
        let (record, after) = rest.split_at(scan::value_bytes(rest).unwrap());
        rest = after;
        record.to_vec()
    });
    let records = records.collect();
    assert!(rest.is_empty());
    (first_seq, records)
}

fn name<'a>(rest: &mut &'a [u8], expected: &str) {
    let input: &'a [u8] = rest;
    let (got, after) = decode::read_str_from_slice(input).unwrap();
    assert_eq!(got, expected);
    *rest = after;
}

/// The id and `input_tokens` of an encoded record that has at least nine fields and empty texts before them.
pub fn id_and_number(record: &[u8]) -> (Vec<u8>, u64) {
    let mut rest = record;
    let fields = decode::read_array_len(&mut rest).unwrap();
    // 16 bytes, or 17 if the client made the id.
    let id = rest[2 + usize::from(rest[1]) - 16..][..16].to_vec();
    for _ in 0..8 {
        rest = &rest[scan::value_bytes(rest).unwrap()..];
    }
    let number = if fields > 8 { decode::read_int(&mut rest).unwrap() } else { 0 };
    (id, number)
}

/// Waits until `done`; a test that waits too long fails.
pub fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
