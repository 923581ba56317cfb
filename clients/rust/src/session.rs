//! One blocking connection, for callers that have sequence numbers of their own.
//!
//! A caller may send several frames before it reads their acks. The daemon answers each frame with one ack, in order. Keep
//! the window moderate (some dozens of frames): if a caller never reads, the daemon cannot write its acks, and stops
//! reading as well.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use tallyd_protocol::message::{write_records_frame, write_records_head};
use tallyd_protocol::{
    Ack, AckMode, ClientMessage, Hello, PROTOCOL_VERSION, Record, ServerMessage, Watch, Welcome, frame,
};

use crate::endpoint::{Endpoint, Stream};
use crate::inbox::{Garbage, Inbox};
use crate::name;

/// The client library's name and version, which the daemon logs.
const CLIENT: &str = concat!("tallyd-rust/", env!("CARGO_PKG_VERSION"));

/// How a connection introduces itself.
#[derive(Debug, Clone)]
pub struct HelloOptions {
    /// The producer's name, at most [`tallyd_protocol::limits::PRODUCER_BYTES`] bytes.
    pub producer: String,
    /// A secret that proves the producer's name is this client's: at least
    /// [`tallyd_protocol::limits::SECRET_BYTES_MIN`] bytes that nobody else can guess. Name and secret together are the
    /// producer. A caller that resends records uses the same secret, also after a restart; two processes never share one.
    /// [`HelloOptions::new`] makes a random one.
    pub secret: String,
    /// Requests each record's cost in [`Ack::costs`].
    pub want_costs: bool,
    /// When records are acknowledged at the earliest; the daemon's own setting holds if it is stricter.
    pub ack: AckMode,
    /// Bounds a TCP connect. A Unix connect has no timeout.
    pub connect_timeout: Duration,
    /// Bounds each read, the handshake's included. None waits for ever.
    pub read_timeout: Option<Duration>,
    /// Bounds each write, the handshake's included. None waits for ever.
    pub write_timeout: Option<Duration>,
}

impl HelloOptions {
    /// Options with a new secret, and 10 seconds for each step.
    pub fn new(producer: impl Into<String>) -> Self {
        let timeout = Duration::from_secs(10);
        Self {
            producer: producer.into(),
            secret: name::new_secret(),
            want_costs: false,
            ack: AckMode::Durable,
            connect_timeout: timeout,
            read_timeout: Some(timeout),
            write_timeout: Some(timeout),
        }
    }
}

/// Why a session ended, or why a frame was not sent.
#[derive(Debug)]
pub enum SessionError {
    /// The socket failed. `WouldBlock` and `TimedOut` from [`Session::recv_ack`] mean only that no ack came in time; the
    /// session continues.
    Io(io::Error),
    /// The daemon closed the connection with an error.
    Refused {
        /// A stable name, as listed in the protocol's specification: `fenced`, `unauthorized` …
        code: String,
        /// The problem, and how to solve it.
        message: String,
    },
    /// The daemon answers in a version that this crate does not speak.
    Version {
        /// The daemon's version.
        daemon: u32,
    },
    /// The daemon's bytes violate the protocol, or its state.
    Protocol(String),
    /// More records than the daemon takes in one frame. Nothing was sent: split the batch.
    TooManyRecords {
        /// Records in the frame.
        records: usize,
        /// The daemon's bound, [`Welcome::max_records`].
        max: usize,
    },
    /// A frame larger than the daemon takes. Nothing was sent: split the batch.
    TooLarge {
        /// Bytes of the frame's body.
        bytes: usize,
        /// The daemon's bound, [`Welcome::max_frame_bytes`].
        max: usize,
    },
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection to tallyd failed: {error}"),
            Self::Refused { code, message } => write!(f, "tallyd refused the connection ({code}): {message}"),
            Self::Version { daemon } => {
                write!(f, "tallyd answers in protocol version {daemon}, this client speaks {PROTOCOL_VERSION}")
            }
            Self::Protocol(what) => write!(f, "what answers is not tallyd, or is broken: {what}"),
            Self::TooManyRecords { records, max } => {
                write!(f, "a frame of {records} records, tallyd takes at most {max}: split it")
            }
            Self::TooLarge { bytes, max } => {
                write!(f, "a frame of {bytes} bytes, tallyd takes at most {max}: split it")
            }
        }
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Garbage> for SessionError {
    fn from(garbage: Garbage) -> Self {
        Self::Protocol(garbage.to_string())
    }
}

/// One connection, past its handshake.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    inbox: Inbox,
    welcome: Welcome,
    out: Vec<u8>,
}

