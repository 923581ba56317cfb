//! Row 34: hostile bytes on every listener, while producers are at work.
//!
//! The bytes are noise, frames that are deep or large once decoded, or mutations of the fuzzers' corpora, many of which
//! pass the first checks. In each case the connection is answered or closed, no task panics, memory stays bounded, and
//! the producers are not disturbed. Bytes that form a valid record are accepted, and the oracle ignores that record.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rand::{Rng, RngExt};
use tallyd_client::{Endpoint, HelloOptions, Session};
use tallyd_fuzz_readers::mutate::Mutator;
use tallyd_fuzz_readers::{frame, line};
use tallyd_protocol::{ClientMessage, Hello};

use crate::rig::Rig;
use crate::run::{MEMORY_MAX, Run};
use crate::support::{self, PATIENCE};

const TOKEN: &str = "the-right-token-of-16";
/// Whole requests and beginnings of requests.
const HTTP: [&[u8]; 6] = [
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n",
    b"GET /readyz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"GET /%00/../../etc/passwd?\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/1.1\r\nX: ",
];
const HTTP_WORDS: [&[u8]; 4] = [b"\r\n", b"Content-Length: -1\r\n", b"HTTP/1.1", b"Expect: 100-continue\r\n"];

/// A listener, with the bytes that are sent before the hostile ones.
#[derive(Debug, Clone, Copy)]
enum Door {
    Unix,
    UnixAfterHello,
    Tcp,
    TcpAfterHello,
    TcpAfterToken,
    TcpWrongToken,
    Http,
    LocalHttp,
}

const DOORS: [Door; 8] = [
    Door::Unix,
    Door::UnixAfterHello,
    Door::Tcp,
    Door::TcpAfterHello,
    Door::TcpAfterToken,
    Door::TcpWrongToken,
    Door::Http,
    Door::LocalHttp,
];

/// A Unix or TCP stream.
trait Stream: Read + Write {
    /// Ends the sending side.
    fn end(&mut self);
}

