//! Zeros ahead of the newest segment's end, so that a commit's sync overwrites blocks that are there.
//!
//! A store's file grows with every commit. The sync that an acknowledgement waits for then has to write the file's length
//! and its blocks' places as well, which on most file systems means a commit of a journal that others write to. A sync of
//! bytes that replace others, within a file whose length is on disk, is spared that: on ext4 it took three quarters of the
//! time on an idle disk, and a twentieth of it beside a compiler. Space that is only allocated does not help: that it is
//! written to has to be noted in the same journal.
//!
//! ## Who writes where
//! sled writes at offsets of its own reckoning, from 0 on, a segment of [`SLED_SEGMENT_BYTES`] after the other, and asks
//! for the file's length only while it opens a store (0.34.7: `segment.rs`, `initial_segments`; `iterator.rs`,
//! `scan_segment_headers_and_tail`). So what lies beyond its last byte is ours while the store is open. A thread fills it,
//! through a descriptor that *appends* (`O_APPEND`): the kernel puts such a write behind the file's end as it is then, and
//! holds every other write to the file off meanwhile. What sled has written lies before that end, and what it writes later
//! replaces zeros. There is no moment at which zeros could replace its bytes, and nobody has to know where it is.
//!
//! That also holds where sled cuts free segments off its end: whatever it writes there comes before the zeros, and they go
//! behind it, or after them, and it replaces them.
//!
//! ## When
//! The first time after the segment's first commit, so that a start without records writes nothing. From then on the file
//! is made longer by two sled segments each time that sled has begun the last one of it, which its header tells. So up to
//! one and a half mebibytes are ahead, whatever the size of a segment of the log. The writer never waits for it; where the
//! filling is slower, sled makes the file longer by itself. Nothing is filled
//!
//! * for commits of more than [`LARGE_COMMIT_BYTES`]: their own bytes are what the disk is busy with, and each would be
//!   written twice;
//! * where the disk has less than [`FREE_BYTES_MIN`] left, or does not take the zeros: it is given up for this segment.
//!
//! ## Errors
//! A failed write of zeros means that they are not there. A failed *sync* is as fatal as the writer's own ([`Ahead::synced`]):
//! it is a sync of the file that holds what is acknowledged, and it may have been told of a page of sled's. Linux tells
//! every descriptor, so that the writer's next sync fails as well; elsewhere one descriptor's sync may take the error away
//! from the other's, and so the zeros are left to the writer's next sync there.
//!
//! ## Where they end
//! Zeros are cut off as the store is closed, and, after a crash, before it is opened: sled would take every segment of
//! zeros for a free one, and write to it. The file is cut at the first boundary of sled's segments behind its last byte
//! that is not zero, so no byte can be lost that is not zero; sled stops reading a segment at zeros just as it does at the
//! end of the file (`MessageKind::Corrupted` is 0), and begins no segment without a header, which is not zero.
//!
//! A store with a snapshot is not cut: sled writes one whenever it opens a store that is not empty, so the zeros are gone,
//! and the snapshot may name a segment that a damage has since made zero.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};

use rustix::fs::FlockOperation;

use super::WalError;

/// The length of sled's own segments, its default: headers and messages never cross a multiple of it.
pub const SLED_SEGMENT_BYTES: u64 = 512 * 1024;
/// A sled segment begins with a header, which holds a checksum and two complements of positive numbers.
const SLED_HEADER_BYTES: usize = 20;
/// How many bytes of values are appended between two looks at the file. Less than a sled segment by far.
const LOOK_EVERY_BYTES: u64 = 64 * 1024;
/// Commits of more bytes are not filled ahead for.
const LARGE_COMMIT_BYTES: u64 = 64 * 1024;
/// On a disk that has less, nothing is filled ahead.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// Zeros of one write. The file is locked that long, and sled's writes wait.
const ZEROS: &[u8; 64 * 1024] = &[0; 64 * 1024];

/// The filling of one store's file.
pub struct Ahead {
    shared: Arc<Shared>,
    /// None once it has been joined.
    thread: Option<JoinHandle<()>>,
    /// Bytes of values since the last sync. The writer alone counts.
    unsynced: AtomicU64,
    /// Bytes of values since the last look.
    unlooked: AtomicU64,
}

struct Shared {
    /// Appends.
    file: File,
    stop: AtomicBool,
    failed: OnceLock<io::Error>,
}

