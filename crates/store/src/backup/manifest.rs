//! A backup's manifest: its description, and the digest of each file.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::BackupError;
use crate::embedded::Embedded;
use crate::migrate;

/// The version of the manifest's format.
pub(super) const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
/// The copy of the private cluster.
pub(super) const CLUSTER: &str = "postgres";
/// Bytes that a digest reads at once.
const READ_BYTES: usize = 1 << 16;

/// The content of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// The files of a private cluster.
    Cluster,
    /// The rows of tallyd's tables.
    Dump,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its path, relative to the backup's folder.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// A partition of the call log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpedPartition {
    /// `schema.table`, quoted for SQL.
    pub name: String,
    /// Its bounds as SQL: `FOR VALUES FROM … TO …`.
    pub bounds: String,
}

/// The description of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this format.
    pub format: u32,
    /// The version of tallyd that made the backup.
    pub tallyd: String,
    /// Its content.
    pub kind: BackupKind,
    /// The last migration that the database had: `V23__spent_lately`.
    pub schema: String,
    /// The identity of the database.
    pub database_id: Uuid,
    /// The server's version.
    pub postgres: String,
    /// The time of the state that was backed up: the end of a copy, the beginning of a dump.
    pub taken_at: DateTime<Utc>,
    /// The folders of a copy. Some are empty, and PostgreSQL needs them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<PathBuf>,
    /// The tables of a dump without the call log's partitions, quoted for SQL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// The call log's partitions in a dump.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<DumpedPartition>,
    /// All files but the manifest.
    pub files: Vec<BackupFile>,
}

impl Manifest {
    /// Reads a backup's manifest.
    ///
    /// # Errors
    /// [`BackupError`], also for a schema that this version does not know.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST);
        if !path.exists() {
            return Err(BackupError::Incomplete { path: folder.to_owned() });
        }
        let text = fs::read(&path).map_err(BackupError::io("read", &path))?;
        let wrong = |reason: String| BackupError::Manifest { path: path.clone(), reason };
        let manifest: Self = tallyd_model::json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if manifest.format != FORMAT {
            let made_by = &manifest.tallyd;
            return Err(wrong(format!(
                "it has format {}, made by tallyd {made_by}. hint: use that version",
                manifest.format
            )));
        }
        let paths = manifest.files.iter().map(|file| &file.path).chain(&manifest.folders);
        if let Some(outside) = paths.into_iter().find(|path| !is_inside(path.as_path())) {
            return Err(wrong(format!("{} is not a path inside the backup", outside.display())));
        }
        migrate::script(&manifest.schema)?;
        Ok(manifest)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        let path = folder.join(MANIFEST);
        // Texts, numbers and lists serialize.
        let text = serde_json::to_vec_pretty(self).expect("a manifest serializes");
        let write = |path: &Path| -> io::Result<()> {
            let mut file = File::create(path)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            File::open(folder)?.sync_all()
        };
        write(&path).map_err(BackupError::io("write", &path))
    }

    /// Adds the folders and files below `folder`/`below` in order.
    pub(super) fn take_stock(&mut self, folder: &Path, below: &Path) -> Result<(), BackupError> {
        let here = folder.join(below);
        let entries = fs::read_dir(&here).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(BackupError::io("read", &here))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = below.join(entry.file_name());
            let kind = entry.file_type().map_err(BackupError::io("read", &here))?;
            if kind.is_dir() {
                self.folders.push(path.clone());
                self.take_stock(folder, &path)?;
            } else {
                let (bytes, sha256) = digest(&folder.join(&path))?;
                self.files.push(BackupFile { path, bytes, sha256 });
            }
        }
        Ok(())
    }

    /// The size of all files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Compares every file with its digest.
    ///
    /// # Errors
    /// [`BackupError::Damaged`] for the first file that differs.
    pub fn verify(&self, folder: &Path) -> Result<(), BackupError> {
        self.files.iter().try_for_each(|file| file.compare(&folder.join(&file.path)))
    }

    /// Puts the copied cluster into a data folder that does not have one, and compares each of its files with its digest.
    /// The server is not started.
    ///
    /// # Errors
    /// [`BackupError`]; the data folder is as it was.
    pub async fn place(&self, folder: &Path, data_dir: &Path) -> Result<(), BackupError> {
        Embedded::place(data_dir, |cluster| self.copy_to(folder, cluster)).await
    }

    fn copy_to(&self, folder: &Path, cluster: &Path) -> Result<(), BackupError> {
        for path in self.folders.iter().filter_map(|path| path.strip_prefix(CLUSTER).ok()) {
            let target = cluster.join(path);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&target);
            made.map_err(BackupError::io("create", &target))?;
        }
        for file in &self.files {
            let Ok(path) = file.path.strip_prefix(CLUSTER) else { continue };
            let target = cluster.join(path);
            let source = folder.join(&file.path);
            if !source.exists() {
                return Err(BackupError::Damaged { path: source, reason: "it is missing".to_owned() });
            }
            let copied = fs::copy(&source, &target).and_then(|_| File::open(&target)?.sync_all());
            copied.map_err(BackupError::io("copy", &source))?;
            file.compare(&target)?;
        }
        for path in self.folders.iter().filter_map(|path| path.strip_prefix(CLUSTER).ok()) {
            let target = cluster.join(path);
            File::open(&target).and_then(|dir| dir.sync_all()).map_err(BackupError::io("sync", &target))?;
        }
        Ok(())
    }
}