impl Stream for UnixStream {
    fn end(&mut self) {
        // The daemon may have closed the connection already.
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Stream for TcpStream {
    fn end(&mut self) {
        // As above.
        let _ = self.shutdown(Shutdown::Write);
    }
}

/// An address that only this process uses: all of 127/8 is this machine.
fn address(port: u16) -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{}:{port}", 1 + (pid >> 16) % 250, (pid >> 8) & 0xff, 1 + (pid & 0xff) % 250)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Hostile bytes at every listener.
pub fn hostile_bytes(run: &mut Run) {
    let (tcp, http) = (address(7434), address(7435));
    let mut rig = Rig::start(run, |daemon| {
        daemon.with("TALLYD_LISTEN_TCP", &tcp).with("TALLYD_LISTEN_TCP_TOKENS", TOKEN).with("TALLYD_HTTP_LISTEN", &http)
    });
    rig.produce(2);
    let requests = HTTP.map(<[u8]>::to_vec);
    let (frames, lines) = (corpus("frame"), corpus("line"));
    let mut frames = Mutator::new(run.rng.random(), &frames, &frame::WORDS);
    let mut lines = Mutator::new(run.rng.random(), &lines, &line::WORDS);
    let mut requests = Mutator::new(run.rng.random(), &requests, &HTTP_WORDS);
    for round in run.rounds() {
        for door in DOORS {
            let mut bytes = match (door, round % 4) {
                (Door::UnixAfterHello | Door::TcpAfterHello, 0) => bomb(round / 4),
                (_, 0) => noise(run),
                (Door::Http | Door::LocalHttp, _) => requests.input(),
                (Door::TcpAfterToken, _) | (_, 1) => lines.input(),
                _ => frames.input(),
            };
            if round % 4 == 3 && !matches!(door, Door::Http | Door::LocalHttp | Door::TcpAfterToken) {
                // With the correct length in front, so that the bytes reach the decoder.
                bytes.splice(0..0, (bytes.len() as u32).to_be_bytes());
            }
            send(&rig, door, &format!("hostile-{round}"), &bytes, &tcp, &http);
        }
        let (_, most) = rig.daemon.resident_bytes();
        assert!(most < MEMORY_MAX, "{} MiB", most >> 20);
        run.step();
    }
    assert!(!rig.daemon.log().contains("panicked"));
    // Afterwards the right token is still accepted.
    let options = HelloOptions { read_timeout: Some(PATIENCE), ..HelloOptions::new("hostile-none") };
    assert_eq!(Session::connect(&Endpoint::tcp(&tcp, TOKEN), options).unwrap().last_seq(), 0);
    run.figure("rss_bytes_afterwards", rig.daemon.resident_bytes().0);
    rig.judge_without_foreign(run);
    assert!(!rig.daemon.log().contains("panicked"));
}

/// A frame that is small on the wire, and large or deep once it is decoded.
fn bomb(number: u32) -> Vec<u8> {
    let inside = match number % 3 {
        // Three bytes each, which become hundreds in a tree.
        0 => [&b"\xa8metadata\x81\xa1k\xdd\x00\x04\x93\xe0"[..], &b"\x81\xa0\x00".repeat(300_000)].concat(),
        1 => [&b"\xa8metadata"[..], &b"\x81\xa1k".repeat(1_000), b"\x80"].concat(),
        _ => [&b"\xa8metadata"[..], &b"\x81\xa1k".repeat(300_000), b"\x80"].concat(),
    };
    let mut frame = Vec::new();
    tallyd_protocol::frame::write(&mut frame, |body| {
        tallyd_protocol::message::write_records_head(body, 1, 1);
        body.extend_from_slice(b"\x82\xa8provider\xa1x");
        body.extend_from_slice(&inside);
    });
    frame
}

fn noise(run: &mut Run) -> Vec<u8> {
    let mut noise = vec![0; run.rng.random_range(1..5_000)];
    run.rng.fill_bytes(&mut noise);
    noise
}

/// Sends the bytes, and waits until the daemon closes the connection.
#[track_caller]
fn send(rig: &Rig, door: Door, producer: &str, bytes: &[u8], tcp: &str, http: &str) {
    let unix = || -> Box<dyn Stream> { Box::new(rig.daemon.connect()) };
    let connect = |address: &str| -> Box<dyn Stream> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Box::new(stream)
    };
    let hello = |token: Option<&str>| {
        let mut out = Vec::new();
        let token = token.map(str::to_owned);
        let hello = Hello { token, ..support::hello(producer) };
        ClientMessage::Hello(hello).write_frame(&mut out);
        out
    };
    let (mut stream, before) = match door {
        Door::Unix => (unix(), Vec::new()),
        Door::UnixAfterHello => (unix(), hello(None)),
        Door::Tcp => (connect(tcp), Vec::new()),
        Door::TcpAfterHello => (connect(tcp), hello(Some(TOKEN))),
        Door::TcpAfterToken => (connect(tcp), format!("{{\"token\":\"{TOKEN}\"}}\n").into_bytes()),
        Door::TcpWrongToken => (connect(tcp), hello(Some("the-wrong-token"))),
        Door::Http => (connect(http), Vec::new()),
        Door::LocalHttp => {
            let stream = UnixStream::connect(rig.daemon.data().join("control.sock")).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            (Box::new(stream) as Box<dyn Stream>, Vec::new())
        }
    };
    // The daemon may close before it has read everything.
    let _ = stream.write_all(&[&before[..], bytes].concat());
    stream.end();
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let closed = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(closed, "{door:?} neither answers nor closes: {error}, after {}", bytes.escape_ascii());
    }
    if matches!(door, Door::TcpWrongToken) {
        assert!(String::from_utf8_lossy(&answer).contains("unauthorized"), "{}", answer.escape_ascii());
    }
}
