//! Reads the daemon's frames from a stream, in pieces of any size, and bounds them.

use std::fmt;
use std::io::{self, Read};

use tallyd_protocol::{ServerMessage, frame};

/// Bound of a daemon's frame, in bytes. The largest is an ack that refuses every record of a full frame.
pub const SERVER_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Bytes per read from the stream: hundreds of plain acks.
const READ_BYTES: usize = 16 * 1024;

/// The daemon's bytes violate the protocol.
#[derive(Debug)]
pub struct Garbage(String);

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Received bytes that are not decoded yet. It grows with the bytes that arrived, not with the length that a prefix claims.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    /// Reads once. Returns the bytes read, 0 at the end of the stream.
    ///
    /// # Errors
    /// The stream's own, `WouldBlock` among them. Bytes that were read before are kept.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.bytes.drain(..std::mem::take(&mut self.start));
        let used = self.bytes.len();
        self.bytes.resize(used + READ_BYTES, 0);
        let result = stream.read(&mut self.bytes[used..]);
        self.bytes.truncate(used + result.as_ref().map_or(0, |read| *read));
        result
    }

    /// Takes the next complete message; None until it has arrived.
    ///
    /// # Errors
    /// [`Garbage`]: the connection has to end.
    pub fn next(&mut self) -> Result<Option<ServerMessage>, Garbage> {
        let received = &self.bytes[self.start..];
        let Some((prefix, rest)) = received.split_first_chunk::<{ frame::PREFIX_BYTES }>() else {
            return Ok(None);
        };
        let bytes = frame::body_bytes(*prefix, SERVER_FRAME_BYTES).map_err(|error| Garbage(error.to_string()))?;
        let Some(body) = rest.get(..bytes) else {
            return Ok(None);
        };
        let message = ServerMessage::read(body).map_err(|error| Garbage(error.to_string()))?;
        self.start += frame::PREFIX_BYTES + bytes;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use tallyd_protocol::Ack;

    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let messages: Vec<_> = (1..4).map(|seq| ServerMessage::Ack(Ack { seq, ..Ack::default() })).collect();
        let mut wire = Vec::new();
        messages.iter().for_each(|message| message.write_frame(&mut wire));
        for cut in 1..wire.len() {
            let mut inbox = Inbox::default();
            let mut got = Vec::new();
            for mut piece in wire.chunks(cut) {
                inbox.fill(&mut piece).unwrap();
                while let Some(message) = inbox.next().unwrap() {
                    got.push(message);
                }
            }
            assert_eq!(got, messages, "pieces of {cut}");
        }
    }

    #[test]
    fn a_frame_too_large_is_refused_before_it_is_waited_for() {
        let mut inbox = Inbox::default();
        inbox.fill(&mut &[0xff, 0xff, 0xff, 0xff][..]).unwrap();
        assert!(inbox.next().unwrap_err().to_string().contains("4294967295"));
    }
}