impl Ahead {
    /// Is ready to fill the file of a store that has just been created. None where the system refuses a descriptor or a
    /// thread: it works without.
    #[must_use]
    pub fn start(store: &Path) -> Option<Self> {
        let file = OpenOptions::new().read(true).append(true).open(store.join("db")).ok()?;
        let shared = Arc::new(Shared { file, stop: AtomicBool::new(false), failed: OnceLock::new() });
        let thread = Builder::new().name("tallyd-ahead".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.work()
        });
        // The first commit is one to look after.
        let unlooked = AtomicU64::new(LOOK_EVERY_BYTES);
        Some(Self { shared, thread: Some(thread.ok()?), unsynced: AtomicU64::new(0), unlooked })
    }

    /// So many bytes of a value were handed to sled.
    pub fn appended(&self, bytes: usize) {
        self.unsynced.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The writer's sync has returned.
    ///
    /// # Errors
    /// The filling's own sync has failed: nothing may be acknowledged any more.
    pub fn synced(&self) -> io::Result<()> {
        if let Some(error) = self.shared.failed.get() {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let bytes = self.unsynced.swap(0, Ordering::Relaxed);
        if bytes == 0 || bytes > LARGE_COMMIT_BYTES {
            return Ok(());
        }
        let unlooked = self.unlooked.load(Ordering::Relaxed) + bytes;
        if unlooked < LOOK_EVERY_BYTES {
            self.unlooked.store(unlooked, Ordering::Relaxed);
        } else if let Some(thread) = &self.thread {
            self.unlooked.store(0, Ordering::Relaxed);
            thread.thread().unpark();
        }
        Ok(())
    }

    /// Cuts the zeros off, once nobody appends to the store any more and all of it is flushed.
    pub fn finish(mut self) {
        self.stop();
        if let Err(error) = cut(&self.shared.file) {
            tracing::debug!(%error, "zeros stay behind a store's end until it is opened");
        }
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of its own has been reported; without the thread nothing is filled, and nothing is wrong.
            let _ = thread.join();
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn work(&self) {
        loop {
            std::thread::park();
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            match self.fill() {
                Ok(false) => {}
                Ok(true) => {
                    // Not on other systems: see above.
                    if cfg!(target_os = "linux")
                        && let Err(error) = self.file.sync_data()
                    {
                        drop(self.failed.set(error));
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a segment's file is not filled ahead");
                    return;
                }
            }
        }
    }

    /// True if zeros were written.
    fn fill(&self) -> io::Result<bool> {
        let bytes = self.file.metadata()?.len();
        let whole = bytes / SLED_SEGMENT_BYTES;
        if whole > 0 && !is_begun(&self.file, (whole - 1) * SLED_SEGMENT_BYTES)? {
            return Ok(false);
        }
        let disk = rustix::fs::fstatvfs(&self.file)?;
        if disk.f_bavail * disk.f_frsize < FREE_BYTES_MIN {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut missing = (whole + 2) * SLED_SEGMENT_BYTES - bytes;
        while missing > 0 && !self.stop.load(Ordering::Relaxed) {
            let some = missing.min(ZEROS.len() as u64);
            (&self.file).write_all(&ZEROS[..some as usize])?;
            missing -= some;
        }
        Ok(true)
    }
}

/// True if sled has written the header of its segment at this offset.
fn is_begun(file: &File, at: u64) -> io::Result<bool> {
    let mut header = [0; SLED_HEADER_BYTES];
    file.read_exact_at(&mut header, at)?;
    Ok(header != [0; SLED_HEADER_BYTES])
}

/// Cuts the zeros off a store that a crash has left open, unless somebody has it open: then it is theirs to do.
///
/// # Errors
/// [`WalError::Io`].
pub fn cut_closed(store: &Path) -> Result<(), WalError> {
    let path = store.join("db");
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| WalError::io("open", &path, error))?,
    };
    // sled's own lock, which goes with the descriptor.
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || has_snapshot(store)? {
        return Ok(());
    }
    cut(&file).map_err(|error| WalError::io("cut", &path, error))
}

fn has_snapshot(store: &Path) -> Result<bool, WalError> {
    let entries = fs::read_dir(store).map_err(|error| WalError::io("read", store, error))?;
    let is_one = |name: &str| name.starts_with("snap.") && !name.ends_with(".generating");
    Ok(entries.flatten().any(|entry| is_one(&entry.file_name().to_string_lossy())))
}

/// Makes the file end with the sled segment of its last byte that is not zero, if it is longer.
fn cut(file: &File) -> io::Result<()> {
    let bytes = file.metadata()?.len();
    let kept = used_bytes(file, bytes)?.next_multiple_of(SLED_SEGMENT_BYTES);
    if kept < bytes { file.set_len(kept) } else { Ok(()) }
}

/// How many bytes there are up to the last one that is not zero.
fn used_bytes(file: &File, bytes: u64) -> io::Result<u64> {
    let mut block = vec![0; ZEROS.len()];
    let mut end = bytes;
    while end > 0 {
        let from = (end - 1) / block.len() as u64 * block.len() as u64;
        let block = &mut block[..(end - from) as usize];
        file.read_exact_at(block, from)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

    use super::super::segment::Store;
    use super::*;

    /// A leaf has at most 16 values.
    const PAGE_BYTES_MAX: u64 = 128 * 1024;

    fn random(rng: &mut StdRng, bytes: usize) -> Vec<u8> {
        let mut random = vec![0; bytes];
        rng.fill_bytes(&mut random);
        // So that the end of what is written can be told from the zeros behind it.
        random.push(1);
        random
    }

    fn length(path: &Path) -> u64 {
        fs::metadata(path).unwrap().len()
    }

    fn used(path: &Path) -> u64 {
        used_bytes(&File::open(path).unwrap(), length(path)).unwrap()
    }

    fn until_ahead(db: &Path) {
        let start = Instant::now();
        while length(db) < used(db) + SLED_SEGMENT_BYTES / 2 {
            assert!(start.elapsed() < Duration::from_secs(20), "nothing is ahead: {} of {}", used(db), length(db));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Everything in a store, which is opened for it.
    fn content(path: &Path) -> BTreeMap<u64, Vec<u8>> {
        let store = Store::reopen(path).unwrap();
        let last = store.last_key().unwrap().unwrap_or(0);
        (1..=last).filter_map(|key| store.get(key).unwrap().map(|value| (key, value.to_vec()))).collect()
    }

    /// What sled found as it opened a store: it writes that down before it goes on.
    fn snapshot(path: &Path) -> (String, Vec<u8>) {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let name = names.filter(|name| name.starts_with("snap.")).max().unwrap();
        let bytes = fs::read(path.join(&name)).unwrap();
        (name, bytes)
    }

    fn copied(from: &Path, to: PathBuf) -> PathBuf {
        fs::create_dir(&to).unwrap();
        for name in ["conf", "db"] {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
        to
    }

    #[test]
    fn zeros_go_behind_whatever_is_written_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("db");
        let writer = OpenOptions::new().read(true).write(true).create_new(true).open(&db).unwrap();
        let file = OpenOptions::new().read(true).append(true).open(&db).unwrap();
        let shared = Shared { file, stop: AtomicBool::new(false), failed: OnceLock::new() };
        let mut rng = StdRng::seed_from_u64(1);
        let mut written = Vec::new();
        std::thread::scope(|scope| {
            let filling = scope.spawn(|| {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.fill().unwrap();
                }
            });
            while written.len() < 60 << 20 {
                // As sled does: at its own offset, and longer than what is ahead now and then.
                let bytes = if rng.random_ratio(1, 20) { 2 << 20 } else { rng.random_range(1..200_000) };
                let bytes = random(&mut rng, bytes);
                writer.write_all_at(&bytes, written.len() as u64).unwrap();
                written.extend(bytes);
            }
            shared.stop.store(true, Ordering::Relaxed);
            filling.join().unwrap();
        });
        let found = fs::read(&db).unwrap();
        assert!(found[..written.len()] == written, "zeros over what was written");
        assert!(found[written.len()..].iter().all(|byte| *byte == 0));
        cut(&writer).unwrap();
        assert_eq!(length(&db), (written.len() as u64).next_multiple_of(SLED_SEGMENT_BYTES).min(found.len() as u64));
    }

    #[test]
    fn nothing_is_ahead_before_the_first_commit_and_nothing_once_the_store_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut rng) = (folder.path().join("store"), StdRng::seed_from_u64(2));
        let db = path.join("db");
        let store = Store::create(&path).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(length(&db), used(&db));
        let mut values = BTreeMap::new();
        for key in 1..=2_000 {
            values.insert(key, random(&mut rng, 1_500));
            store.insert(key, &values[&key]).unwrap();
            store.sync().unwrap();
            if key % 500 == 1 {
                until_ahead(&db);
            }
        }
        drop(store);
        assert!(length(&db) > 4 * SLED_SEGMENT_BYTES && length(&db) - used(&db) < SLED_SEGMENT_BYTES);
        assert!(content(&path) == values);
    }

    #[test]
    fn large_commits_are_not_filled_ahead_for() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut rng) = (folder.path().join("store"), StdRng::seed_from_u64(3));
        let store = Store::create(&path).unwrap();
        for key in 0..400 {
            store.insert(key, &random(&mut rng, 6_000)).unwrap();
            if key % 20 == 19 {
                store.sync().unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(20));
        // sled itself pads a segment with zeros where the next page does not fit.
        assert!(length(&path.join("db")) - used(&path.join("db")) < SLED_SEGMENT_BYTES);
    }

    #[test]
    fn a_killed_store_has_all_that_was_committed_and_opens_as_if_it_had_never_been_filled() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut rng) = (folder.path().join("store"), StdRng::seed_from_u64(4));
        let store = Store::create(&path).unwrap();
        let (mut committed, mut filled, mut key) = (BTreeMap::new(), 0, 0);
        for commit in 0..600 {
            for _ in 0..rng.random_range(1..10) {
                key += 1;
                let bytes = rng.random_range(0..7_000);
                committed.insert(key, random(&mut rng, bytes));
                store.insert(key, &committed[&key]).unwrap();
            }
            store.sync().unwrap();
            if commit % 100 == 50 {
                until_ahead(&path.join("db"));
            }
            if rng.random_ratio(1, 12) || commit % 100 == 50 {
                let killed = copied(&path, folder.path().join(format!("{commit}-killed")));
                let never = copied(&killed, folder.path().join(format!("{commit}-never")));
                let db = never.join("db");
                filled += u32::from(length(&db) - used(&db) > SLED_SEGMENT_BYTES);
                // Where a page does not fit any more, sled itself has padded the segment with zeros.
                let end = used(&db).next_multiple_of(SLED_SEGMENT_BYTES);
                let end = if end - used(&db) < PAGE_BYTES_MAX { end.min(length(&db)) } else { used(&db) };
                File::options().write(true).open(&db).unwrap().set_len(end).unwrap();
                assert!(content(&killed) == committed, "commit {commit}");
                assert!(content(&never) == committed, "commit {commit}");
                // Every page's place and the log's end. The files themselves may differ even between equal copies: sled's
                // threads move pages as they open a store, and so does a read.
                assert!(snapshot(&killed) == snapshot(&never), "commit {commit}");
            }
        }
        assert!(filled > 10, "{filled} stores with zeros");
    }

    #[test]
    fn only_zeros_are_cut_and_only_where_nobody_has_the_store_and_no_snapshot_knows_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let (path, db) = (folder.path(), folder.path().join("db"));
        cut_closed(path).unwrap();
        let mut rng = StdRng::seed_from_u64(5);
        for _ in 0..60 {
            let bytes = rng.random_range(1..3 * SLED_SEGMENT_BYTES as usize);
            let mut content = random(&mut rng, bytes);
            let tail = rng.random_range(0..3 * SLED_SEGMENT_BYTES as usize);
            content.resize(content.len() + tail, 0);
            fs::write(&db, &content).unwrap();
            cut_closed(path).unwrap();
            let kept = fs::read(&db).unwrap();
            assert!(content.starts_with(&kept) && content[kept.len()..].iter().all(|byte| *byte == 0));
            assert!(kept.len() - (bytes + 1) < SLED_SEGMENT_BYTES as usize);
        }
        let content = [vec![7; 10], vec![0; 2 << 20]].concat();
        fs::write(&db, &content).unwrap();
        let held = File::open(&db).unwrap();
        rustix::fs::flock(&held, FlockOperation::LockExclusive).unwrap();
        cut_closed(path).unwrap();
        assert_eq!(length(&db), content.len() as u64, "somebody has it");
        drop(held);
        fs::write(path.join("snap.0000000000000001"), b"").unwrap();
        cut_closed(path).unwrap();
        assert_eq!(length(&db), content.len() as u64, "sled has opened it before");
        fs::remove_file(path.join("snap.0000000000000001")).unwrap();
        cut_closed(path).unwrap();
        assert_eq!(length(&db), SLED_SEGMENT_BYTES);
    }

    #[test]
    fn a_failed_sync_of_the_zeros_is_the_writers() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("db"), b"x").unwrap();
        let ahead = Ahead::start(folder.path()).unwrap();
        ahead.synced().unwrap();
        ahead.shared.failed.set(io::Error::other("injected")).unwrap();
        assert_eq!(ahead.synced().unwrap_err().to_string(), "injected");
        assert!(ahead.synced().is_err(), "for good");
    }
}