impl Session {
    /// Connects and shakes hands. Blocks.
    ///
    /// # Errors
    /// [`SessionError`]: the daemon is absent, too slow, of another version, or refuses.
    pub fn connect(endpoint: &Endpoint, options: HelloOptions) -> Result<Self, SessionError> {
        let mut stream = endpoint.connect(options.connect_timeout)?;
        stream.set_read_timeout(options.read_timeout)?;
        stream.set_write_timeout(options.write_timeout)?;
        let mut out = Vec::new();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            producer: options.producer,
            secret: options.secret,
            client: CLIENT.to_owned(),
            token: endpoint.token(),
            want_costs: options.want_costs,
            ack: options.ack,
        };
        ClientMessage::Hello(hello).write_frame(&mut out);
        stream.write_all(&out)?;
        let mut inbox = Inbox::default();
        match receive(&mut stream, &mut inbox)? {
            ServerMessage::Welcome(welcome) if welcome.protocol == PROTOCOL_VERSION => {
                Ok(Self { stream, inbox, welcome, out })
            }
            ServerMessage::Welcome(welcome) => Err(SessionError::Version { daemon: welcome.protocol }),
            ServerMessage::Ack(_) | ServerMessage::Budgets(_) => {
                Err(SessionError::Protocol("another message came before the welcome".to_owned()))
            }
            ServerMessage::Error(error) => Err(SessionError::Refused { code: error.code, message: error.message }),
        }
    }

    /// The daemon's answer to the handshake: its bounds for a frame, and warnings for people.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The producer's highest acknowledged sequence number at the time of the handshake, 0 for a new producer. With
    /// [`AckMode::Committed`] it may be lower than that of the last ack: the daemon skips records that it has.
    pub fn last_seq(&self) -> u64 {
        self.welcome.last_seq
    }

    /// Bounds each read from now on. None waits for ever.
    ///
    /// # Errors
    /// `InvalidInput` for a duration of zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)
    }

    /// Bounds each write from now on. None waits for ever.
    ///
    /// # Errors
    /// `InvalidInput` for a duration of zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    /// Sends one frame: `records[i]` has the sequence number `first_seq + i`. Fills in no fields: set ids and times if the
    /// records may have to be sent again. An empty slice is a frame, too, and gets its ack.
    ///
    /// # Errors
    /// `TooManyRecords` and `TooLarge` if nothing was sent. After any other error the session has to end, because part of
    /// the frame may have been sent.
    pub fn send(&mut self, first_seq: u64, records: &[Record]) -> Result<(), SessionError> {
        let max = self.welcome.max_records as usize;
        if records.len() > max {
            return Err(SessionError::TooManyRecords { records: records.len(), max });
        }
        self.out.clear();
        write_records_frame(&mut self.out, first_seq, records);
        let (bytes, max) = (self.out.len() - frame::PREFIX_BYTES, self.welcome.max_frame_bytes as usize);
        if bytes > max {
            return Err(SessionError::TooLarge { bytes, max });
        }
        self.stream.write_all(&self.out).map_err(|error| self.last_words(error))
    }

    /// As [`Session::send`], with records that are encoded already and within the daemon's bounds.
    pub(crate) fn send_encoded<'a>(
        &mut self,
        first_seq: u64,
        records: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<(), SessionError> {
        self.out.clear();
        frame::write(&mut self.out, |body| {
            write_records_head(body, first_seq, u32::try_from(records.len()).unwrap_or(u32::MAX));
            records.for_each(|record| body.extend_from_slice(record));
        });
        self.stream.write_all(&self.out).map_err(|error| self.last_words(error))
    }

    /// A daemon that closes a connection sends an error frame first, which says more than `EPIPE`.
    fn last_words(&mut self, error: io::Error) -> SessionError {
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return error.into();
        }
        loop {
            match receive(&mut self.stream, &mut self.inbox) {
                Ok(ServerMessage::Error(error)) => {
                    return SessionError::Refused { code: error.code, message: error.message };
                }
                Ok(_) => {}
                Err(_) => return error.into(),
            }
        }
    }

    /// Waits for the ack of the oldest frame without one.
    ///
    /// # Errors
    /// [`SessionError`]. After a timeout the call can be repeated: bytes that have arrived are kept.
    pub fn recv_ack(&mut self) -> Result<Ack, SessionError> {
        loop {
            match receive(&mut self.stream, &mut self.inbox)? {
                ServerMessage::Ack(ack) => return Ok(ack),
                // This session has not asked for budgets.
                ServerMessage::Budgets(_) => {}
                ServerMessage::Welcome(_) => return Err(SessionError::Protocol("a second welcome came".to_owned())),
                ServerMessage::Error(error) => {
                    return Err(SessionError::Refused { code: error.code, message: error.message });
                }
            }
        }
    }

    /// Asks for the state of budgets at each change, if the daemon's welcome has `budgets`.
    pub(crate) fn watch(mut self) -> Result<Self, SessionError> {
        if self.welcome.budgets.is_some() {
            self.out.clear();
            ClientMessage::Watch(Watch {}).write_frame(&mut self.out);
            self.stream.write_all(&self.out)?;
        }
        Ok(self)
    }

    pub(crate) fn into_parts(self) -> (Stream, Inbox, Welcome) {
        (self.stream, self.inbox, self.welcome)
    }
}

fn receive(stream: &mut Stream, inbox: &mut Inbox) -> Result<ServerMessage, SessionError> {
    loop {
        if let Some(message) = inbox.next()? {
            return Ok(message);
        }
        match inbox.fill(stream) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "tallyd closed it").into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
