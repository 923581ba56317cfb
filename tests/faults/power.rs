//! A disk of our own, whose power can be cut, and one that is small.
//!
//! A power cut leaves what the file system had given to its device. Here the device is a file behind a loop mount, with a
//! page cache apart from the mounted one: while the daemon is stopped in its tracks, the file is copied, and the copy is
//! the disk after the cut. The file system replays its journal as it mounts it. The mount's own commit interval is long,
//! so that what was not synced is not on the device by luck.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::Run;

/// Bytes of the file system. Its copy must not take long.
const IMAGE_BYTES: u64 = 96 << 20;

/// An ext4 file system in a file.
pub struct Image {
    folder: tempfile::TempDir,
}

impl Image {
    /// A mounted, empty one; none where that needs a privilege that we do not have, and then the run says so.
    pub fn mounted(run: &mut Run) -> Option<Self> {
        // In memory, where there is one: a copy is taken in the middle of everything.
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

    /// Where the daemon may keep its data.
    pub fn data(&self) -> PathBuf {
        self.mount_point().join("data")
    }

    /// Copies the disk as it is now. Everything that writes to it must stand still.
    pub fn cut(&self) {
        fs::copy(self.disk(), self.cut_disk()).unwrap();
    }

    /// Mounts what was on the disk at the last [`Image::cut`], in the place of what is there now. Nothing may have a file
    /// open on it.
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
        // Lazily: a daemon that a failed test leaves behind may still be there.
        quietly("umount", &["-l"], &[&self.mount_point()]);
    }
}

/// A file system in memory, of a set size.
pub struct Tmpfs {
    folder: tempfile::TempDir,
}

impl Tmpfs {
    /// A mounted, empty one of so many bytes; none without the privilege, and then the run says so.
    pub fn mounted(run: &mut Run, bytes: u64) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("tallyd-disk-").tempdir().unwrap();
        let option = format!("size={bytes}");
        if !is_root() || !quietly("mount", &["-t", "tmpfs", "-o", &option, "tmpfs"], &[folder.path()]) {
            run.not_run("mounting needs root");
            return None;
        }
        Some(Self { folder })
    }

    /// Where the daemon may keep its data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Takes all but so many bytes of what is free.
    pub fn fill(&self, but: u64) {
        let disk = rustix::fs::statvfs(self.folder.path()).unwrap();
        let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(but);
        // Unlike a file that is only made long, this one takes its bytes. The daemon takes some meanwhile.
        match fs::write(self.filling(), vec![1; usize::try_from(bytes).unwrap()]) {
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            other => other.unwrap(),
        }
    }

    /// Gives back what [`Tmpfs::fill`] has taken.
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

/// True if the command succeeded. What it says is shown only where a test fails.
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
