//! The added prices and names of models as a file in the data folder.
//!
//! Records are accepted and priced before the database is reached, and while it is down. Without the file, a restart in
//! that time would price them by the built-in catalog alone. The file is only a copy: it is written completely and
//! renamed into place after each change.

use std::io::Write;
use std::path::{Path, PathBuf};

use tallyd_model::pricing::Added;

/// The file's name in the data folder.
const FILE: &str = "prices.json";

/// Reads the copy. Empty if it is missing; an unreadable one is treated as missing, and reported in the daemon log.
#[must_use]
pub fn read(data_dir: &Path) -> Added {
    let path = data_dir.join(FILE);
    let read = std::fs::read(&path).map_err(|error| (error.kind(), error.to_string()));
    let parsed = read.and_then(|bytes| {
        // Earlier versions wrote a list of prices.
        let prices = || serde_json::from_slice(&bytes).map(|prices| Added { prices, ..Added::default() });
        let added = serde_json::from_slice(&bytes).or_else(|error| prices().map_err(|_| error));
        added.map_err(|error| (std::io::ErrorKind::InvalidData, error.to_string()))
    });
    match parsed {
        Ok(added) => added,
        Err((std::io::ErrorKind::NotFound, _)) => Added::default(),
        Err((_, error)) => {
            tracing::warn!(file = %path.display(), error, "the copy of the added prices is not read; the database has them");
            Added::default()
        }
    }
}

/// Writes the copy.
///
/// # Errors
/// The file system's.
pub fn write(data_dir: &Path, added: &Added) -> std::io::Result<()> {
    let unready: PathBuf = data_dir.join(format!("{FILE}.new"));
    let mut file = std::fs::File::create(&unready)?;
    file.write_all(&serde_json::to_vec_pretty(added)?)?;
    file.sync_all()?;
    std::fs::rename(unready, data_dir.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallyd_model::pricing::{ModelAlias, StoredPrice};

    #[test]
    fn what_was_written_is_read_and_anything_else_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Added::default());
        let price = StoredPrice {
            id: 1_000_000,
            provider: "claude".into(),
            model: "m".into(),
            service_tier: "standard".into(),
            effective_from_us: 5,
            rates: serde_json::json!({"per_million_tokens": {"input": "3.000000000001"}}),
            source: String::new(),
            source_date: String::new(),
        };
        let alias = ModelAlias { provider: "azure".into(), name: "a".into(), model: "gpt-4o".into() };
        let added = Added { prices: vec![price.clone()], aliases: vec![alias] };
        write(folder.path(), &added).unwrap();
        assert_eq!(read(folder.path()), added);
        std::fs::write(folder.path().join(FILE), serde_json::to_vec(&[&price]).unwrap()).unwrap();
        assert_eq!(read(folder.path()).prices, [price], "an earlier version's file");
        std::fs::write(folder.path().join(FILE), "[{").unwrap();
        assert_eq!(read(folder.path()), Added::default());
    }
}
