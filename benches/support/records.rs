//! Records like those of a product, the same ones every time.

use tallyd_client::Record;

/// The time of the first call; the others follow 4 µs apart.
const FIRST_CALL: &str = "2026-11-20T12:00:00Z";
const MODELS: [&str; 6] = [
    "claude-opus-4-5",
    "claude-sonnet-4-5-20250929",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
    "claude-sonnet-4-20250514",
    "claude-opus-4-1",
];

/// An endless sequence of calls of a number of users, the same for a seed. Seven in eight go to Claude's models and the
/// others to RentCast; a fifth of Claude's have cache tokens. Each of the users' rollups gets as many distinct keys as
/// there are users, in no order.
pub struct Calls {
    users: Vec<&'static str>,
    first_us: i64,
    index: i64,
    state: u64,
    /// By Zipf's law: the user of rank `r` makes calls in proportion to `1 / r`, nearly. Otherwise all users make
    /// equally many.
    pub is_zipf: bool,
}

impl Calls {
    pub fn new(users: usize, seed: u64) -> Self {
        let users = (0..users).map(|user| &*format!("0192f0c1-7a10-7000-8000-{user:012}").leak()).collect();
        let first_us = chrono::DateTime::parse_from_rfc3339(FIRST_CALL).expect("a time").timestamp_micros();
        // xorshift needs a state that is not 0.
        Self { users, first_us, index: 0, state: 0x9e37_79b9_7f4a_7c15 ^ seed << 8, is_zipf: false }
    }

    fn user(&mut self) -> usize {
        let users = self.users.len();
        if !self.is_zipf {
            return self.random(users as u64) as usize;
        }
        let share = self.random(1 << 53) as f64 / (1_u64 << 53) as f64;
        ((users as f64 + 1.0).powf(share) as usize - 1).min(users - 1)
    }

    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }
}

impl Iterator for Calls {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let user = self.user();
        let mut record = if user.is_multiple_of(8) {
            Record::rentcast(if self.random(2) == 0 { "/v1/avm/value" } else { "/v1/properties" })
        } else {
            let model = MODELS[self.random(6) as usize];
            let mut call = Record::claude(model, 200 + self.random(4_000), 20 + self.random(900));
            call.endpoint = "/v1/messages".into();
            if self.random(5) == 0 {
                call.cache_read_tokens = self.random(20_000);
            }
            call
        };
        record.user_id = self.users[user].into();
        record.app = "api".into();
        // The times of ten million calls stay within the day.
        record.occurred_at = Some(self.first_us + self.index % 1_000_000_000 * 4);
        record.id = Some((u128::from(self.random(u64::MAX)) << 64 | self.index as u128).to_be_bytes());
        // As with ids from client libraries.
        record.made_id = true;
        record.latency_ms = Some(300 + self.random(4_000) as u32);
        self.index += 1;
        Some(record)
    }
}
