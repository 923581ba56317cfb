//! Checks of the data folder: its rights, its space, its file system, the time of a sync; and of the clock.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};
use tallyd_base::clock::{Clock, SystemClock};

use super::check::Check;
use crate::cli::output::bytes;
use tallyd_config::{Config, Sync};

/// The number of timed syncs. Each is of one page, like a commit of a few records.
const SYNCS: usize = 20;
/// A median above this makes each acknowledgement slow.
const SLOW_SYNC: Duration = Duration::from_millis(25);
/// A sync that is faster than this did not reach a disk.
const NO_DISK: Duration = Duration::from_micros(5);
/// A file system: the kernel's number, its name, and a hint if it is unsuitable.
type FileSystem = (u64, &'static str, Option<&'static str>);

const NETWORK: Option<&str> = Some("locks and syncs of a network file system differ from a disk's: use a local disk");
const FILE_SYSTEMS: [FileSystem; 9] = [
    (0xef53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683e, "btrfs", None),
    (0x2fc1_2fc1, "zfs", None),
    (0x6969, "NFS", NETWORK),
    (0xff53_4d42, "CIFS", NETWORK),
    (0xfe53_4d42, "SMB2", NETWORK),
    (0x0102_1994, "tmpfs", Some("it is memory, and empty after a restart of the machine: use a folder on a disk")),
    (
        0x794c_7630,
        "overlayfs",
        Some("it is the container's own layer, and goes with the container: mount a volume there"),
    ),
];

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let Some(place) = existing(&config.data_dir) else {
        let found = format!("no folder above {} is there", config.data_dir.display());
        return vec![Check::failed("data folder", found, "name another one: data_dir, --data-dir or TALLYD_DATA_DIR")];
    };
    let folder = folder(&config.data_dir, &place);
    let writable = folder.hint.is_none();
    let mut checks = vec![folder, file_system(&place), space(config, &place)];
    checks.push(if writable {
        sync(config, &place)
    } else {
        Check::skipped("disk sync", "the data folder cannot be written to")
    });
    checks.push(clock());
    checks
}

/// The folder, or its nearest parent that exists.
fn existing(folder: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(folder).ok()?;
    folder.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

fn folder(data_dir: &Path, place: &Path) -> Check {
    let name = "data folder";
    let shown = data_dir.display();
    let we = rustix::process::geteuid().as_raw();
    if access(place, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let owner = fs::metadata(place).map_or(0, |meta| meta.uid());
        return Check::failed(
            name,
            format!("user {we} may not write to {}, which belongs to user {owner}", place.display()),
            "run this as the daemon's user, or give the daemon's user the folder: chown",
        );
    }
    if !data_dir.is_dir() {
        return Check::ok(name, format!("{shown} is not there yet; the first start makes it"));
    }
    let Some(meta) = fs::metadata(data_dir).ok().filter(|meta| meta.mode() & 0o007 == 0) else {
        return Check::warning(
            name,
            format!("every user of this machine may look into {shown}, and records name users"),
            format!("chmod o-rwx {shown}"),
        );
    };
    Check::ok(name, format!("{shown}, of user {}, mode {:04o}", meta.uid(), meta.mode() & 0o7777))
}

fn file_system(place: &Path) -> Check {
    let name = "file system";
    let Ok(found) = rustix::fs::statfs(place) else {
        return Check::skipped(name, format!("{} cannot be asked", place.display()));
    };
    // The field's type differs by machine; the numbers have 32 bits.
    let kind = u64::from(found.f_type as u32);
    match FILE_SYSTEMS.iter().find(|(number, ..)| *number == kind) {
        Some((_, known, Some(hint))) => Check::warning(name, format!("the data folder is on {known}"), *hint),
        Some((_, known, None)) => Check::ok(name, *known),
        None => Check::ok(name, format!("another one, {kind:#x}")),
    }
}

fn space(config: &Config, place: &Path) -> Check {
    let name = "disk space";
    let Ok(disk) = rustix::fs::statvfs(place) else {
        return Check::skipped(name, format!("{} cannot be asked", place.display()));
    };
    let free = disk.f_bavail * disk.f_frsize;
    let (least, most) = (config.wal.min_free_bytes, config.wal.max_bytes);
    let found = format!("{} are free", bytes(free));
    if free < least {
        let found = format!("{found}, and wal.min_free_bytes keeps {} free: no record would be taken", bytes(least));
        return Check::failed(name, found, "free some, or move data_dir to a larger disk");
    }
    if free < least.saturating_add(most) {
        return Check::warning(
            name,
            format!("{found}; the WAL may grow to {} while the database is down", bytes(most)),
            "the daemon stops taking records before the disk is full; more room, or a smaller wal.max_bytes, makes that predictable",
        );
    }
    Check::ok(name, format!("{found}; the WAL takes {} at most", bytes(most)))
}

/// Writes and syncs a page repeatedly, as the WAL does for each group of records.
fn sync(config: &Config, place: &Path) -> Check {
    let name = "disk sync";
    let mut times = match timed_syncs(place) {
        Ok(times) => times,
        Err(error) => {
            return Check::failed(
                name,
                format!("a file in {} cannot be synced: {error}", place.display()),
                "dmesg, and the disk",
            );
        }
    };
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let found = format!("{:.2} ms median, {:.2} ms at the worst, of {SYNCS}", ms(median), ms(worst));
    if median < NO_DISK {
        return Check::warning(
            name,
            found,
            "a disk does not sync so fast: acknowledged records may be lost in a power cut",
        );
    }
    if median > SLOW_SYNC && config.wal.sync == Sync::Always {
        return Check::warning(
            name,
            found,
            "each acknowledgement waits for one sync: use a faster disk, or wal.sync = \"interval\" if a second may be lost in a power cut",
        );
    }
    Check::ok(name, found)
}

fn timed_syncs(place: &Path) -> std::io::Result<Vec<Duration>> {
    let path = place.join(format!(".tallyd-doctor-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).open(&path)?;
    let times = (0..SYNCS).map(|_| {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        Ok(begun.elapsed())
    });
    let times = times.collect();
    fs::remove_file(&path)?;
    times
}

/// Finds a clock that was never set. Smaller errors show in the comparison with the database's clock.
fn clock() -> Check {
    // 1 January 2026.
    const SOME_TIME_AGO_US: i64 = 1_767_225_600_000_000;
    let now_us = SystemClock.now_us();
    let now = chrono::DateTime::from_timestamp_micros(now_us).unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ");
    if now_us < SOME_TIME_AGO_US {
        return Check::failed(
            "clock",
            format!("this machine says that it is {now}"),
            "set it, and keep it: systemd-timesyncd or chrony",
        );
    }
    Check::ok("clock", format!("{now}"))
}
