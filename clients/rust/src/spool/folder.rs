//! The folder of spools: one file for each recorder, locked while its process lives.
//!
//! The lock is `flock`, which the kernel releases when the process ends, however it ends. A file is locked first and
//! written afterwards. So a process that finds a file without a lock owns it, provided that the file still has its name:
//! between the opening and the lock, the former owner may have delivered and removed it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::format::{HEAD_BYTES, Head};
use crate::name;

/// The ending of spool files' names.
const ENDING: &str = "spool";
/// Why a folder is not used.
const NOT_OURS: &str = "the folder belongs to another user, or everybody may write to it. hint: name a folder within it, \
    which the recorder makes";

/// Why a file was not made.
#[derive(Debug)]
pub struct NotMade {
    pub error: io::Error,
    /// Whether the folder is this user's alone, so that files of earlier processes can be delivered from it. A full disk may
    /// be full of them.
    pub is_ours: bool,
}

impl From<io::Error> for NotMade {
    fn from(error: io::Error) -> Self {
        Self { error, is_ours: false }
    }
}

/// Makes a file of this recorder's own, readable by its user alone because it has the producer's secret. Its whole length is
/// allocated, so that a full disk is an error here, and not a signal in `record()`.
///
/// # Errors
/// Those of the file system, and `PermissionDenied` if others could put files of theirs into the folder: this process
/// would deliver them as its own.
pub fn create(folder: &Path, head: &Head) -> Result<(File, PathBuf), NotMade> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    loop {
        let path = folder.join(format!("{}.{ENDING}", name::new_secret()));
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let (kept, own) = (fs::metadata(folder)?, file.metadata()?);
        if kept.uid() != own.uid() || kept.mode() & 0o002 != 0 {
            let _ = fs::remove_file(&path);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, NOT_OURS).into());
        }
        if !lock(&file)? {
            // Another process looked for left-over files just now, and removes this one, because it is empty.
            continue;
        }
        let written = file.write_all(&head.to_bytes()).and_then(|()| allocate(&mut file, head.area));
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(NotMade { error, is_ours: true });
        }
        return Ok((file, path));
    }
}

/// Appends zeros, because the file system may not have a call that allocates.
fn allocate(file: &mut File, bytes: usize) -> io::Result<()> {
    const PIECE: usize = 1 << 20;
    let zeros = vec![0; PIECE.min(bytes)];
    file.seek(io::SeekFrom::Start(HEAD_BYTES as u64))?;
    (0..bytes).step_by(PIECE).try_for_each(|at| file.write_all(&zeros[..PIECE.min(bytes - at)]))
}

/// Locks the file, if it still has its name. Returns whether it has.
fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A file whose process has ended, locked by this process.
pub struct Orphan {
    /// Keeps the lock.
    _file: File,
    path: PathBuf,
    map: Mmap,
}

impl Orphan {
    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Deletes the file: everything in it is delivered.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// The paths of all spool files, those of living processes included.
///
/// # Errors
/// Those of the file system.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == ENDING) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// Takes the file over, if its process has ended. None if it lives, and if the file is gone or was empty.
///
/// # Errors
/// Those of the file system.
pub fn adopt(path: PathBuf) -> io::Result<Option<Orphan>> {
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !lock(&file)? {
        return Ok(None);
    }
    if file.metadata()?.len() == 0 {
        // Its process ended before it had written anything.
        fs::remove_file(&path)?;
        return Ok(None);
    }
    // SAFETY: this process has the lock, so no client writes into the file while it is mapped.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Some(Orphan { _file: file, path, map }))
}
