//! The watermark: one row for each lane, with the highest key of the WAL up to which all chunks are in the database.
//!
//! It moves in the transaction that loads the batch, so it is right after any crash. It also fences: a loader that was
//! suspended and wakes up finds that its row has moved, and its transaction changes nothing.
//!
//! The statement that moves it also reads the side of the users' deltas to append to, and the reporting time zone. A
//! rebuild of the rollups, which changes the zone, locks this table first: it waits for every transaction that has
//! moved a watermark, and later ones see the new zone.

use tallyd_model::zone::Tz;
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::FlushError;
use crate::ZoneMoved;
use crate::user_deltas::Side;
use tallyd_base::failpoint;

/// Why the database's watermark cannot belong to this WAL. Loading on would lose or double records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatermarkError {
    /// The database has lost committed batches.
    #[error(
        "the database knows this WAL's records up to {found} in lane {lane}, but {expected} had been committed: it was \
         restored to an earlier state, or it is another database. Records stay in the WAL meanwhile. Connect \
         the right database; or, to load what the WAL still has on top of the restored state, start once with \
         `tallyd serve --accept-rewound-database`"
    )]
    Rewound {
        /// The lane.
        lane: u16,
        /// The key in the database.
        found: u64,
        /// The key that this daemon last committed.
        expected: u64,
    },
    /// The database has keys that this WAL has not written yet.
    #[error(
        "the database knows this WAL's records up to {found} in lane {lane}, but the WAL ends at {end}: the data folder \
         was restored to an earlier state, or two daemons use copies of it. Move its `wal` folder away to begin a new \
         WAL (records in it that are not loaded yet stay in that folder)"
    )]
    Ahead {
        /// The lane.
        lane: u16,
        /// The key in the database.
        found: u64,
        /// The WAL's last key.
        end: u64,
    },
}

/// Names a lane's row.
#[derive(Debug, Clone, Copy)]
pub struct Watermark {
    /// The WAL's identity.
    pub buffer_id: Uuid,
    /// The lane.
    pub lane: u16,
}

impl Watermark {
    /// Reads the key, and creates the row if it is missing.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn read(&self, client: &Client) -> Result<u64, tokio_postgres::Error> {
        let lane = self.lane as i16;
        let insert =
            "INSERT INTO ingest_watermark (buffer_id, lane, last_seq) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING";
        client.execute_typed(insert, &[(&self.buffer_id, Type::UUID), (&lane, Type::INT2)]).await?;
        let select = "SELECT last_seq FROM ingest_watermark WHERE buffer_id = $1 AND lane = $2";
        let rows = client.query_typed(select, &[(&self.buffer_id, Type::UUID), (&lane, Type::INT2)]).await?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0)) as u64)
    }

    /// Checks the key `found` in the database: `expected` was committed last, `end` is the WAL's last key.
    ///
    /// # Errors
    /// [`WatermarkError`].
    pub fn check(&self, found: u64, expected: u64, end: u64) -> Result<(), WatermarkError> {
        let lane = self.lane;
        if found < expected {
            return Err(WatermarkError::Rewound { lane, found, expected });
        }
        if found > end {
            return Err(WatermarkError::Ahead { lane, found, end });
        }
        Ok(())
    }

    /// Moves the row in the caller's transaction, whose days are in `zone`. Returns the side of the deltas to which
    /// this transaction appends; that side stays locked until the end.
    ///
    /// # Errors
    /// [`FlushError::Moved`] if the row is not at `from`; [`FlushError::Zone`] if the database's zone differs;
    /// PostgreSQL's.
    pub async fn advance(&self, client: &Client, from: u64, to: u64, zone: Tz) -> Result<Side, FlushError> {
        let update = "UPDATE ingest_watermark SET last_seq = $1, updated_at = now() \
             WHERE buffer_id = $2 AND lane = $3 AND last_seq = $4 \
             RETURNING (SELECT value FROM public.tallyd_settings WHERE key = 'reporting_time_zone'), \
                 (SELECT side FROM public.tallyd_delta_ring)";
        // Keys start at 1 and rise by one; they stay far below 2^63.
        let (from, to, lane) = (from as i64, to as i64, self.lane as i16);
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
            [(&to, Type::INT8), (&self.buffer_id, Type::UUID), (&lane, Type::INT2), (&from, Type::INT8)];
        let rows = client.query_typed(update, &parameters).await?;
        let unchecked = failpoint::hit("flusher.watermark_unchecked").is_some();
        match rows.first() {
            Some(row) => ZoneMoved::unless(row.get(0), zone)?,
            None if unchecked => {}
            None => return Err(FlushError::Moved),
        }
        Ok(Side::read(client, rows.first().and_then(|row| row.get(1))).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_contradictions_are_found() {
        let watermark = Watermark { buffer_id: Uuid::nil(), lane: 1 };
        assert_eq!(watermark.check(7, 7, 7), Ok(()));
        assert_eq!(watermark.check(9, 7, 12), Ok(()));
        assert_eq!(watermark.check(6, 7, 12), Err(WatermarkError::Rewound { lane: 1, found: 6, expected: 7 }));
        assert_eq!(watermark.check(13, 7, 12), Err(WatermarkError::Ahead { lane: 1, found: 13, end: 12 }));
    }
}
