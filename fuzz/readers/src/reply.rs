//! The daemon's messages as a client reads them. A client must survive any program that listens on its socket.

use tallyd_protocol::ServerMessage;
use tallyd_protocol::frame::PREFIX_BYTES;

/// Names of the daemon's messages, as MessagePack texts.
pub const WORDS: [&[u8]; 7] = [
    b"\xa3ack",
    b"\xa7welcome",
    b"\xa5error",
    b"\xa5costs\x91\xa40.20",
    b"\xa8rejected\x91",
    b"\xa6budget\xc0",
    b"\xdd\xff\xff\xff\xff",
];

/// Reads one frame's body.
pub fn run(body: &[u8]) {
    match ServerMessage::read(body) {
        Ok(message) => {
            let mut written = Vec::new();
            message.write_frame(&mut written);
            let again = ServerMessage::read(&written[PREFIX_BYTES..]).expect("a written message reads back");
            assert_eq!(again, message);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
