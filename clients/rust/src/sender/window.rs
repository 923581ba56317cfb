//! The window: every record that left the ring and is not settled yet, encoded once, in order.
//!
//! ```text
//! frames:  [ written, numbered | written … | being written | not numbered … | open ]
//!                                     cursor ^
//! ```
//! A frame is numbered when it is first written, and keeps its numbers once the socket has taken all of it: from then on
//! the daemon may have it. A frame that a broken connection cut short cannot have been accepted, so its numbers are given
//! back. This matters when two processes share a producer by mistake: a record that was never sent is never mistaken for
//! a durable one, even if the other process used its number.
//!
//! Records of a spool come with their numbers, and keep them ([`Window::add_numbered`]): nobody else has the spool's secret,
//! and another process may have to send them again.

use std::collections::VecDeque;

use tallyd_protocol::message::write_records_head;
use tallyd_protocol::record::id_of;
use tallyd_protocol::{Record, frame, record, scan};

/// Records and bytes after which a frame is closed: large enough that the daemon's work per frame is negligible, small
/// enough that an ack comes soon.
const FRAME_RECORDS: u32 = 1024;
const FRAME_BYTES: usize = 64 * 1024;
/// Bound of the bytes around the records of a `records` body: the names, `first_seq`, and the array's head.
pub const HEAD_BYTES: usize = 48;

/// Some encoded records.
#[derive(Debug)]
struct Frame {
    /// 0 until numbered: sequence numbers start at 1.
    first_seq: u64,
    /// Whether its records came with their numbers.
    numbered: bool,
    count: u32,
    /// The records' array forms, concatenated.
    records: Vec<u8>,
    /// Whether it was handed out: it takes no more records, unless its numbers are given back.
    closed: bool,
    /// Whether a socket once took all of it.
    written: bool,
    /// The ring position of its first record.
    position: u64,
}

impl Frame {
    fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count).saturating_sub(1)
    }

    fn is_open(&self) -> bool {
        !self.closed && self.count < FRAME_RECORDS && self.records.len() < FRAME_BYTES
    }

    /// Splits the frame; this one keeps the first half.
    fn split(&mut self) -> Self {
        let keep = self.count / 2;
        let at = end_of(&self.records, keep);
        let first_seq = if self.first_seq == 0 { 0 } else { self.first_seq + u64::from(keep) };
        let rest = Self { first_seq, count: self.count - keep, records: self.records.split_off(at), ..*self };
        self.count = keep;
        rest
    }
}

/// The length of the first `count` records, in bytes.
fn end_of(records: &[u8], count: u32) -> usize {
    // This crate wrote the bytes, so the scan cannot fail. If it did, the rest would stay in one piece.
    (0..count).fold(0, |at, _| at + scan::value_bytes(&records[at..]).unwrap_or(records.len() - at))
}

/// The result of [`Window::next`].
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Everything is written.
    Nothing,
    /// A frame was appended to the buffer.
    Frame,
    /// One record is larger than the daemon accepts. It was removed.
    Oversized {
        /// Its sequence number, 0 without one.
        seq: u64,
        /// Its id.
        id: Option<[u8; 16]>,
    },
}

/// The window. See the module.
#[derive(Debug)]
pub struct Window {
    frames: VecDeque<Frame>,
    /// Index of the first frame that this connection has not written completely.
    cursor: usize,
    next_seq: u64,
    /// The highest number that a correct daemon can acknowledge.
    known_seq: u64,
    bytes: usize,
    records: u64,
    max_bytes: usize,
    max_frames: usize,
}

impl Window {
    pub fn new(max_bytes: usize, max_frames: usize) -> Self {
        let frames = VecDeque::new();
        Self { frames, cursor: 0, next_seq: 1, known_seq: 0, bytes: 0, records: 0, max_bytes, max_frames }
    }

    /// Records that are not settled.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether the window takes another record.
    pub fn has_room(&self) -> bool {
        let frame = self.frames.len() < self.max_frames || self.frames.back().is_some_and(Frame::is_open);
        frame && self.bytes < self.max_bytes
    }

    /// Whether the daemon owes an ack.
    pub fn awaits_ack(&self) -> bool {
        self.cursor > 0
    }

