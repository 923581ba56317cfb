//! The link to the daemon: down, connecting, or up.
//!
//! Connecting is left to a short-lived thread of its own: a Unix connect to a stuck daemon whose backlog is full
//! blocks for as long as it likes, and so may a name's resolution; the sender has a deadline to keep meanwhile. There
//! is at most one such thread. If the sender goes away first, the thread's connection is closed when it comes.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tallyd_protocol::{Ack, Budgets, ServerMessage};

use super::window::{Next, Window};
use crate::endpoint::{Endpoint, Stream};
use crate::inbox::Inbox;
use crate::session::{HelloOptions, Session, SessionError};

/// Frames written, or reads made, before the other direction gets its turn.
const TURN: usize = 16;

/// The state of the link.
pub enum Link {
    /// Not connected. The next attempt is due at this time.
    Down(Instant),
    /// A thread is connecting.
    Connecting(Receiver<Result<Session, SessionError>>),
    /// Connected, past the handshake.
    Up(Box<Connection>),
}

impl Link {
    /// Starts an attempt. `sender` is woken when it is decided.
    pub fn connect(endpoint: &Endpoint, options: HelloOptions, sender: Thread) -> io::Result<Self> {
        let (result, receiver) = sync_channel(1);
        let endpoint = endpoint.clone();
        thread::Builder::new().name("tallyd-connect".to_owned()).spawn(move || {
            // A sender that is gone no longer wants the connection: dropping it closes it.
            let _ = result.send(Session::connect(&endpoint, options).and_then(Session::watch));
            sender.unpark();
        })?;
        Ok(Self::Connecting(receiver))
    }
}

/// The outcome of an attempt, if it is decided.
pub fn outcome(receiver: &Receiver<Result<Session, SessionError>>) -> Option<Result<Session, SessionError>> {
    match receiver.try_recv() {
        Ok(result) => Some(result),
        Err(TryRecvError::Empty) => None,
        Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the connecting thread died").into())),
    }
}

/// A record that the daemon's bounds leave no room for.
pub struct Oversized {
    pub seq: u64,
    pub id: Option<[u8; 16]>,
}

/// What one exchange brought.
#[derive(Default)]
pub struct Exchange {
    pub acks: Vec<Ack>,
    /// The newest.
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
    /// When the daemon last gave a sign of life while it owed one.
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

    /// Writes what the socket takes and reads what has come. What was gathered before an error counts.
    pub fn exchange(&mut self, window: &mut Window, got: &mut Exchange) -> Result<(), SessionError> {
        // Reading goes on after a failed write: a daemon that closes a connection says why first.
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
