//! A server that is not tallyd, for a crowd to ask instead: answers of the same length, from memory, each after the pause that
//! the daemon makes in a crowd. It is a process with the niceness of the daemon's threads for questions.

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::support::Asker;

/// The daemon's, of `src/app/questions.rs` and `src/http/crowd.rs`.
const NICENESS: &str = "10";
const PAUSE: Duration = Duration::from_millis(250);

/// How this program is told to be the server.
const FLAG: &str = "--elsewhere";

/// The server's process. It ends with this.
pub struct Elsewhere(Child);

impl Elsewhere {
    /// Answers paths with so many bytes each. Returns the port, too.
    pub fn start(lengths: &[(&str, usize)]) -> (Self, u16) {
        let (port, address) = Asker::free_address();
        let this = std::env::current_exe().expect("this program");
        let lengths: String = lengths.iter().map(|(path, bytes)| format!("{path} {bytes}\n")).collect();
        let mut command = Command::new("nice");
        command.args(["-n", NICENESS]).arg(this).args([FLAG, &address, &lengths]);
        let server = Self(command.spawn().expect("nice, of coreutils"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(Instant::now() < deadline, "the other server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        (server, port)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Is the server, if this program was started for that.
pub fn be_elsewhere() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, flag, address, lengths] = arguments.as_slice() else { return };
    if flag != FLAG {
        return;
    }
    let address: SocketAddr = address.parse().expect("an address");
    let answer = |line: &str| {
        let (path, bytes) = line.split_once(' ').expect("a path and a length");
        let bytes: usize = bytes.parse().expect("a length");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n");
        (path.to_owned(), [head.as_bytes(), &vec![b' '; bytes]].concat())
    };
    let answers: Vec<(String, Vec<u8>)> = lengths.lines().map(answer).collect();
    let answers: &'static [(String, Vec<u8>)] = answers.leak();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.expect("the port");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answers));
        }
    });
}

/// Answers each request once its head is read; requests have no body.
async fn serve(stream: TcpStream, answers: &[(String, Vec<u8>)]) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        stream.read_line(&mut first).await.ok().filter(|bytes| *bytes > 0)?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.ok().filter(|bytes| *bytes > 0)?;
        }
        tokio::time::sleep(PAUSE).await;
        let path = first.split(' ').nth(1)?;
        let (_, answer) = answers.iter().find(|(known, _)| known == path)?;
        stream.write_all(answer).await.ok()?;
    }
}