impl BackupFile {
    /// Compares a copy of the file with its digest.
    fn compare(&self, path: &Path) -> Result<(), BackupError> {
        let damaged = |reason: String| BackupError::Damaged { path: path.to_owned(), reason };
        if !path.is_file() {
            return Err(damaged("it is missing".to_owned()));
        }
        let (bytes, sha256) = digest(path)?;
        if bytes != self.bytes {
            return Err(damaged(format!("it has {bytes} bytes, not {}", self.bytes)));
        }
        if sha256 != self.sha256 {
            return Err(damaged("its SHA-256 differs".to_owned()));
        }
        Ok(())
    }
}

fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file's size and SHA-256.
fn digest(path: &Path) -> Result<(u64, String), BackupError> {
    let mut file = File::open(path).map_err(BackupError::io("open", path))?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; READ_BYTES]);
    loop {
        let read = file.read(&mut buffer).map_err(BackupError::io("read", path))?;
        if read == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(folder: &Path) -> Manifest {
        let mut manifest = Manifest {
            format: FORMAT,
            tallyd: "0.1.0".into(),
            kind: BackupKind::Cluster,
            schema: "V1__call_log".into(),
            database_id: Uuid::nil(),
            postgres: "15".into(),
            taken_at: DateTime::UNIX_EPOCH,
            folders: Vec::new(),
            tables: Vec::new(),
            partitions: Vec::new(),
            files: Vec::new(),
        };
        manifest.take_stock(folder, Path::new("")).unwrap();
        manifest
    }

    #[test]
    fn a_changed_a_short_and_a_missing_file_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("postgres/base/1");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::create_dir(folder.path().join("postgres/pg_notify")).unwrap();
        fs::write(&file, "rows").unwrap();
        let made = manifest(folder.path());
        made.write(folder.path()).unwrap();
        let read = Manifest::read(folder.path()).unwrap();
        assert_eq!(read, made);
        assert!(read.folders.contains(&PathBuf::from("postgres/pg_notify")), "{:?}", read.folders);
        read.verify(folder.path()).unwrap();
        for (content, says) in [(Some("rowz"), "SHA-256"), (Some("row"), "3 bytes, not 4"), (None, "missing")] {
            match content {
                Some(content) => fs::write(&file, content).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let said = read.verify(folder.path()).unwrap_err().to_string();
            assert!(said.contains(says) && said.contains("postgres/base/1"), "{said}");
        }
    }

    #[test]
    fn a_manifest_of_a_newer_schema_or_with_a_path_outside_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Manifest::read(folder.path()), Err(BackupError::Incomplete { .. })));
        let made = manifest(folder.path());
        let file = |path: &str| BackupFile { path: path.into(), bytes: 0, sha256: String::new() };
        for (changed, says) in [
            (Manifest { schema: "V99__of_tomorrow".into(), ..made.clone() }, "newer tallyd"),
            (Manifest { format: 2, ..made.clone() }, "format 2"),
            (Manifest { files: vec![file("../outside")], ..made.clone() }, "not a path inside"),
            (Manifest { files: vec![file("/etc/passwd")], ..made }, "not a path inside"),
        ] {
            changed.write(folder.path()).unwrap();
            let said = Manifest::read(folder.path()).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }
}
