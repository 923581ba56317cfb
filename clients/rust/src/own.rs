//! The recorder's own values, which it adds to its records.

use tallyd_protocol::record::Text;
use tallyd_protocol::{Record, id};

use crate::rng::Rng;

/// The recorder's own values, for records that do not have them.
#[derive(Debug, Clone)]
pub struct Own {
    pub app: Text,
    pub tags: Vec<(Text, Text)>,
}

impl Own {
    /// Fills in fields that the application left out. The id sorts by the time of the call.
    pub fn complete(&self, record: &mut Record, rng: &mut Rng) {
        if record.id.is_none() {
            record.id = Some(id::v7(record.occurred_at.unwrap_or(0), rng.next_u128()));
            record.made_id = true;
        }
        if record.app.is_empty() {
            record.app = self.app.clone();
        }
        for (name, value) in &self.tags {
            if !record.tags.iter().any(|(known, _)| known == name) {
                record.tags.push((name.clone(), value.clone()));
            }
        }
    }
}
