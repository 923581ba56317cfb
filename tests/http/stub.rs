//! A small HTTP server with the answers of a test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// A request.
pub struct Asked {
    /// Method and path with its query: `GET /a?b=c`.
    pub line: String,
    /// Headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut lines = stream.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty());
        let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect();
        let mut asked = Self { line, headers, body: Vec::new() };
        asked.body.resize(asked.header("content-length").parse().unwrap_or(0), 0);
        stream.read_exact(&mut asked.body).ok()?;
        Some(asked)
    }
}

/// Serves until the test ends, one connection per request. Returns the address, `http://host:port`.
pub fn serve(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(asked) = Asked::read(&mut BufReader::new(stream.try_clone().unwrap())) else { continue };
            let (status, body) = answer(&asked);
            let bytes = body.len();
            let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {bytes}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    address
}
