//! Connections that stay, send nothing, or never read.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tallyd_client::{Endpoint, HelloOptions, Record, Session};

use crate::client::{Api, free_address, send};
use crate::support::daemon::Daemon;
use crate::support::postgres::Postgres;
use crate::support::{PATIENCE, hello, until};

/// The bound in SECURITY.md, which holds for a build without optimisation.
const MEMORY_MAX: u64 = 256 << 20;
const TOKEN: &str = "a-token-that-nobody-guesses";

/// Raises the limit of open files for this process and the daemons that it starts.
pub fn with_many_files() {
    let limits = getrlimit(Resource::Nofile);
    assert!(limits.maximum.is_none_or(|maximum| maximum >= 8_000), "`ulimit -Hn` is too low for this test");
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
}

/// A connection from another address of this machine.
pub fn connect_from(last: u8, to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 7, last), 0))).unwrap();
    connect(&socket, &to).unwrap();
    TcpStream::from(socket)
}

/// Sends `bytes` up to `times` times, until the other side takes no more or has closed the connection.
pub fn push(stream: &mut TcpStream, bytes: &[u8], times: usize) {
    stream.set_nonblocking(true).unwrap();
    'all: for _ in 0..times {
        let mut at = 0;
        while at < bytes.len() {
            match stream.write(&bytes[at..]) {
                Ok(sent) => at += sent,
                Err(_) => break 'all,
            }
        }
    }
}

/// A client that announces frames of 1 MiB and never sends the last byte.
struct Unfinished {
    stream: Box<dyn Write>,
    bytes: Vec<u8>,
    at: usize,
}

impl Unfinished {
    fn over_unix(daemon: &Daemon, number: usize) -> Self {
        let stream = daemon.connect();
        stream.set_nonblocking(true).unwrap();
        Self { stream: Box::new(stream), bytes: greeting(number, None), at: 0 }
    }

    fn over_tcp(address: &str, number: usize) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream: Box::new(stream), bytes: greeting(number, Some(TOKEN)), at: 0 }
    }

    /// Sends as much as the socket takes now.
    fn push(&mut self) {
        const BODY: [u8; 4096] = [0; 4096];
        let end = self.bytes.len() + (1 << 20) - 1;
        while self.at < end {
            let left = end - self.at;
            let next = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()).unwrap_or(&BODY[..left.min(4096)]);
            match self.stream.write(next) {
                Ok(sent) => self.at += sent,
                // The socket is full, or the daemon has closed it.
                Err(_) => return,
            }
        }
    }
}

/// A hello, and the prefix of a frame of 1 MiB.
fn greeting(number: usize, token: Option<&str>) -> Vec<u8> {
    let hello = tallyd_protocol::Hello { token: token.map(Into::into), ..hello(&format!("unfinished-{number}")) };
    let mut bytes = Vec::new();
    tallyd_protocol::ClientMessage::Hello(hello).write_frame(&mut bytes);
    bytes.extend_from_slice(&(1_u32 << 20).to_be_bytes());
    bytes
}

/// Sends records, and waits for the acknowledgement of each frame. Returns the last number.
fn record(session: &mut Session, first_seq: u64, frames: u64, of: u64) -> u64 {
    let records = vec![Record::rentcast("/honest"); of as usize];
    for frame in 0..frames {
        session.send(first_seq + frame * of, &records).unwrap();
        let ack = session.recv_ack().unwrap();
        assert_eq!((ack.seq, ack.rejected.len()), (first_seq + (frame + 1) * of - 1, 0));
    }
    first_seq + frames * of - 1
}

/// Waits until each honest record is in the call log, and asserts that none is there twice.
pub fn until_honest(postgres: &Postgres, records: u64) {
    let counted = "SELECT count(*) || ' ' || count(DISTINCT id) FROM api_usage_log WHERE endpoint = '/honest'";
    postgres.until(counted, &format!("{records} {records}"));
}

/// True once the daemon has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[track_caller]
fn until_closed(what: &str, mut streams: Vec<TcpStream>) {
    until(what, || {
        streams.retain_mut(|stream| !is_closed(stream));
        if streams.is_empty() { Ok(()) } else { Err(format!("{} are open", streams.len())) }
    });
}

#[track_caller]
pub fn assert_small(daemon: &Daemon) {
    let (_, most) = daemon.resident_bytes();
    assert!(most < MEMORY_MAX, "{} MiB", most >> 20);
    assert!(!daemon.log().contains("panicked"));
}

