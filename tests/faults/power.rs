//! A disk whose power can be cut, and a small disk.
//!
//! A power cut leaves only the bytes that the file system had given to its device. Here the device is a file behind a
//! loop mount, whose page cache is separate from the mounted file system's. While the daemon is suspended, the file is
//! copied; the copy is the disk after the cut. The file system replays its journal when the copy is mounted. The
//! mount's commit interval is long, so that unsynced data do not reach the device by luck.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Run;

/// Bytes of the file system: small, so that copying is fast.
const IMAGE_BYTES: u64 = 96 << 20;

/// An ext4 file system in a file.
pub struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    /// A mounted, empty file system. `None` without the privilege to mount, and then the report says so.
    pub fn mounted(run: &mut Run) -> Option<Self> {
        // In memory if possible, because the copy is taken while the daemon is suspended.
        let place = ["/dev/shm", "/tmp"].into_iter().map(Path::new).find(|place| place.is_dir())?;
        let folder = tempfile::Builder::new().prefix("tallyd-power-").tempdir_in(place).unwrap();
        let image = Self { folder };
        fs::create_dir(image.mount_point()).unwrap();
        let file = fs::File::create(image.disk()).unwrap();
        file.set_len(IMAGE_BYTES).unwrap();
        if !is_root() || !quietly("mkfs.ext4", &["-q", "-F"], &[&image.disk()]) || !image.mount() {
            run.not_run("a loop mount needs root, mkfs.ext4 and a loop device");
            return None;
        }
        Some(image)
    }

    /// A folder for the daemon's data.
    pub fn data(&self) -> PathBuf {
        self.mount_point().join("data")
    }

    /// Copies the disk as it is now. All processes that write to it must be suspended.
    pub fn cut(&self) {
        fs::copy(self.disk(), self.cut_disk()).unwrap();
    }

    /// Replaces the disk by the copy of the last [`Image::cut`] and mounts it. No process may have a file open on it.
    pub fn power_up(&self) {
        self.unmount();
        fs::rename(self.cut_disk(), self.disk()).unwrap();
        assert!(self.mount(), "the disk does not mount after the power cut");
    }

    fn mount(&self) -> bool {
        quietly("mount", &["-o", "loop,commit=3600"], &[&self.disk(), &self.mount_point()])
    }

    fn unmount(&self) {
        crate::support::until("nobody uses the disk", || {
            if quietly("umount", &[], &[&self.mount_point()]) { Ok(()) } else { Err("it is busy".into()) }
        });
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn cut_disk(&self) -> PathBuf {
        self.folder.path().join("cut")
    }

    fn mount_point(&self) -> PathBuf {
        self.folder.path().join("mount")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Lazily, because a daemon of a failed test may still use it.
        quietly("umount", &["-l"], &[&self.mount_point()]);
    }
}

/// A file system in memory, of a set size.
pub struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    /// A mounted, empty file system of `bytes`. `None` without the privilege to mount, and then the report says so.
    pub fn mounted(run: &mut Run, bytes: u64) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("tallyd-disk-").tempdir().unwrap();
        let option = format!("size={bytes}");
        if !is_root() || !quietly("mount", &["-t", "tmpfs", "-o", &option, "tmpfs"], &[folder.path()]) {
            run.not_run("mounting needs root");
            return None;
        }
        Some(Self { folder })
    }

    /// A folder for the daemon's data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Fills the disk until `but` bytes are free.
    pub fn fill(&self, but: u64) {
        let disk = rustix::fs::statvfs(self.folder.path()).unwrap();
        let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(but);
        // The bytes are written: a file that only has its length set takes no space. The daemon writes meanwhile.
        match fs::write(self.filling(), vec![1; usize::try_from(bytes).unwrap()]) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            other => other.unwrap(),
        }
    }

    /// Deletes the file of [`Tmpfs::fill`].
    pub fn free(&self) {
        fs::remove_file(self.filling()).unwrap();
    }

    fn filling(&self) -> PathBuf {
        self.folder.path().join("filling")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        quietly("umount", &["-l"], &[self.folder.path()]);
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// True if the command succeeded. Its output is shown only if a test fails.
fn quietly(program: &str, words: &[&str], paths: &[&Path]) -> bool {
    match Command::new(program).args(words).args(paths).output() {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stderr));
            output.status.success()
        }
        Err(error) => {
            println!("{program}: {error}");
            false
        }
    }
}
