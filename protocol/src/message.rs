//! The contents of frames. Every message is a map of one entry, the message's name to its body:
//! `{"hello": {"protocol": 2, "producer": "api-1", "secret": "…", "client": "tallyd-rust/0.1.0"}}`.
//!
//! The daemon reads every message through serde except `records`: it decodes that array with strings borrowed from the
//! frame, so that an invalid record is refused alone.

use serde::{Deserialize, Serialize};

use crate::budgets::{Budget, Budgets};
use crate::frame;
use crate::record::{self, Record};

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientMessage {
    /// The first message of a connection.
    Hello(Hello),
    /// Asks for [`ServerMessage::Budgets`] from now on. Only for a daemon whose welcome has [`Welcome::budgets`]: an older
    /// one refuses the message.
    Watch(Watch),
}

/// A message without fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {}

/// When a record is acknowledged. The greater value is the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AckMode {
    /// After the sync of the daemon's write-ahead buffer.
    #[default]
    Durable,
    /// After PostgreSQL's COMMIT of the batch that has the record.
    Committed,
}

impl AckMode {
    /// Whether the mode waits for the sync alone.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        *self == Self::Durable
    }
}

/// Opens a connection and names the producer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version that the client speaks: [`crate::PROTOCOL_VERSION`].
    pub protocol: u32,
    /// A name for the sequence of records, at most [`crate::limits::PRODUCER_BYTES`] bytes.
    pub producer: String,
    /// The secret that proves the name is this client's: text of [`crate::limits::SECRET_BYTES_MIN`] to
    /// [`crate::limits::SECRET_BYTES_MAX`] bytes that nobody else can guess. It stays the same while records may be sent
    /// again. Name and secret together are the producer: a second connection with both fences off the first. Empty in
    /// protocol 1, which did not have it.
    #[serde(default)]
    pub secret: String,
    /// Name and version of the client library, for the daemon log.
    #[serde(default)]
    pub client: String,
    /// The access token; required over TCP, ignored on the Unix socket (its file permissions decide there).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Requests each record's cost in [`Ack::costs`].
    #[serde(default)]
    pub want_costs: bool,
    /// When records are acknowledged at the earliest; the daemon's own setting holds if it is stricter. A daemon that does not
    /// know the key refuses the message, so it is left out for [`AckMode::Durable`].
    #[serde(default, skip_serializing_if = "AckMode::is_durable")]
    pub ack: AckMode,
}

/// The daemon's message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerMessage {
    /// Answers [`Hello`].
    Welcome(Welcome),
    /// Answers `records`, once the records are on disk.
    Ack(Ack),
    /// The state of budgets: after [`ClientMessage::Watch`], at each change, and every [`crate::budgets::REPEATED`].
    Budgets(Budgets),
    /// Names a problem. The daemon then closes the connection.
    Error(ErrorFrame),
}

/// The daemon's side of the handshake.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Welcome {
    /// The version that the daemon will speak on this connection.
    pub protocol: u32,
    /// The producer's highest settled sequence number, 0 for a new producer. The client resends the records after it. For
    /// [`AckMode::Committed`] the number may be lower: 0 as long as records of the WAL are not committed yet.
    pub last_seq: u64,
    /// Bytes that one frame's body may have.
    pub max_frame_bytes: u32,
    /// Records that one frame may hold.
    pub max_records: u32,
    /// A warning for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
    /// The state of budgets. None from a daemon that does not send it; such a daemon does not know
    /// [`ClientMessage::Watch`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budgets: Option<Budgets>,
}

/// A problem that costs no record. The connection continues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Warning {
    /// A stable name for the reason, listed in the specification.
    pub code: String,
    /// The problem, and the remedy.
    pub message: String,
}

/// Everything up to `seq` is settled: on disk, or refused for the reason given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
pub struct Ack {
    /// The highest sequence number that is settled.
    pub seq: u64,
    /// One entry for each record of the acknowledged frame, if [`Hello::want_costs`]: USD as decimal text, or None if the
    /// record is unpriced, was refused, or had been acknowledged before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Vec<Option<String>>>,
    /// The records of the frame that were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejection>,
    /// Sequence numbers of records whose stated id names a call that the daemon has already. They are not counted again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub duplicates: Vec<u64>,
    /// The state of the budget; None without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// A warning for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<Warning>,
}