    /// The ring position of the oldest record that is not settled; None if all are.
    pub fn position(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.position)
    }

    /// Encodes a record and appends it. `position` is its place in the ring's order.
    ///
    /// # Errors
    /// The length of the encoding in bytes, if it exceeds `max`. The record is not kept then.
    pub fn add(&mut self, record: &Record, position: u64, max: usize) -> Result<(), usize> {
        let open = self.open(0, position);
        let before = open.records.len();
        record::write(&mut open.records, record);
        let bytes = open.records.len() - before;
        if bytes + HEAD_BYTES > max {
            open.records.truncate(before);
            if open.count == 0 {
                self.frames.pop_back();
            }
            return Err(bytes);
        }
        open.count += 1;
        self.records += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Appends an encoded record that has a number. Numbers rise; its place in the order is the one before its number.
    pub fn add_numbered(&mut self, record: &[u8], seq: u64) {
        let open = self.open(seq, seq - 1);
        open.records.extend_from_slice(record);
        open.count += 1;
        self.records += 1;
        self.bytes += record.len();
    }

    /// The frame that takes the next record: the last one, if it is open and its numbers go on with `seq`, or a new one.
    fn open(&mut self, seq: u64, position: u64) -> &mut Frame {
        let goes_on = |frame: &Frame| frame.is_open() && (seq == 0 || frame.last_seq() + 1 == seq);
        if !self.frames.back().is_some_and(goes_on) {
            let (count, records) = (0, Vec::new());
            let (numbered, closed, written) = (seq != 0, false, false);
            self.frames.push_back(Frame { first_seq: seq, numbered, count, records, closed, written, position });
        }
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Begins a connection. The daemon has everything up to `last_seq`. Returns the number of records settled by that.
    pub fn welcome(&mut self, last_seq: u64) -> u64 {
        self.disconnected();
        let before = self.records;
        while self.frames.front().is_some_and(|frame| frame.first_seq != 0 && frame.last_seq() <= last_seq) {
            self.pop();
        }
        self.next_seq = self.next_seq.max(last_seq.saturating_add(1));
        self.known_seq = self.known_seq.max(last_seq);
        before - self.records
    }

    /// Ends a connection: all frames will be written again, in order.
    pub fn disconnected(&mut self) {
        self.cursor = 0;
        let is_cut = |frame: &Frame| frame.closed && !frame.written && !frame.numbered;
        if let Some(cut) = self.frames.iter().position(is_cut) {
            self.next_seq = self.frames[cut].first_seq;
            self.frames.iter_mut().skip(cut).for_each(|frame| (frame.first_seq, frame.closed) = (0, false));
        }
    }

    /// Appends the next frame to `out`, split to the daemon's bounds.
    pub fn next(&mut self, out: &mut Vec<u8>, max_records: usize, max_bytes: usize) -> Next {
        loop {
            let Some(frame) = self.frames.get_mut(self.cursor) else { return Next::Nothing };
            let fits = frame.count as usize <= max_records && frame.records.len() + HEAD_BYTES <= max_bytes;
            if fits {
                break;
            }
            if frame.count <= 1 {
                return self.take_oversized();
            }
            let rest = frame.split();
            self.frames.insert(self.cursor + 1, rest);
        }
        let frame = &mut self.frames[self.cursor];
        frame.closed = true;
        if frame.first_seq == 0 {
            frame.first_seq = self.next_seq;
            self.next_seq += u64::from(frame.count);
        }
        frame::write(out, |body| {
            write_records_head(body, frame.first_seq, frame.count);
            body.extend_from_slice(&frame.records);
        });
        Next::Frame
    }

    fn take_oversized(&mut self) -> Next {
        let Some(frame) = self.frames.remove(self.cursor) else { return Next::Nothing };
        self.bytes -= frame.records.len();
        self.records -= u64::from(frame.count);
        Next::Oversized { seq: frame.first_seq, id: id_of(&frame.records) }
    }

    /// Marks the frame of the last [`Self::next`] as taken by the socket.
    pub fn wrote(&mut self) {
        let frame = &mut self.frames[self.cursor];
        frame.written = true;
        self.known_seq = self.known_seq.max(frame.last_seq());
        self.cursor += 1;
    }

    /// Whether a correct daemon can acknowledge `seq`.
    pub fn knows(&self, seq: u64) -> bool {
        seq <= self.known_seq
    }

    /// The id of a written record; None if it has no id, or `seq` was not written.
    pub fn id(&self, seq: u64) -> Option<[u8; 16]> {
        let mut written = self.frames.iter().take(self.cursor);
        let frame = written.find(|frame| (frame.first_seq..=frame.last_seq()).contains(&seq))?;
        // The difference is below `count`, a u32.
        let index = (seq - frame.first_seq) as u32;
        id_of(&frame.records[end_of(&frame.records, index)..])
    }

    /// Removes the frames that `seq` covers completely. Returns the number of records settled by that.
    pub fn settle(&mut self, seq: u64) -> u64 {
        let before = self.records;
        while self.cursor > 0 && self.frames.front().is_some_and(|frame| frame.last_seq() <= seq) {
            self.pop();
            self.cursor -= 1;
        }
        before - self.records
    }

    fn pop(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.records.len();
            self.records -= u64::from(frame.count);
        }
    }
}

#[cfg(test)]
mod tests;
