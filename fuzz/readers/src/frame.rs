//! Frames of MessagePack, as a connection reads them.

use tallyd_protocol::frame::{self as prefix, PREFIX_BYTES};
use tallyd_protocol::{ClientMessage, limits};

use super::admitted;
use tallyd_intake::Encoded;
use tallyd_intake::frame::{self, ClientFrame};

/// Names of the protocol, as MessagePack texts.
pub const WORDS: [&[u8]; 14] = [
    b"\x81\xa7records\x82\xa9first_seq\x01\xa7records\x91",
    b"\xa5hello",
    b"\xa8provider",
    b"\xa6claude",
    b"\xabextra_units\x81\xa5image\xa11",
    b"\xa8metadata\x81\xa1k\x80",
    b"\xa8cost_usd\xa40.20",
    b"\xabocurred_at",
    b"\xdf\xff\xff\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc7\x05\x01",
    b"\xcb\x7f\xf8\0\0\0\0\0\0",
    b"\xd9\x01\0",
];

/// Reads the bytes as a stream of frames, and as one frame's body.
pub fn run(bytes: &[u8]) {
    let mut stream = bytes;
    while let Some((head, rest)) = stream.split_first_chunk::<PREFIX_BYTES>() {
        let Ok(length) = prefix::body_bytes(*head, limits::FRAME_BYTES) else { break };
        let Some((body, after)) = rest.split_at_checked(length) else { break };
        read(body);
        stream = after;
    }
    read(bytes);
}

fn read(body: &[u8]) {
    match frame::read(body, limits::FRAME_RECORDS) {
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
        Ok(ClientFrame::Hello(hello)) => {
            let mut written = Vec::new();
            ClientMessage::Hello(hello.clone()).write_frame(&mut written);
            let Ok(ClientFrame::Hello(again)) = frame::read(&written[PREFIX_BYTES..], limits::FRAME_RECORDS) else {
                panic!("a written hello reads back")
            };
            assert_eq!(again, hello);
        }
        Ok(ClientFrame::Records(records)) => {
            assert!(records.first_seq >= 1 && records.first_seq.checked_add(records.count() as u64).is_some());
            let mut bytes = 0;
            let count = records.count();
            let mut seen = 0;
            for record in records.encoded() {
                seen += 1;
                bytes += record.len();
                admitted::check_short_way(record);
                admitted::check(Encoded::MessagePack(record));
            }
            assert_eq!(seen, count);
            assert!(bytes <= body.len(), "records do not overlap");
        }
        Ok(ClientFrame::Watch) => {}
    }
}
