//! Where files are: in a folder, or in a bucket ([`bucket`](super::bucket)). All of it blocks, and is for threads that may.
//!
//! A file gets its name in one step, after its bytes are stored: renamed in a folder, completed in a bucket. So a name belongs to a
//! whole file, however the process ends.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::ArchiveError;

/// The place of all files.
pub(super) trait Place: Send + Sync + Debug {
    /// Begins a file.
    fn begin(&self, name: &str) -> Result<Box<dyn Upload>, ArchiveError>;

    /// Its size.
    fn bytes(&self, name: &str) -> Result<u64, ArchiveError>;

    /// The bytes of a range, or fewer at the end.
    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, ArchiveError>;

    /// Removes a file. It is not an error if there is none.
    fn remove(&self, name: &str) -> Result<(), ArchiveError>;

    /// The file's address, for messages.
    fn shown(&self, name: &str) -> String;
}

/// A file that is written, and does not have its name yet.
pub(super) trait Upload: Write + Send {
    /// Stores the bytes, so that they outlive this machine's power.
    fn settle(&mut self) -> Result<(), ArchiveError>;

    /// Gives the file its name, which it keeps after a power cut.
    fn publish(self: Box<Self>) -> Result<(), ArchiveError>;

    /// Removes the bytes, as far as that is possible.
    fn abandon(self: Box<Self>);
}

/// Bytes in front of the file.
const BUFFER: usize = 1 << 20;

/// A folder.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

struct Part {
    out: BufWriter<File>,
    part: PathBuf,
    path: PathBuf,
    folder: PathBuf,
}

fn failed(path: &Path) -> impl Fn(io::Error) -> ArchiveError {
    let path = path.to_owned();
    move |source| ArchiveError::Io { path: path.clone(), source }
}

impl Place for Folder {
    fn begin(&self, name: &str) -> Result<Box<dyn Upload>, ArchiveError> {
        let (folder, path) = (self.0.clone(), self.0.join(name));
        std::fs::create_dir_all(&folder).map_err(failed(&folder))?;
        // One of each partition, so that the next run writes over the one of a killed run.
        let stem = name.rsplit_once('-').map_or(name, |(stem, _)| stem);
        // Engines that read a whole folder pass over names that begin with a dot.
        let part = self.0.join(format!(".{}.parquet.part", stem.trim_start_matches('.')));
        let file = File::create(&part).map_err(failed(&part))?;
        Ok(Box::new(Part { out: BufWriter::with_capacity(BUFFER, file), part, path, folder }))
    }

    fn bytes(&self, name: &str) -> Result<u64, ArchiveError> {
        let path = self.0.join(name);
        Ok(std::fs::metadata(&path).map_err(failed(&path))?.len())
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let path = self.0.join(name);
        let read = || {
            let file = File::open(&path)?;
            let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
            let mut done = 0;
            while done < bytes.len() {
                match file.read_at(&mut bytes[done..], range.start + done as u64) {
                    Ok(0) => bytes.truncate(done),
                    Ok(read) => done += read,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(bytes.into())
        };
        read().map_err(failed(&path))
    }

    fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        let path = self.0.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }

    fn shown(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Upload for Part {
    fn settle(&mut self) -> Result<(), ArchiveError> {
        self.out.flush().and_then(|()| self.out.get_ref().sync_all()).map_err(failed(&self.part))
    }

    fn publish(self: Box<Self>) -> Result<(), ArchiveError> {
        std::fs::rename(&self.part, &self.path).map_err(failed(&self.part))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed(&self.folder))
    }

    fn abandon(self: Box<Self>) {
        // A part that stays is written over by the next run.
        let _ = std::fs::remove_file(&self.part);
    }
}
