//! Imported rows: the folder `imports` in the daemon's data folder.
//!
//! ```text
//! 00000007.pending   rows that are about to be sent, on disk before the first of them is
//! 00000003.rows      rows that were recorded
//! lock               held by the import that is under way
//! ```
//!
//! A file has the magic, the import's secret and entries of 32 bytes: the row's number, its identity, the digest of its
//! usage ([`super::plan`]).
//!
//! An import that ends early leaves its pending file behind. The next import, of any file, asks the daemon for that
//! import's last row: rows up to it are recorded, the others are not. So a row is in the journal if and only if the
//! daemon has it, even if one of the two was killed in between. The journal lies beside the daemon's own state of
//! producers, so both have the same age.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::plan::RowIdentity;

const MAGIC: &[u8; 16] = b"tallyd imports 1";
const SECRET_BYTES: usize = 64;
const ENTRY_BYTES: usize = 32;

/// A row's number, its identity, and the digest of its usage.
type Entry = (u64, RowIdentity, u64);

/// The folder, locked.
pub(super) struct Journal {
    folder: PathBuf,
    _lock: File,
}

impl Journal {
    /// Opens the folder, and waits until no other import is under way. Calls `waits` before a wait.
    ///
    /// # Errors
    /// If the data folder does not exist, or cannot be written to.
    pub(super) fn open(data_dir: &Path, waits: impl FnOnce()) -> anyhow::Result<Self> {
        if !data_dir.is_dir() {
            bail!(
                "there is no data folder {}. hint: an import keeps there what it has imported; name the daemon's with --data-dir",
                data_dir.display()
            );
        }
        let folder = data_dir.join("imports");
        let context =
            || format!("{} cannot be written to: run the import as the user that runs the daemon", folder.display());
        fs::create_dir_all(&folder).with_context(context)?;
        let lock = options().create(true).truncate(false).open(folder.join("lock")).with_context(context)?;
        if lock.try_lock().is_err() {
            waits();
            lock.lock().with_context(context)?;
        }
        let journal = Self { folder, _lock: lock };
        for path in journal.files("new")? {
            fs::remove_file(path)?;
        }
        Ok(journal)
    }

    fn files(&self, extension: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Settles the pending files of earlier imports. `last_row` asks the daemon for the last row of an import, by its
    /// secret.
    ///
    /// # Errors
    /// If the daemon does not answer, or a file is damaged.
    pub(super) fn keep_recorded(&self, mut last_row: impl FnMut(&str) -> anyhow::Result<u64>) -> anyhow::Result<()> {
        for path in self.files("pending")? {
            let (secret, entries) = read(&path)?;
            let last = last_row(&secret)?;
            self.keep(&path, &secret, entries.filter(|entry| entry.as_ref().map_or(true, |(row, ..)| *row <= last)))?;
        }
        Ok(())
    }

    /// Calls `tell` with each recorded row.
    ///
    /// # Errors
    /// If a file is damaged.
    pub(super) fn each(&self, mut tell: impl FnMut(&RowIdentity, u64)) -> anyhow::Result<()> {
        for path in self.files("rows")? {
            for entry in read(&path)?.1 {
                let (_, identity, usage) = entry.with_context(|| format!("{} cannot be read", path.display()))?;
                tell(&identity, usage);
            }
        }
        Ok(())
    }

    /// Writes the rows that are about to be sent to a pending file. None if there are no rows.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn intend<'e>(
        &self,
        secret: &str,
        entries: impl Iterator<Item = (u64, &'e RowIdentity, u64)>,
    ) -> anyhow::Result<Option<Intent<'_>>> {
        let last = [self.files("pending")?, self.files("rows")?].concat();
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let next = last.iter().filter_map(number).max().unwrap_or(0) + 1;
        let path = self.folder.join(format!("{next:08}.pending"));
        let written = self.write(&path, secret, entries.map(|(row, identity, usage)| Ok((row, *identity, usage))))?;
        Ok((written > 0).then_some(Intent { journal: self, path }))
    }

    /// Turns a pending file into a file of recorded rows.
    fn keep(
        &self,
        pending: &Path,
        secret: &str,
        entries: impl Iterator<Item = io::Result<Entry>>,
    ) -> anyhow::Result<()> {
        self.write(&pending.with_extension("rows"), secret, entries)?;
        fs::remove_file(pending)?;
        Ok(())
    }

    /// Writes a whole file, which is on disk when this returns. Writes none without entries. Returns the number of
    /// entries.
    fn write(
        &self,
        path: &Path,
        secret: &str,
        entries: impl Iterator<Item = io::Result<Entry>>,
    ) -> anyhow::Result<u64> {
        let context = || format!("{} cannot be written", path.display());
        let new = path.with_extension("new");
        let mut out = BufWriter::new(options().create(true).truncate(true).open(&new).with_context(context)?);
        out.write_all(MAGIC)?;
        out.write_all(secret.as_bytes())?;
        let mut written = 0;
        for entry in entries {
            let (row, identity, usage) = entry?;
            out.write_all(&row.to_le_bytes())?;
            out.write_all(&identity)?;
            out.write_all(&usage.to_le_bytes())?;
            written += 1;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all().with_context(context)?;
        if written == 0 {
            fs::remove_file(&new)?;
            return Ok(0);
        }
        fs::rename(&new, path).with_context(context)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(written)
    }
}

/// A pending file: rows that are being sent.
pub(super) struct Intent<'j> {
    journal: &'j Journal,
    path: PathBuf,
}

impl Intent<'_> {
    /// Notes that all rows are settled. Rows that the daemon refused are not recorded.
    ///
    /// # Errors
    /// If the file cannot be written; the next import asks the daemon then.
    pub(super) fn done(self, refused: &[u64]) -> anyhow::Result<()> {
        let (secret, entries) = read(&self.path)?;
        let mut refused = refused.to_vec();
        refused.sort_unstable();
        let is_kept =
            |entry: &io::Result<Entry>| entry.as_ref().map_or(true, |(row, ..)| refused.binary_search(row).is_err());
        self.journal.keep(&self.path, &secret, entries.filter(is_kept))
    }
}

/// For the owner alone: the files have the secrets of imports.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// The secret of a file, and its entries.
fn read(path: &Path) -> anyhow::Result<(String, impl Iterator<Item = io::Result<Entry>> + use<>)> {
    let wrong = || format!("{} is not a journal of imports: it is damaged, or another program's", path.display());
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).with_context(wrong)?);
    let mut head = [0; MAGIC.len() + SECRET_BYTES];
    file.read_exact(&mut head).with_context(wrong)?;
    let secret = head.strip_prefix(MAGIC).and_then(|secret| std::str::from_utf8(secret).ok()).with_context(wrong)?;
    let secret = secret.to_owned();
    let mut bytes = [0; ENTRY_BYTES];
    let entries = std::iter::from_fn(move || match file.read(&mut bytes[..1]) {
        Ok(0) => None,
        Ok(_) => Some(file.read_exact(&mut bytes[1..]).map(|()| entry(&bytes))),
        Err(error) => Some(Err(error)),
    });
    Ok((secret, entries))
}

fn entry(bytes: &[u8; ENTRY_BYTES]) -> Entry {
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
    (number(0), std::array::from_fn(|byte| bytes[8 + byte]), number(24))
}