#[test]
fn silent_strangers_over_http_keep_nobody_out() {
    with_many_files();
    let api = Api::start();
    let token = api.token("ingest");
    let silent = |number: usize| {
        let mut stream = connect_from((number % 5) as u8 + 1, &api.address);
        match number % 3 {
            0 => {}
            1 => push(&mut stream, b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ", 1),
            _ => push(
                &mut stream,
                b"POST /session HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8000\r\n\r\n{\"token\":\"",
                1,
            ),
        }
        stream
    };
    let mut all: Vec<_> = (0..2_500).map(silent).collect();
    for _ in 0..5 {
        assert_eq!(api.get("/healthz", "").status, 200);
        assert_eq!(api.get("/readyz", "").status, 200);
        let recorded = api.post("/api/v1/records", &token, r#"{"provider":"rentcast","endpoint":"/avm"}"#);
        assert_eq!(recorded.status, 200, "{}", recorded.text());
        // The places are filled again.
        all.extend((0..200).map(silent));
    }
    assert_small(&api.daemon);
    // They are closed without other connections pressing: a head has ten seconds, a stranger's body five.
    until_closed("all of them are closed", all);
    api.postgres.until_calls(5);
}

#[test]
fn a_body_before_a_token_is_small_and_one_after_it_ends() {
    with_many_files();
    let api = Api::start();
    let large = vec![b' '; 1 << 20];
    let head =
        b"POST /session HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8388608\r\n\r\n";
    let holding: Vec<_> = (0..200u8)
        .map(|number| {
            let mut stream = connect_from(number % 5 + 1, &api.address);
            push(&mut stream, head, 1);
            push(&mut stream, &large, 8);
            stream
        })
        .collect();
    assert_small(&api.daemon);
    until_closed("they are refused", holding);
    let headers = [("content-type", "application/json"), ("x-tallyd-page", "1")];
    let refused = api.send("POST", "/session", &headers, &[b' '; 9000]);
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"));
    // Where the head suffices for an answer, the body is not read.
    let mut stream = TcpStream::connect(&api.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = b"POST /api/v1/records HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 401");
}

#[test]
fn passwords_that_are_tried_at_once_are_as_few_as_one_after_another() {
    let asked = Arc::new(AtomicUsize::new(0));
    let gotrue = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}", gotrue.local_addr().unwrap());
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in gotrue.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || {
                let mut text = Vec::new();
                while !String::from_utf8_lossy(&text).contains("\r\n\r\n") {
                    let mut bytes = [0; 1024];
                    match stream.read(&mut bytes) {
                        Ok(read) if read > 0 => text.extend_from_slice(&bytes[..read]),
                        _ => return,
                    }
                }
                if String::from_utf8_lossy(&text).contains("grant_type=password") {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(300));
                let body = json!({ "error_code": "invalid_credentials" }).to_string();
                let head = format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                // The daemon may have closed the connection.
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            });
        }
    });
    let api = Api::with(&[
        ("TALLYD_AUTH_ISSUER", &issuer),
        ("TALLYD_AUTH_PUBLISHABLE_KEY", "sb_publishable_x"),
        ("TALLYD_AUTH_FAILURES_PER_MINUTE", "10"),
    ]);
    let guess = |number: usize| {
        let body = json!({ "password": { "email": "a@example.com", "password": format!("guess-{number}") } });
        let headers = [("content-type", "application/json"), ("x-tallyd-page", "1")];
        api.send("POST", "/session", &headers, body.to_string().as_bytes()).status
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..60).map(|number| scope.spawn(move || guess(number))).collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let asked = asked.load(Ordering::SeqCst);
    // Waiting for the daemon has used up some tries.
    assert!((1..=10).contains(&asked), "{asked}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), asked, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 60 - asked, "{statuses:?}");
}

#[test]
fn a_crowd_without_a_token_over_tcp_takes_no_place_from_those_who_record() {
    with_many_files();
    let (postgres, address) = (Postgres::stopped(), free_address());
    let daemon = Daemon::on(&postgres.url())
        .with("TALLYD_LISTEN_TCP", &address)
        .with("TALLYD_LISTEN_TCP_TOKENS", TOKEN)
        // Several times fewer places than connections.
        .with("TALLYD_LISTEN_MAX_CONNECTIONS", "100")
        .start();
    let crowd: Vec<_> = (0..1_000).map(|number| connect_from((number % 5) as u8 + 1, &address)).collect();
    let record = |session: &mut Session| {
        session.send(1, &[Record::rentcast("/avm")]).unwrap();
        assert_eq!(session.recv_ack().unwrap().seq, 1);
    };
    record(&mut daemon.session("unix"));
    let options = HelloOptions { read_timeout: Some(PATIENCE), ..HelloOptions::new("tcp") };
    record(&mut Session::connect(&Endpoint::tcp(&address, TOKEN), options).unwrap());
    until_closed("the silent ones are closed", crowd);
    assert_small(&daemon);
}

