//! The calls that a WAL still has for a database that was restored to an earlier state.

use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use super::{SegmentReport, SegmentState, list};
use crate::segment::Opening;
use crate::wal::COMMITTED_FILE;
use crate::{WalError, files};

/// The part of a WAL that is still there.
pub struct Kept {
    /// The WAL's identity, by which the database has its watermarks.
    pub buffer_id: Uuid,
    /// The first key that is still there.
    pub first_key: u64,
    /// Each lane's progress when a segment was last deleted. Lanes without one had not committed anything.
    committed: Vec<u64>,
    /// Segments that were set aside as damaged and replayed.
    pub replayed: Vec<String>,
    first: SegmentReport,
}

/// Keys of a lane that are in neither the database nor the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The lane.
    pub lane: u16,
    /// The first key after the database's watermark.
    pub first_key: u64,
    /// The last key before those that the WAL still has.
    pub last_key: u64,
}

impl Kept {
    /// Reads the calls that a WAL still has; none if it does not have a segment.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn read(wal: &Path) -> Result<Option<Self>, WalError> {
        if !wal.exists() {
            return Ok(None);
        }
        let segments = list(wal)?;
        let replayed = segments.iter().filter(|segment| segment.state == SegmentState::Replayed);
        let replayed = replayed.map(|segment| segment.name.clone()).collect();
        let is_aside = |state| matches!(state, SegmentState::SetAside | SegmentState::Replayed);
        let Some(first) = segments.into_iter().find(|segment| !is_aside(segment.state)) else { return Ok(None) };
        let opening: Opening = files::read(&first.paths.opening)?;
        let file = wal.join(COMMITTED_FILE);
        let committed = if file.exists() { files::read(&file)? } else { Vec::new() };
        Ok(Some(Self { buffer_id: opening.buffer_id, first_key: first.first_key, committed, replayed, first }))
    }

    /// Lanes whose watermark is behind what they had committed: the daemon holds loading until it is told to go on.
    #[must_use]
    pub fn rewound(&self, watermark: impl Fn(u16) -> u64) -> Vec<u16> {
        self.lanes().filter(|(lane, committed)| watermark(*lane) < *committed).map(|(lane, _)| lane).collect()
    }

    /// The lanes' gaps. A key in a gap need not have been the lane's, or used at all.
    #[must_use]
    pub fn gaps(&self, watermark: impl Fn(u16) -> u64) -> Vec<Gap> {
        let gap = |(lane, committed): (u16, u64)| {
            let (first_key, last_key) = (watermark(lane) + 1, committed.min(self.first_key - 1));
            (first_key <= last_key).then_some(Gap { lane, first_key, last_key })
        };
        self.lanes().filter_map(gap).collect()
    }

    /// Time at which the first chunk that is still there was received, microseconds since 1970; none without a chunk.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn first_at_us(&self) -> Result<Option<i64>, WalError> {
        Ok(self.first.read()?.chunks.first().map(|chunk| chunk.written_us))
    }

    fn lanes(&self) -> impl Iterator<Item = (u16, u64)> {
        (0..).zip(self.committed.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_gap_ends_before_the_first_kept_key_and_begins_after_the_watermark() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Kept::read(&folder.path().join("none")).unwrap().is_none());
        assert!(Kept::read(folder.path()).unwrap().is_none());
        let opening = Opening { buffer_id: Uuid::nil(), first_key: 100, lanes: 3, producers: Vec::new() };
        files::write(&folder.path().join("00000000000000000100.open"), &opening).unwrap();
        fs::create_dir(folder.path().join("00000000000000000100")).unwrap();
        let unnoted = Kept::read(folder.path()).unwrap().unwrap();
        assert!(unnoted.gaps(|_| 0).is_empty() && unnoted.rewound(|_| 0).is_empty(), "nothing was deleted yet");
        files::write(&folder.path().join(COMMITTED_FILE), &[120, 80, 99]).unwrap();
        let kept = Kept::read(folder.path()).unwrap().unwrap();
        // The restored database knows the lanes up to these keys.
        for (marks, gaps, rewound) in [
            ([120, 80, 99], vec![], vec![]),
            ([99, 80, 99], vec![], vec![0]),
            ([98, 79, 0], vec![(0, 99, 99), (1, 80, 80), (2, 1, 99)], vec![0, 1, 2]),
        ] {
            let mark = |lane: u16| marks[usize::from(lane)];
            let found: Vec<_> = kept.gaps(mark).iter().map(|gap| (gap.lane, gap.first_key, gap.last_key)).collect();
            assert_eq!(found, gaps, "{marks:?}");
            assert_eq!(kept.rewound(mark), rewound, "{marks:?}");
        }
    }
}
