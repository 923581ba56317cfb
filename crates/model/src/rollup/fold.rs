//! Sums a batch by rollup key. It does not allocate for each record, and keeps nothing of a chunk.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use chrono::NaiveDate;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::day::Days;
use super::dimensions::Dimensions;
use super::guard::{KeyGuard, OTHER, OTHER_APP, OTHER_ENDPOINT, OTHER_MODEL};
use super::measures::{CallKey, CostKey, DimensionKey, HourKey, Measures, UserKey, UserSums};
use crate::call::Call;
use crate::tags::APP;

/// Folds one batch. It copies the names of each key once, into an arena: a lookup then touches a few hundred kilobytes,
/// not the whole batch.
pub struct Fold<'g> {
    guard: &'g KeyGuard,
    dimensions: &'g Dimensions,
    days: Days,
    hasher: DefaultHashBuilder,
    names: String,
    /// Tags as they are stored, and what [`Dimensions::pick`] has made of them.
    tags: Rows<Name, Name>,
    /// By the finest key; the rollups by day, dimension and hour are derived from these at the end.
    calls: Rows<CallNames, CallRow>,
    /// Days and providers of users' rows.
    groups: Rows<GroupNames, ()>,
    users: Rows<UserNames, UserSums>,
    /// Each call's user row, for the last [`Fold::add_all`].
    found: Vec<u32>,
}

/// Finds the rows of a chunk's calls by the addresses of their names. In a chunk a repeated name is the same slice, so
/// most calls need neither a hash nor a comparison of text. Addresses are unique only while the chunk is in memory, so
/// a memo does not outlive it.
struct Memo<'a>([Option<(CallKey<'a>, usize)>; MEMO_ENTRIES]);

const MEMO_ENTRIES: usize = 128;

impl<'a> Memo<'a> {
    fn slot(key: &CallKey<'_>) -> usize {
        let [model, endpoint, app, tags] =
            [key.model, key.endpoint, key.app, key.tags].map(|name| name.as_ptr().addr());
        (model ^ endpoint.rotate_left(3) ^ app.rotate_left(5) ^ tags.rotate_left(7)) % MEMO_ENTRIES
    }

    fn row(&self, key: &CallKey<'_>) -> Option<usize> {
        self.0[Self::slot(key)].filter(|(known, _)| known.is_same(key)).map(|(_, row)| row)
    }

    fn set(&mut self, key: CallKey<'a>, row: usize) {
        self.0[Self::slot(&key)] = Some((key, row));
    }
}

/// A piece of the arena.
#[derive(Clone, Copy)]
struct Name {
    start: u32,
    len: u32,
}

struct CallNames {
    hour_us: i64,
    provider: Name,
    model: Name,
    endpoint: Name,
    app: Name,
    /// The values of its dimensions.
    picked: Name,
}

struct GroupNames {
    day: NaiveDate,
    provider: Name,
}

/// The number of a day and provider, which most users' rows share.
type Group = u32;

struct UserNames {
    group: Group,
    user_id: Name,
}

struct CallRow {
    day: NaiveDate,
    /// The value of `rollup_other` in its calls.
    other: i16,
    /// The group of its users' rows.
    group: Group,
    measures: Measures,
}

/// Rows in the order of their appearance, found by hash.
struct Rows<K, V> {
    /// Each row's hash and place.
    table: HashTable<(u64, u32)>,
    rows: Vec<(K, V)>,
}

impl<K, V> Rows<K, V> {
    const fn new() -> Self {
        Self { table: HashTable::new(), rows: Vec::new() }
    }

    fn find(&self, hash: u64, is_key: impl Fn(&K) -> bool) -> Option<usize> {
        let is_row = |(known, row): &(u64, u32)| *known == hash && is_key(&self.rows[*row as usize].0);
        self.table.find(hash, is_row).map(|(_, row)| *row as usize)
    }

    fn insert(&mut self, hash: u64, key: K, value: V) -> usize {
        let row = self.rows.len();
        self.rows.push((key, value));
        // A batch has far fewer than 2^32 records.
        self.table.insert_unique(hash, (hash, row as u32), |(known, _)| *known);
        row
    }
}

/// The sums of a batch, sorted by key.
#[derive(Default)]
pub struct Deltas<'a> {
    /// To `daily_api_costs`.
    pub costs: BTreeMap<CostKey<'a>, Measures>,
    /// To `daily_dimension_costs`.
    pub dimensions: BTreeMap<DimensionKey<'a>, Measures>,
    /// To `hourly_api_costs`.
    pub hours: BTreeMap<HourKey<'a>, Measures>,
    /// To the users' rollups, sorted by user, provider and day.
    pub users: Vec<(UserKey<'a>, &'a UserSums)>,
}

