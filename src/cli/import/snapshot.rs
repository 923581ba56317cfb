//! The file, opened once, with its digest.
//!
//! A row's number has a meaning only within one content. So the content is digested before anything is sent, and the
//! file's size and time of change are compared before each frame and at the end. The file stays open in between, so a
//! replacement under its name does not matter.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

const BLOCK_BYTES: usize = 1 << 20;

pub(super) struct Snapshot {
    path: PathBuf,
    file: File,
    bytes: u64,
    modified: Option<SystemTime>,
    digest: [u8; 32],
}

/// The file has changed since it was digested.
#[derive(Debug, thiserror::Error)]
#[error("{path} changed while it was imported; import it again once nothing writes to it")]
pub(super) struct Changed {
    path: String,
}

impl Snapshot {
    /// Opens the file and digests all of it.
    ///
    /// # Errors
    /// If it cannot be read, is not a regular file, or changes meanwhile.
    pub(super) fn take(path: &Path) -> anyhow::Result<Self> {
        let reading = || format!("cannot read {}", path.display());
        let mut file = File::open(path).with_context(reading)?;
        let metadata = file.metadata().with_context(reading)?;
        if !metadata.is_file() {
            bail!("{} is not a regular file, and an import reads its file twice: save it first", path.display());
        }
        let digest = digest(&mut file).with_context(reading)?;
        let (bytes, modified) = stamp(&metadata);
        let snapshot = Self { path: path.to_owned(), file, bytes, modified, digest };
        snapshot.check()?;
        Ok(snapshot)
    }

    /// The path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of the content.
    pub(super) const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The file from its beginning. One reader at a time: they share one position.
    pub(super) fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Checks that the file has not changed.
    ///
    /// # Errors
    /// [`Changed`].
    pub(super) fn check(&self) -> Result<(), Changed> {
        let same = self.file.metadata().is_ok_and(|now| stamp(&now) == (self.bytes, self.modified));
        if same { Ok(()) } else { Err(Changed { path: self.path.display().to_string() }) }
    }
}

fn stamp(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}

fn digest(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => hash.update(&block[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_change_is_seen_and_a_replacement_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.csv");
        std::fs::write(&path, "a\n1\n").unwrap();
        let snapshot = Snapshot::take(&path).unwrap();
        std::fs::rename(&path, folder.path().join("old.csv")).unwrap();
        std::fs::write(&path, "something else").unwrap();
        assert!(snapshot.check().is_ok());
        let mut text = String::new();
        snapshot.reader().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\n1\n");

        let mut old = File::options().append(true).open(folder.path().join("old.csv")).unwrap();
        old.write_all(b"2\n").unwrap();
        assert!(snapshot.check().unwrap_err().to_string().contains("calls.csv changed while it was imported"));
    }

    #[test]
    fn a_folder_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = Snapshot::take(folder.path()).err().unwrap().to_string();
        assert!(error.contains("is not a regular file"), "{error}");
    }
}