#[test]
fn a_guessed_token_over_tcp_is_answered_late_counted_and_logged() {
    let (postgres, address) = (Postgres::stopped(), free_address());
    let daemon =
        Daemon::on(&postgres.url()).with("TALLYD_LISTEN_TCP", &address).with("TALLYD_LISTEN_TCP_TOKENS", TOKEN);
    let short = Daemon::on(&postgres.url()).with("TALLYD_LISTEN_TCP", &address).with("TALLYD_LISTEN_TCP_TOKENS", "x");
    let refused = short.run(&["config", "check"]);
    let said = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(!refused.status.success() && said.contains("16 characters"), "{said}");
    let daemon = daemon.start();
    let began = Instant::now();
    for guess in ["{\"token\":\"x\"}\n{\"provider\":\"rentcast\"}\n", "{}\n"] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(guess.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("unauthorized"), "{answer}");
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "a guess costs a second");
    assert!(daemon.metrics().contains("tallyd_protocol_errors_total{code=\"unauthorized\"} 2"), "{}", daemon.metrics());
    assert!(daemon.log().contains("a wrong token was shown over TCP"));
}

#[test]
fn a_new_token_is_known_at_once_and_junk_is_not_looked_up() {
    let api = Api::start();
    for _ in 0..10 {
        let made = api.daemon.run(&["token", "create", "--name", "new", "--role", "read", "--json"]);
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
        assert_eq!(api.get("/api/v1/pipeline", &bearer).status, 200);
    }
    let junk = format!("Bearer tallyd_11_{}", "0".repeat(64));
    assert_eq!(api.get("/api/v1/pipeline", &junk).status, 401);
}

#[test]
fn strangers_learn_nothing_of_the_database_and_nobody_else_reads_the_data_folder() {
    let postgres = Postgres::stopped();
    let address = free_address();
    let mut daemon = Daemon::on(&postgres.url()).with("TALLYD_HTTP_LISTEN", &address).start();
    daemon.until_status("the database's trouble is known", |status| {
        status["health"]["flusher"]["message"].as_str().is_some_and(|message| message.len() > 60)
    });
    let full = daemon.status().unwrap()["health"]["flusher"]["message"].as_str().unwrap().to_owned();
    let told = send(&address, "GET", "/healthz", &[], b"").json();
    let told = told["flusher"]["message"].as_str().unwrap();
    assert!(told.contains("tallyd status") && !told.contains('/') && full != told, "{told}\n{full}");
    let mode = std::fs::metadata(daemon.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_small_request_that_becomes_a_large_one_is_refused_before_it_is_held() {
    let api = Api::start();
    let token = api.token("ingest");
    let packed = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let array = packed(&format!("[{}{{}}]", "{},".repeat(2_600_000)));
    let lines = packed(&"{}\n".repeat(2_600_000));
    let over = packed(&" ".repeat(9 << 20));
    let send = |body: &[u8], kind: &str| {
        let headers = [("authorization", token.as_str()), ("content-encoding", "gzip"), ("content-type", kind)];
        api.send("POST", "/api/v1/records", &headers, body).status
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(send(&array, "application/json"), 400));
            scope.spawn(|| assert_eq!(send(&lines, "application/x-ndjson"), 400));
            scope.spawn(|| assert_eq!(send(&over, "application/json"), 413));
        }
    });
    // The largest number of records, each refused alone, gives the longest answer.
    assert_eq!(send(&packed(&"{}\n".repeat(16_384)), "application/x-ndjson"), 422);
    assert_small(&api.daemon);
}

#[test]
fn those_who_send_and_never_read_hold_little_and_hold_up_nobody() {
    with_many_files();
    let postgres = Postgres::stopped();
    let daemon = Daemon::on(&postgres.url()).start();
    let mut frame = Vec::new();
    let refused = Record { provider: "".into(), ..Record::rentcast("/avm") };
    tallyd_protocol::message::write_records_frame(&mut frame, 1, &vec![refused; 4_000]);
    let lines = "{}\n".repeat(4_000);
    let mut seq = 0;
    let mut deaf = Vec::new();
    for round in 0..100 {
        let mut by_frames = daemon.connect();
        let hello = tallyd_protocol::Hello {
            protocol: tallyd_protocol::PROTOCOL_VERSION,
            producer: format!("deaf-{round}"),
            secret: format!("{round:032x}"),
            ..Default::default()
        };
        let mut begin = Vec::new();
        tallyd_protocol::ClientMessage::Hello(hello).write_frame(&mut begin);
        by_frames.write_all(&begin).unwrap();
        let mut by_lines = daemon.connect();
        for (stream, bytes) in [(&mut by_frames, frame.as_slice()), (&mut by_lines, lines.as_bytes())] {
            stream.set_nonblocking(true).unwrap();
            for _ in 0..20 {
                // Bytes that the daemon does not take now are not sent.
                let _ = stream.write(bytes);
            }
        }
        deaf.push((by_frames, by_lines));
        if round % 20 == 19 {
            let mut honest = daemon.session("honest");
            assert_eq!(honest.last_seq(), seq);
            seq += 1;
            honest.send(seq, &[Record::rentcast("/avm")]).unwrap();
            assert_eq!(honest.recv_ack().unwrap().seq, seq);
        }
    }
    assert_small(&daemon);
}