impl<'g> Fold<'g> {
    /// An empty fold. The guard must know the days of the batch.
    #[must_use]
    pub fn new(guard: &'g KeyGuard, days: Days, dimensions: &'g Dimensions) -> Self {
        Self {
            guard,
            dimensions,
            days,
            hasher: DefaultHashBuilder::default(),
            names: String::new(),
            tags: Rows::new(),
            calls: Rows::new(),
            groups: Rows::new(),
            users: Rows::new(),
            found: Vec::new(),
        }
    }

    /// Adds a chunk's calls. `others` gets the value of `rollup_other` for each.
    pub fn add_all(&mut self, calls: &[Call<'_>], others: &mut Vec<i16>) {
        self.found.clear();
        others.clear();
        let mut memo = Memo([None; MEMO_ENTRIES]);
        for call in calls {
            let (day, hour_us) = self.days.with_hour(call.occurred_at_us);
            let key = CallKey::of(hour_us, call);
            let row = memo.row(&key).unwrap_or_else(|| self.call_row(day, key));
            memo.set(key, row);
            let (other, user) = self.add_to(row, call);
            others.push(other);
            // A batch has far fewer than 2^32 records.
            self.found.push(user as u32);
        }
    }

    /// For each call of the last [`Fold::add_all`], the place of its user's row.
    pub fn users_of_last(&self) -> impl Iterator<Item = usize> {
        self.found.iter().map(|row| *row as usize)
    }

    /// For each user's row, its rank by the user's name, byte by byte. The rows of one user have adjacent ranks.
    #[must_use]
    pub fn user_ranks(&self) -> Vec<u32> {
        // A batch has far fewer than 2^32 records.
        let mut order: Vec<u32> = (0..self.users.rows.len() as u32).collect();
        order.sort_unstable_by_key(|row| text(&self.names, self.users.rows[*row as usize].0.user_id));
        let mut ranks = vec![0; order.len()];
        for (rank, row) in order.iter().enumerate() {
            ranks[*row as usize] = rank as u32;
        }
        ranks
    }

    /// Adds a call. Returns its value of `rollup_other`.
    pub fn add(&mut self, call: &Call<'_>) -> i16 {
        let row = self.row_of(call);
        self.add_to(row, call).0
    }

    fn row_of(&mut self, call: &Call<'_>) -> usize {
        let (day, hour_us) = self.days.with_hour(call.occurred_at_us);
        self.call_row(day, CallKey::of(hour_us, call))
    }

    /// Adds a call to that row, and to its user's row. Returns the value of `rollup_other`, and the place of the user's
    /// row.
    fn add_to(&mut self, row: usize, call: &Call<'_>) -> (i16, usize) {
        let row = &mut self.calls.rows[row].1;
        row.measures.add_call(call);
        let (other, group) = (row.other, row.group);
        let user = self.user_row(group, call.user_id);
        self.users.rows[user].1.add_call(call);
        (other, user)
    }

    /// A call's value of `rollup_other`, without adding the call.
    pub fn other_of(&mut self, call: &Call<'_>) -> i16 {
        let row = self.row_of(call);
        self.calls.rows[row].1.other
    }

    fn call_row(&mut self, day: NaiveDate, key: CallKey<'_>) -> usize {
        let picked = self.picked(key.tags);
        let hash = self.hasher.hash_one(CallKey { tags: text(&self.names, picked), ..key });
        let names = &self.names;
        let known = self.calls.find(hash, |known| {
            known.hour_us == key.hour_us
                && text(names, known.picked) == text(names, picked)
                && text(names, known.model) == key.model
                && text(names, known.endpoint) == key.endpoint
                && text(names, known.app) == key.app
                && text(names, known.provider) == key.provider
        });
        known.unwrap_or_else(|| {
            let [provider, model, endpoint, app] =
                [key.provider, key.model, key.endpoint, key.app].map(|name| self.keep(name));
            let values = self.dimensions.values(day, text(&self.names, picked));
            let other = self.guard.admit(day, [key.model, key.endpoint, key.app], values);
            let row = CallRow { day, other, group: self.group(day, key.provider), measures: Measures::default() };
            self.calls.insert(hash, CallNames { hour_us: key.hour_us, provider, model, endpoint, app, picked }, row)
        })
    }

    /// The values that tags have for the dimensions. Tags that repeat are read once a batch.
    fn picked(&mut self, tags: &str) -> Name {
        if tags.is_empty() || self.dimensions.is_empty() {
            return Name { start: 0, len: 0 };
        }
        let hash = self.hasher.hash_one(tags);
        let names = &self.names;
        let known = self.tags.find(hash, |known| text(names, *known) == tags);
        let row = known.unwrap_or_else(|| {
            let key = self.keep(tags);
            let start = self.names.len();
            self.dimensions.pick(tags, &mut self.names);
            // As in `keep`.
            let picked = Name { start: start as u32, len: (self.names.len() - start) as u32 };
            self.tags.insert(hash, key, picked)
        });
        self.tags.rows[row].1
    }

    fn user_row(&mut self, group: Group, user_id: &str) -> usize {
        let hash = self.hasher.hash_one((group, user_id));
        let names = &self.names;
        let known = self.users.find(hash, |known| known.group == group && text(names, known.user_id) == user_id);
        known.unwrap_or_else(|| {
            let user_id = self.keep(user_id);
            self.users.insert(hash, UserNames { group, user_id }, UserSums::default())
        })
    }

    fn group(&mut self, day: NaiveDate, provider: &str) -> Group {
        let hash = self.hasher.hash_one((day, provider));
        let names = &self.names;
        let known = self.groups.find(hash, |known| known.day == day && text(names, known.provider) == provider);
        let group = known.unwrap_or_else(|| {
            let provider = self.keep(provider);
            self.groups.insert(hash, GroupNames { day, provider }, ())
        });
        // A batch has far fewer than 2^32 records.
        group as Group
    }

    fn keep(&mut self, name: &str) -> Name {
        // A batch's payloads are bounded to megabytes, and therefore its names.
        let start = self.names.len() as u32;
        self.names.push_str(name);
        Name { start, len: name.len() as u32 }
    }

    /// The sums, sorted by key; keys that the guard has renamed are merged.
    #[must_use]
    pub fn deltas(&self) -> Deltas<'_> {
        let mut deltas = Deltas { users: self.user_rows().collect(), ..Deltas::default() };
        for (key, row) in self.calls.rows.iter().filter(|(_, row)| row.measures.calls > 0) {
            let [provider, model, endpoint, app, picked] =
                [key.provider, key.model, key.endpoint, key.app, key.picked].map(|name| text(&self.names, name));
            let names = Names { provider, model, endpoint, app, picked, other: row.other };
            names.add(&mut deltas, self.dimensions, (row.day, key.hour_us), &row.measures);
        }
        deltas.users.sort_unstable_by_key(|(key, _)| (key.user_id, key.provider, key.day));
        deltas
    }

