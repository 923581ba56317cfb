//! Decides about each row before anything is sent, so that a call is imported once, even if its row is in several
//! files.
//!
//! *Identity.* A row's stated identity is its `id`, the value of `--key`, or a preset's key. Without one, the identity
//! is the digest of its fields, together with its number among equal rows of the file. So two equal rows are two calls,
//! and in an overlapping file they are the same two. Line ends, the order of rows and of columns, and spellings of a
//! number do not matter.
//!
//! *Of several rows with one stated identity the last counts.* A row whose stated identity was imported before with
//! another usage or cost is refused, because the rollups already have the recorded one.
//!
//! A plan takes 40 bytes of memory for each row of the file.

use sha2::{Digest, Sha256};
use tallyd_protocol::{Record, record};

use super::mapping::Mapping;
use super::reader::FileRows;
use tallyd_model::pricing::{Usd, normalise_provider};

pub(super) type RowIdentity = [u8; 16];

/// The decision about a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The row is sent, or refused because it cannot be read.
    Send,
    /// The row was imported before.
    Known,
    /// A later row of the file has its identity.
    Superseded,
    /// Its identity was imported before with another usage or cost.
    Conflict,
}

struct Item {
    identity: RowIdentity,
    /// The digest of the fields that decide the cost; 0 without a stated identity.
    usage: u64,
    fate: Fate,
    is_stated: bool,
    is_read: bool,
}

pub(super) struct ImportPlan {
    items: Vec<Item>,
    /// Indexes of the rows that count, sorted by identity.
    by_identity: Vec<u32>,
}

impl ImportPlan {
    /// Reads every row.
    ///
    /// # Errors
    /// If reading the file fails, or it has more rows than a number of 32 bits.
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

    /// Decides between rows of the file with one identity.
    fn decide_between_doubles(&mut self) {
        let items = &mut self.items;
        // The number of rows was checked to fit into 32 bits.
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

    /// Marks the row with this identity, if there is one, as imported before.
    pub(super) fn meet(&mut self, identity: &RowIdentity, usage: u64) {
        let items = &mut self.items;
        if let Ok(found) = self.by_identity.binary_search_by_key(identity, |at| items[*at as usize].identity) {
            let item = &mut items[self.by_identity[found] as usize];
            let is_same = !item.is_stated || item.usage == usage;
            item.fate = if is_same { Fate::Known } else { Fate::Conflict };
        }
    }

    /// The decision about the row of this number, from 1 on.
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

    /// None for a row that was added to the file after the plan was made; nothing is sent of such a file.
    fn item(&self, row: u64) -> Option<&Item> {
        self.items.get(usize::try_from(row).ok()?.checked_sub(1)?)
    }

    /// The rows to send: their numbers, identities and usages.
    pub(super) fn to_send(&self) -> impl Iterator<Item = (u64, &RowIdentity, u64)> {
        let numbered = (1..).zip(&self.items).filter(|(_, item)| item.is_read && item.fate == Fate::Send);
        numbered.map(|(row, item)| (row, &item.identity, item.usage))
    }

    /// True if only some of the rows without a stated identity were imported before. One of the others may be a
    /// correction.
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
    // 0.10 and 0.1 are the same amount.
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
    // Only rows with a stated identity can contradict a recorded one, so the others need no usage.
    let Some(identity) = stated else {
        let identity = digest(&[b"row", &encoded(&record)]);
        return Item { identity, usage: 0, fate: Fate::Send, is_stated: false, is_read: true };
    };
    Item { identity, usage: usage(record), fate: Fate::Send, is_stated: true, is_read: true }
}

/// A digest of the fields that decide a call's cost.
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

/// The encoding leaves out a later version's fields at their defaults, so digests stay the same.
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