#[test]
fn unfinished_frames_hold_little_and_hold_up_nobody() {
    with_many_files();
    let postgres = Postgres::start();
    let daemon = Daemon::on(&postgres.url()).start();
    let mut unfinished: Vec<_> = (0..400).map(|number| Unfinished::over_unix(&daemon, number)).collect();
    let mut honest = daemon.session("honest");
    let mut last = 0;
    for _ in 0..20 {
        unfinished.iter_mut().for_each(Unfinished::push);
        last = record(&mut honest, last + 1, 5, 10);
    }
    // A frame that needs as much room as theirs is accepted in turn.
    last = record(&mut honest, last + 1, 1, 4_000);
    assert_small(&daemon);
    let metrics = daemon.metrics();
    assert!(metrics.contains("tallyd_protocol_errors_total{code=\"slow\"}"), "{metrics}");
    until_honest(&postgres, last);
}

#[test]
fn hostile_clients_on_every_listener_at_once_stay_within_the_stated_memory() {
    with_many_files();
    let tcp = free_address();
    let api = Api::with(&[("TALLYD_LISTEN_TCP", &tcp), ("TALLYD_LISTEN_TCP_TOKENS", TOKEN)]);
    let (read, ingest) = (api.token("read"), api.token("ingest"));
    let mut honest = api.daemon.session("honest");
    // Calls for the long answers.
    let mut last = record(&mut honest, 1, 5, 2_000);
    until_honest(&api.postgres, last);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all("{}\n".repeat(2_600_000).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let posted = format!(
        "POST /api/v1/records HTTP/1.1\r\nhost: x\r\nauthorization: {ingest}\r\ncontent-type: application/x-ndjson\r\n\
         content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    let asked = format!("GET /api/v1/records?limit=1000 HTTP/1.1\r\nhost: x\r\nauthorization: {read}\r\n\r\n");
    let guessed =
        "POST /session HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 8388608\r\n\r\n";
    let mut refused = Vec::new();
    tallyd_protocol::ClientMessage::Hello(hello("deaf")).write_frame(&mut refused);
    let empty = Record { provider: "".into(), ..Record::rentcast("/avm") };
    tallyd_protocol::message::write_records_frame(&mut refused, 1, &vec![empty; 4_000]);
    let mut unfinished = Vec::new();
    let (mut deaf, mut over_http) = (Vec::new(), Vec::new());
    for round in 0..20_usize {
        for number in 0..10 {
            unfinished.push(Unfinished::over_unix(&api.daemon, round * 20 + number));
            unfinished.push(Unfinished::over_tcp(&tcp, round * 20 + 10 + number));
        }
        unfinished.iter_mut().for_each(Unfinished::push);
        // Frames and lines, each with a long answer.
        for bytes in [refused.as_slice(), "{}\n".repeat(4_000).as_bytes()] {
            let mut stream = api.daemon.connect();
            stream.set_nonblocking(true).unwrap();
            for _ in 0..20 {
                // Bytes that the daemon does not take now are not sent.
                let _ = stream.write(bytes);
            }
            deaf.push(stream);
        }
        for _ in 0..4 {
            for (head, body) in [(asked.as_str(), &[][..]), (&posted, &packed), (guessed, &[b' '; 1 << 20])] {
                let mut stream = connect_from((round % 5) as u8 + 1, &api.address);
                push(&mut stream, head.as_bytes(), 1);
                push(&mut stream, body, 1);
                over_http.push(stream);
            }
        }
        last = record(&mut honest, last + 1, 5, 10);
        let recorded = api.post("/api/v1/records", &ingest, r#"{"provider":"rentcast","endpoint":"/http"}"#);
        assert!([200, 429, 503].contains(&recorded.status), "{}", recorded.text());
    }
    last = record(&mut honest, last + 1, 1, 4_000);
    until_honest(&api.postgres, last);
    let (_, most) = api.daemon.resident_bytes();
    println!("at most {} MiB with hostile clients on every listener", most >> 20);
    assert_small(&api.daemon);
}