    /// The number of users' rows: each takes about 200 bytes.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.users.rows.len()
    }

    /// The users' rows, in the order of first use.
    fn user_rows(&self) -> impl Iterator<Item = (UserKey<'_>, &UserSums)> {
        self.users.rows.iter().map(|(names, sums)| {
            let group = &self.groups.rows[names.group as usize].0;
            let [user_id, provider] = [names.user_id, group.provider].map(|name| text(&self.names, name));
            (UserKey { day: group.day, user_id, provider }, sums)
        })
    }
}

/// The names in a call by which rollups group it, as they were sent.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Provider.
    pub provider: &'a str,
    /// Model.
    pub model: &'a str,
    /// Endpoint.
    pub endpoint: &'a str,
    /// Application.
    pub app: &'a str,
    /// The values of its dimensions, as [`Dimensions::pick`] writes them.
    pub picked: &'a str,
    /// The call's value of `rollup_other`: the names that count as [`OTHER`].
    pub other: i16,
}

impl<'a> Names<'a> {
    /// Adds to each rollup that is not by user.
    pub fn add(
        self,
        deltas: &mut Deltas<'a>,
        dimensions: &'a Dimensions,
        (day, hour_us): (NaiveDate, i64),
        measures: &Measures,
    ) {
        let told = |bit, name| if self.other & bit == 0 { name } else { OTHER };
        let provider = self.provider;
        let (model, endpoint) = (told(OTHER_MODEL, self.model), told(OTHER_ENDPOINT, self.endpoint));
        deltas.costs.entry(CostKey { day, provider, model, endpoint }).or_default().add(measures);
        deltas.hours.entry(HourKey { hour_us, provider, model }).or_default().add(measures);
        let tags = dimensions
            .values(day, self.picked)
            .map(|(dimension, value)| (dimension.name.as_str(), told(dimension.bit(), value)));
        for (dimension, value) in tags.chain([(APP, told(OTHER_APP, self.app))]) {
            let key = DimensionKey { day, dimension, value, provider, model };
            deltas.dimensions.entry(key).or_default().add(measures);
        }
    }
}

fn text(names: &str, name: Name) -> &str {
    &names[name.start as usize..][..name.len as usize]
}

#[cfg(test)]
mod tests;
