//! What becomes of each row, decided before anything is sent: a call is imported once, even if its row stands in several files.
//!
//! *Identity.* A row's identity is stated (its `id`, the value of `--key`, a preset's key) or, without that, the digest of its
//! fields, together with its number among equal rows of the file: two equal rows are two calls, and a file that overlaps
//! with this one has them as the same two. Line ends, the order of rows and of columns, and spellings of a number do not matter.
//!
//! *Of rows with one stated identity the last counts.* A row whose stated identity was imported before with another usage or
//! cost is refused: the rollups already hold the recorded one.
//!
//! Takes 40 bytes of memory a row of the file.

use sha2::{Digest, Sha256};
use tallyd_protocol::{Record, record};

use super::mapping::Mapping;
use super::reader::FileRows;
use tallyd_model::pricing::{Usd, normalise_provider};

/// What identifies a row.
pub(super) type RowIdentity = [u8; 16];

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is sent, or refused because it cannot be read.
    Send,
    /// It was imported before.
    Known,
    /// A later row of the file has its identity.
    Superseded,
    /// Its identity was imported before with another usage or cost.
    Conflict,
}

struct Item {
    identity: RowIdentity,
    /// A digest of what the call costs by, where its identity is stated.
    usage: u64,
    fate: Fate,
    is_stated: bool,
    is_read: bool,
}

/// The rows of a file.
pub(super) struct ImportPlan {
    items: Vec<Item>,
    /// Indexes of the rows that count, by identity.
    by_identity: Vec<u32>,
}

impl ImportPlan {
    /// Reads every row.
    ///
    /// # Errors
    /// If the file cannot be read on, or has more rows than a number of 32 bits.
    pub(super) fn make(rows: &mut FileRows, mapping: &Mapping) -> anyhow::Result<Self> {
        let mut items = Vec::new();
        while let Some(row) = rows.next_row()? {
            let number = usize::try_from(row.number)?;
            items.resize_with(number - 1, Item::unread);
            items.push(row.record.map_or_else(|_| Item::unread(), |record| item(record, row.key, mapping)));
        }
        u32::try_from(items.len())?;
        let mut plan = Self { items, by_identity: Vec::new() };
        plan.decide_between_doubles();
        Ok(plan)
    }

    /// Decides between rows of the file that have one identity.
    fn decide_between_doubles(&mut self) {
        let items = &mut self.items;
        // The number of rows was checked to fit.
        let mut order: Vec<u32> = (0..items.len() as u32).filter(|at| items[*at as usize].is_read).collect();
        order.sort_unstable_by_key(|at| (items[*at as usize].identity, *at));
        let mut first = 0;
        while first < order.len() {
            let identity = items[order[first] as usize].identity;
            let same = order[first..].iter().take_while(|at| items[**at as usize].identity == identity).count();
            for (number, at) in order[first..first + same].iter().enumerate() {
                let item = &mut items[*at as usize];
                if item.is_stated && number + 1 < same {
                    item.fate = Fate::Superseded;
                } else if !item.is_stated && number > 0 {
                    item.identity = digest(&[b"equal", &identity, &(number as u64).to_be_bytes()]);
                }
            }
            first += same;
        }
        order.retain(|at| items[*at as usize].fate == Fate::Send);
        order.sort_unstable_by_key(|at| items[*at as usize].identity);
        self.by_identity = order;
    }

    /// Takes a row that was imported before.
    pub(super) fn meet(&mut self, identity: &RowIdentity, usage: u64) {
        let items = &mut self.items;
        if let Ok(found) = self.by_identity.binary_search_by_key(identity, |at| items[*at as usize].identity) {
            let item = &mut items[self.by_identity[found] as usize];
            let is_same = !item.is_stated || item.usage == usage;
            item.fate = if is_same { Fate::Known } else { Fate::Conflict };
        }
    }

    /// What becomes of the row of this number, from 1 on.
    pub(super) fn fate(&self, row: u64) -> Fate {
        self.item(row).map_or(Fate::Send, |item| item.fate)
    }

    /// The id of a call whose row does not state one: a version 8 UUID (RFC 9562).
    pub(super) fn id(&self, row: u64) -> [u8; 16] {
        let mut id = self.item(row).map_or([0; 16], |item| item.identity);
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        id
    }

    /// None for a row that a file has which has grown since; nothing is sent of such a file.
    fn item(&self, row: u64) -> Option<&Item> {
        self.items.get(usize::try_from(row).ok()?.checked_sub(1)?)
    }

    /// The rows that are to be sent: their numbers, identities and usages.
    pub(super) fn to_send(&self) -> impl Iterator<Item = (u64, &RowIdentity, u64)> {
        let numbered = (1..).zip(&self.items).filter(|(_, item)| item.is_read && item.fate == Fate::Send);
        numbered.map(|(row, item)| (row, &item.identity, item.usage))
    }

    /// True if some rows without a stated identity were imported before, and others were not: one of these may be a corrected one.
    pub(super) fn may_have_corrected(&self) -> bool {
        let is_any = |fate: Fate| self.items.iter().any(|item| item.is_read && !item.is_stated && item.fate == fate);
        is_any(Fate::Known) && is_any(Fate::Send)
    }
}

impl Item {
    const fn unread() -> Self {
        Self { identity: [0; 16], usage: 0, fate: Fate::Send, is_stated: false, is_read: false }
    }
}

fn item(mut record: Record, key: Option<String>, mapping: &Mapping) -> Item {
    // 0.10 and 0.1 are one amount.
    if let Some(cost) = record.cost_usd.as_deref().and_then(|cost| Usd::parse_rounded(cost).ok()) {
        record.cost_usd = Some(cost.to_string().into());
    }
    record.provider = normalise_provider(&record.provider).into_owned().into();
    let stated = match (&key, record.id) {
        (Some(key), _) => {
            let scope = mapping.preset.map_or(&*record.provider, |preset| preset.name());
            Some(digest(&[b"key", scope.as_bytes(), key.as_bytes()]))
        }
        (None, id) => id,
    };
    // Only what is stated twice can say two things.
    let Some(identity) = stated else {
        let identity = digest(&[b"row", &encoded(&record)]);
        return Item { identity, usage: 0, fate: Fate::Send, is_stated: false, is_read: true };
    };
    Item { identity, usage: usage(record), fate: Fate::Send, is_stated: true, is_read: true }
}

/// A digest of what a call costs by.
fn usage(record: Record) -> u64 {
    let plain = Record::default();
    let record = Record {
        id: None,
        occurred_at: None,
        endpoint: plain.endpoint,
        user_id: plain.user_id,
        app: plain.app,
        request_id: plain.request_id,
        status: plain.status,
        latency_ms: None,
        metadata: None,
        ..record
    };
    digest(&[&encoded(&record)]).first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Fields that a later version adds to a record are left off while they have their default.
fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::write(&mut bytes, record);
    bytes
}

fn digest(parts: &[&[u8]]) -> RowIdentity {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    *hash.finalize().first_chunk().expect("a SHA-256 has 32 bytes")
}