/// One refused record. Sending it again unchanged gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rejection {
    /// Its sequence number.
    pub seq: u64,
    /// A stable name for the reason, listed in the specification.
    pub code: String,
    /// The problem, and the accepted values.
    pub message: String,
    /// The field at fault, if it is a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Why the daemon closes the connection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct ErrorFrame {
    /// A stable name for the reason, listed in the specification.
    pub code: String,
    /// The problem, and the remedy.
    pub message: String,
}

impl ClientMessage {
    /// Appends the message as one frame.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        frame::write(out, |body| write_named(body, self));
    }
}

/// How deep a message may be nested: deeper than any real one, and shallow enough for a small thread's stack.
const DEPTH_MAX: usize = 64;

impl ServerMessage {
    /// Appends the message as one frame.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        frame::write(out, |body| write_named(body, self));
    }

    /// Reads the message from a frame's body.
    ///
    /// # Errors
    /// If the bytes are not one of the daemon's messages.
    pub fn read(body: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        let mut decoder = rmp_serde::Deserializer::from_read_ref(body);
        decoder.set_max_depth(DEPTH_MAX);
        Self::deserialize(&mut decoder)
    }
}

fn write_named(body: &mut Vec<u8>, message: &impl Serialize) {
    // Writing into memory cannot fail, and every type here has a MessagePack form.
    message
        .serialize(&mut rmp_serde::Serializer::new(body).with_struct_map())
        .expect("control messages serialize into memory");
}

/// The bytes of a `records` body before its records: `{"records": {"first_seq": …, "records": [` and the array's head.
pub fn write_records_head(body: &mut Vec<u8>, first_seq: u64, count: u32) {
    // `rmp` writes into a `Vec`, which cannot fail.
    let ok = "a Vec takes every write";
    rmp::encode::write_map_len(body, 1).expect(ok);
    rmp::encode::write_str(body, "records").expect(ok);
    rmp::encode::write_map_len(body, 2).expect(ok);
    rmp::encode::write_str(body, "first_seq").expect(ok);
    rmp::encode::write_uint(body, first_seq).expect(ok);
    rmp::encode::write_str(body, "records").expect(ok);
    rmp::encode::write_array_len(body, count).expect(ok);
}

/// Appends a `records` frame: `records[i]` has the sequence number `first_seq + i`.
///
/// # Panics
/// If there are 2^32 records or more.
pub fn write_records_frame(out: &mut Vec<u8>, first_seq: u64, records: &[Record]) {
    let count = u32::try_from(records.len()).expect("a frame holds far fewer than 2^32 records");
    frame::write(out, |body| {
        write_records_head(body, first_seq, count);
        for record in records {
            record::write(body, record);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budgets::Left;

    fn body(frame: &[u8]) -> &[u8] {
        let bytes = frame::body_bytes(frame[..4].try_into().unwrap(), 1 << 20).unwrap();
        assert_eq!(bytes, frame.len() - 4);
        &frame[4..]
    }

    #[test]
    fn every_server_message_reads_back() {
        let messages = [
            ServerMessage::Welcome(Welcome {
                protocol: 2,
                last_seq: 7,
                max_frame_bytes: 1,
                max_records: 2,
                warning: Some(Warning { code: "name_in_use".into(), message: "another process".into() }),
                budgets: Some(Budgets::default()),
            }),
            ServerMessage::Budgets(Budgets {
                budget: None,
                used_up: vec![[("user".to_owned(), vec!["u1".to_owned()])].into()],
                left_off: 3,
                left: vec![Left { scope: [].into(), usd: "0.5".into() }],
            }),
            ServerMessage::Ack(Ack { seq: 9, ..Ack::default() }),
            ServerMessage::Ack(Ack {
                seq: u64::MAX,
                costs: Some(vec![None, Some("0.20".into())]),
                rejected: vec![Rejection {
                    seq: 3,
                    code: "nul".into(),
                    message: "no".into(),
                    field: Some("model".into()),
                }],
                duplicates: vec![4, 5],
                budget: Some(Budget { should_throttle: true, status: "exceeded".into() }),
                warning: None,
            }),
            ServerMessage::Error(ErrorFrame { code: "fenced".into(), message: "taken over".into() }),
        ];
        for message in messages {
            let mut out = Vec::new();
            message.write_frame(&mut out);
            assert_eq!(ServerMessage::read(body(&out)).unwrap(), message);
        }
    }
}
