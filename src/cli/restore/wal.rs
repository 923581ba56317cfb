//! The data folder's WAL against a restored database: the calls that load again, and those in neither.

use std::path::Path;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Client;

use super::output;
use tallyd_store::backup::{LaneMark, lane_marks};
use tallyd_wal::WalError;
use tallyd_wal::inspect::{Gap, Kept};

/// The WAL, as it was before the restore.
pub(super) struct KeptWal(Result<Option<Kept>, WalError>);

/// The state of the WAL beside the restored database.
#[derive(Debug, Default, Serialize)]
pub(super) struct WalReport {
    /// False if this data folder does not have a WAL: the daemon begins a new one.
    is_there: bool,
    /// Why the WAL could not be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
    /// True if the daemon holds loading until it is started once with `--accept-rewound-database`.
    is_rewound: bool,
    /// Keys whose calls are in neither the database nor the WAL. Calls with other keys are in one of the two.
    gaps: Vec<Gap>,
    /// Calls in gaps were loaded after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_from: Option<DateTime<Utc>>,
    /// Calls in gaps were received before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_until: Option<DateTime<Utc>>,
    /// Damaged segments that were replayed, perhaps after the backup.
    replayed: Vec<String>,
}

impl KeptWal {
    pub(super) fn read(wal: &Path) -> Self {
        Self(Kept::read(wal))
    }

    /// # Errors
    /// PostgreSQL's.
    pub(super) async fn compare(&self, client: &Client) -> Result<WalReport, tokio_postgres::Error> {
        let kept = match &self.0 {
            Ok(None) => return Ok(WalReport::default()),
            Ok(Some(kept)) => kept,
            Err(error) => {
                return Ok(WalReport { is_there: true, unreadable: Some(error.to_string()), ..WalReport::default() });
            }
        };
        let marks = lane_marks(client, kept.buffer_id).await?;
        Ok(WalReport::new(kept, &marks))
    }
}

impl WalReport {
    fn new(kept: &Kept, marks: &[LaneMark]) -> Self {
        let mark = |lane: u16| marks.iter().find(|mark| mark.lane == lane);
        let key = |lane: u16| mark(lane).map_or(0, |mark| mark.key);
        let gaps = kept.gaps(key);
        let mut report = Self {
            is_there: true,
            is_rewound: !kept.rewound(key).is_empty(),
            lost_from: gaps.iter().filter_map(|gap| mark(gap.lane)).map(|mark| mark.at).min(),
            gaps,
            replayed: kept.replayed.clone(),
            ..Self::default()
        };
        if !report.gaps.is_empty() {
            match kept.first_at_us() {
                Ok(at) => report.lost_until = at.and_then(DateTime::from_timestamp_micros),
                Err(error) => report.unreadable = Some(error.to_string()),
            }
        }
        report
    }

    /// Prints it. `is_dump`: daemons may have their data folders elsewhere.
    pub(super) fn tell(&self, is_dump: bool) {
        if let Some(error) = &self.unreadable {
            println!("the WAL could not be compared with the restored state: {error}");
        }
        if !self.is_there && is_dump {
            println!("this data folder has no WAL to compare the restored state with");
            output::hint(
                "daemons that had loaded later calls hold loading: start each once with `tallyd serve --accept-rewound-database`",
            );
            return;
        }
        if !self.is_there {
            println!("this data folder has no WAL: calls that were loaded after the backup are lost");
            output::hint(
                "the new WAL does not know calls of before: if an application sends some again, `tallyd duplicates list` finds \
                 and `tallyd duplicates drop` removes the doubles",
            );
            return;
        }
        for gap in &self.gaps {
            let Gap { lane, first_key, last_key } = gap;
            println!(
                "LOST: lane {lane}, keys {first_key} to {last_key} of the WAL: loaded after the backup, then deleted"
            );
        }
        if let (false, Some(until)) = (self.gaps.is_empty(), self.lost_until) {
            let from =
                self.lost_from.map_or_else(|| "the first call".to_owned(), |from| from.format("%F %T UTC").to_string());
            println!(
                "these are calls that this daemon received from {from} to {} at the latest",
                until.format("%F %T UTC")
            );
        }
        if self.gaps.is_empty() && self.unreadable.is_none() {
            println!("nothing is lost: every call of this daemon is in the restored state or in its WAL");
        }
        for name in &self.replayed {
            output::hint(&format!(
                "if it was replayed after the backup: `tallyd wal replay {name}` adds only missing calls"
            ));
        }
        if self.is_rewound {
            output::hint(
                "start the daemon once with `tallyd serve --accept-rewound-database`: it loads the WAL's calls, each once",
            );
        }
    }
}
