//! Row 37: clients on every listener that send and never read the answers.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use rustix::net::sockopt::set_socket_send_buffer_size;
use serde_json::Value;
use tallyd_protocol::{ClientMessage, Hello};

use crate::clients::{Deaf, refused_frame};
use crate::rig::Rig;
use crate::run::Run;
use crate::support::hello;

/// The listeners; the Unix socket takes frames and lines.
const DOORS: [&str; 4] = ["unix_frames", "unix_lines", "tcp_frames", "http"];
/// The socket's send buffer: small, so that the client soon notices that the daemon has stopped reading.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
const TOKEN: &str = "a-token-that-nobody-guesses";

/// An address below the ports that the system gives to outgoing connections, so that none of these takes it first.
fn free_address() -> String {
    loop {
        let address = format!("127.0.0.1:{}", rand::random_range(20_000..32_000));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Acknowledgements of frames, answers to lines over the Unix socket and TCP, and pages of calls over HTTP wait for
/// clients that never read them. Honest producers and new ones are served as before.
pub fn never_read(run: &mut Run) {
    let (tcp, http) = (free_address(), free_address());
    let mut rig = Rig::start(run, |daemon| {
        let daemon = daemon.with("TALLYD_LISTEN_TCP", &tcp).with("TALLYD_LISTEN_TCP_TOKENS", TOKEN);
        daemon.with("TALLYD_HTTP_LISTEN", &http)
    });
    rig.produce(2);
    // Calls for the long answers.
    rig.until_acked(2_000);
    rig.fresh_record();
    let made = rig.daemon.run(&["token", "create", "--name", "deaf", "--role", "read", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let bearer = made["token"].as_str().unwrap();
    let asked = format!(
        "GET /api/v1/records?limit=1000 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\nx-long: {}\r\n\r\n",
        "x".repeat(8_000)
    );
    let each = if run.is_deep() { 200 } else { 10 };
    let mut held_back = [0; DOORS.len()];
    for round in run.rounds() {
        let mut deaf = Vec::new();
        for number in 0..each {
            let name = format!("deaf-{round}-{number}");
            let (mut by_frames, by_lines) = (rig.daemon.connect(), rig.daemon.connect());
            greet(&mut by_frames, hello(&name));
            for (stream, again) in [(by_frames, refused_frame()), (by_lines, b"{}\n".repeat(500))] {
                set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES).unwrap();
                stream.set_nonblocking(true).unwrap();
                deaf.push(Deaf::new(stream, again));
            }
            let (mut over_tcp, over_http) = (TcpStream::connect(&tcp).unwrap(), TcpStream::connect(&http).unwrap());
            greet(&mut over_tcp, Hello { token: Some(TOKEN.into()), ..hello(&format!("{name}-tcp")) });
            for (stream, again) in [(over_tcp, refused_frame()), (over_http, asked.clone().into_bytes())] {
                set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES).unwrap();
                stream.set_nonblocking(true).unwrap();
                deaf.push(Deaf::new(stream, again));
            }
        }
        for _ in 0..10 {
            deaf.iter_mut().for_each(Deaf::send);
            rig.until_acked(50);
        }
        rig.fresh_record();
        for (number, deaf) in deaf.iter().enumerate() {
            held_back[number % DOORS.len()] += u32::from(deaf.is_held_back);
        }
        run.step();
    }
    assert!(!held_back.contains(&0), "{DOORS:?}: {held_back:?} were held back: the test proves nothing");
    for (door, held_back) in DOORS.into_iter().zip(held_back) {
        run.figure(door, held_back);
    }
    rig.judge_without_foreign(run);
    assert!(!rig.daemon.log().contains("panicked"));
}

fn greet(stream: &mut impl Write, hello: Hello) {
    let mut bytes = Vec::new();
    ClientMessage::Hello(hello).write_frame(&mut bytes);
    stream.write_all(&bytes).unwrap();
}
