//! A daemon for tests: it keeps received records in memory, serves one connection at a time, and fails on command. It
//! reads frames with the real daemon's code.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tallyd_protocol::{Ack, ErrorFrame, Rejection, ServerMessage, Welcome, frame, limits};

use tallyd_intake::frame::{ClientFrame, Records, read};
use tallyd_intake::raw_value::Field;

/// A fault of a connection, with the number of its frame from 1 on.
pub(crate) enum Fault {
    /// The frame is kept; the connection ends before its ack.
    CutAfter(usize),
    /// The frame is lost with the connection.
    CutBefore(usize),
    /// The frame is not taken, and this error is the last message.
    Error(usize, &'static str),
}

/// The daemon's state, which outlives its connections.
#[derive(Default)]
pub(crate) struct Kept {
    /// Each producer's highest sequence number.
    pub last_seq: BTreeMap<String, u64>,
    /// Recorded rows: number, model, input tokens.
    pub rows: Vec<(u64, String, i128)>,
    /// Ids of the recorded rows, in their order.
    pub ids: Vec<String>,
    /// Every received frame: first number, records.
    pub frames: Vec<(u64, usize)>,
    /// Rows to refuse.
    pub refuse: BTreeSet<u64>,
    /// One for each connection, in order; later connections have no faults.
    pub faults: VecDeque<Fault>,
    /// The most records and bytes of a frame; the protocol's limits if 0.
    pub max: (u32, u32),
    /// The next connection ends the daemon.
    pub stopping: bool,
}

pub(crate) struct Daemon {
    socket: PathBuf,
    kept: Arc<Mutex<Kept>>,
    serving: Option<JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn start(folder: &Path, kept: Kept) -> Self {
        let socket = folder.join("tallyd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let kept = Arc::new(Mutex::new(kept));
        let shared = Arc::clone(&kept);
        let serving = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().unwrap().stopping {
                    break;
                }
                // The test decides how a connection ends.
                let _ = serve(&stream.unwrap(), &shared);
            }
        });
        Self { socket, kept, serving: Some(serving) }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> T {
        look(&mut self.kept.lock().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kept.lock().unwrap().stopping = true;
        // The serving thread checks the flag at each new connection.
        let woken = UnixStream::connect(&self.socket);
        let joined = self.serving.take().map(|serving| woken.map(|_| serving.join()));
        assert!(std::thread::panicking() || matches!(joined, Some(Ok(Ok(())))), "the test's daemon failed");
    }
}

fn receive(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut prefix = [0; frame::PREFIX_BYTES];
    stream.read_exact(&mut prefix)?;
    let mut body = vec![0; frame::body_bytes(prefix, 1 << 20).unwrap()];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn say(mut stream: &UnixStream, message: &ServerMessage) -> io::Result<()> {
    let mut out = Vec::new();
    message.write_frame(&mut out);
    stream.write_all(&out)
}

fn serve(stream: &UnixStream, kept: &Mutex<Kept>) -> io::Result<()> {
    let body = receive(stream)?;
    let Ok(ClientFrame::Hello(hello)) = read(&body, limits::FRAME_RECORDS) else {
        panic!("the first message is not a hello")
    };
    let (fault, welcome) = {
        let mut kept = kept.lock().unwrap();
        let last_seq = *kept.last_seq.entry(hello.producer.clone()).or_default();
        let or = |value: u32, usual: u32| if value == 0 { usual } else { value };
        let (max_records, max_frame_bytes) = (or(kept.max.0, 16_384), or(kept.max.1, 1 << 20));
        (
            kept.faults.pop_front(),
            Welcome { protocol: 2, last_seq, max_frame_bytes, max_records, warning: None, budgets: None },
        )
    };
    let max_bytes = welcome.max_frame_bytes as usize;
    say(stream, &ServerMessage::Welcome(welcome))?;
    for number in 1.. {
        let body = receive(stream)?;
        assert!(body.len() <= max_bytes, "a frame of {} bytes", body.len());
        match &fault {
            Some(Fault::CutBefore(at)) if *at == number => return Ok(()),
            Some(Fault::Error(at, code)) if *at == number => {
                let error = ErrorFrame { code: (*code).into(), message: "on command".into() };
                return say(stream, &ServerMessage::Error(error));
            }
            _ => {}
        }
        let Ok(ClientFrame::Records(records)) = read(&body, limits::FRAME_RECORDS) else {
            panic!("not a frame of records")
        };
        let ack = keep(&mut kept.lock().unwrap(), &hello.producer, &records);
        if matches!(fault, Some(Fault::CutAfter(at)) if at == number) {
            return Ok(());
        }
        say(stream, &ServerMessage::Ack(ack))?;
    }
    Ok(())
}

fn keep(kept: &mut Kept, producer: &str, records: &Records<'_>) -> Ack {
    kept.frames.push((records.first_seq, records.count()));
    let mut seq = records.first_seq - 1;
    let mut ack = Ack::default();
    for bytes in records.encoded() {
        seq += 1;
        if seq <= kept.last_seq[producer] {
            continue;
        }
        kept.last_seq.insert(producer.to_owned(), seq);
        if kept.refuse.contains(&seq) {
            let (code, field) = ("range".into(), Some("status".into()));
            ack.rejected.push(Rejection { seq, code, message: "on command".into(), field });
            continue;
        }
        let raw = tallyd_intake::Encoded::MessagePack(bytes).read().unwrap();
        let Field::Given(model) = raw.model else { panic!("row {seq} has no model") };
        let Field::Given(tokens) = raw.input_tokens else { panic!("row {seq} has no tokens") };
        kept.rows.push((seq, model.into_owned(), tokens));
        kept.ids.push(format!("{:?}", raw.id));
    }
    ack.seq = seq;
    ack
}
