//! The link to the daemon: down, connecting, or up.
//!
//! A short-lived thread connects. A Unix connect to a stuck daemon with a full backlog blocks without limit, and so may
//! name resolution, while the sender has a deadline to keep. There is at most one such thread. If the sender ends first,
//! the thread's connection is closed when it is made.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tallyd_protocol::{Ack, Budgets, ServerMessage};

use super::window::{Next, Window};
use crate::endpoint::{Endpoint, Stream};
use crate::inbox::Inbox;
use crate::session::{HelloOptions, Session, SessionError};

/// Frames written, or reads made, before it is the other direction's turn.
const TURN: usize = 16;

/// See the module.
pub enum Link {
    /// Not connected. The next attempt is due at this time.
    Down(Instant),
    /// A thread is connecting.
    Connecting(Receiver<Result<Session, SessionError>>),
    /// Connected, past the handshake.
    Up(Box<Connection>),
}

impl Link {
    /// Starts an attempt, and wakes `sender` when it is decided.
    pub fn connect(endpoint: &Endpoint, options: HelloOptions, sender: Thread) -> io::Result<Self> {
        let (result, receiver) = sync_channel(1);
        let endpoint = endpoint.clone();
        thread::Builder::new().name("tallyd-connect".to_owned()).spawn(move || {
            // If the sender is gone, dropping the connection closes it.
            let _ = result.send(Session::connect(&endpoint, options).and_then(Session::watch));
            sender.unpark();
        })?;
        Ok(Self::Connecting(receiver))
    }
}

/// The outcome of an attempt; None until it is decided.
pub fn outcome(receiver: &Receiver<Result<Session, SessionError>>) -> Option<Result<Session, SessionError>> {
    match receiver.try_recv() {
        Ok(result) => Some(result),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the connecting thread died").into())),
    }
}

/// A record that is larger than the daemon's bounds.
pub struct Oversized {
    pub seq: u64,
    pub id: Option<[u8; 16]>,
}

/// The result of one exchange.
#[derive(Default)]
pub struct Exchange {
    pub acks: Vec<Ack>,
    /// The newest message.
    pub budgets: Option<Budgets>,
    pub oversized: Vec<Oversized>,
    /// Whether any byte moved.
    pub moved: bool,
}

/// A nonblocking connection.
pub struct Connection {
    stream: Stream,
    inbox: Inbox,
    max_records: usize,
    pub max_frame_bytes: usize,
    out: Vec<u8>,
    out_at: usize,
    /// When bytes last moved, or when the daemon last owed nothing.
    heard: Instant,
    ack_timeout: Duration,
}

impl Connection {
    pub fn new(session: Session, ack_timeout: Duration) -> io::Result<Self> {
        let (stream, inbox, welcome) = session.into_parts();
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            inbox,
            max_records: welcome.max_records as usize,
            max_frame_bytes: welcome.max_frame_bytes as usize,
            out: Vec::new(),
            out_at: 0,
            heard: Instant::now(),
            ack_timeout,
        })
    }

    /// Writes as much as the socket takes, and reads the bytes that have arrived. Results before an error stay in `got`.
    pub fn exchange(&mut self, window: &mut Window, got: &mut Exchange) -> Result<(), SessionError> {
        // Reads also after a failed write: a daemon that closes a connection sends an error frame first.
        let written = self.write(window, got);
        self.read(got)?;
        written?;
        let owes = window.awaits_ack() || !self.out.is_empty();
        if !owes || got.moved {
            self.heard = Instant::now();
        } else if self.heard.elapsed() > self.ack_timeout {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "tallyd owes an ack and is silent").into());
        }
        Ok(())
    }

    fn write(&mut self, window: &mut Window, got: &mut Exchange) -> io::Result<()> {
        let mut frames = 0;
        while frames < TURN {
            if self.out.is_empty() {
                match window.next(&mut self.out, self.max_records, self.max_frame_bytes) {
                    Next::Nothing => return Ok(()),
                    Next::Oversized { seq, id } => {
                        got.oversized.push(Oversized { seq, id });
                        continue;
                    }
                    Next::Frame => {}
                }
            }
            match self.stream.write(&self.out[self.out_at..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    got.moved = true;
                    self.out_at += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.out_at == self.out.len() {
                self.out.clear();
                self.out_at = 0;
                window.wrote();
                frames += 1;
            }
        }
        Ok(())
    }

    fn read(&mut self, got: &mut Exchange) -> Result<(), SessionError> {
        for _ in 0..TURN {
            while let Some(message) = self.inbox.next()? {
                match message {
                    ServerMessage::Ack(ack) => got.acks.push(ack),
                    ServerMessage::Budgets(budgets) => got.budgets = Some(budgets),
                    ServerMessage::Welcome(_) => {
                        return Err(SessionError::Protocol("a second welcome came".to_owned()));
                    }
                    ServerMessage::Error(error) => {
                        return Err(SessionError::Refused { code: error.code, message: error.message });
                    }
                }
            }
            match self.inbox.fill(&mut self.stream) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tallyd closed it").into()),
                Ok(_) => got.moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
