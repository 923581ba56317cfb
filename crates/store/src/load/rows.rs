//! Buffers rows for COPY, in pieces: in the order of arrival, or by user.
//!
//! With an index on `(user_id, occurred_at)`, rows in the order of arrival put each index entry at another place, and
//! finding the places is most of the load's cost. Rows by user fill the index page by page. So if the index is kept at
//! all times, rows are sorted in windows of [`WINDOW_BYTES`] before they are sent.

use bytes::Bytes;
use futures_util::{Sink, SinkExt};
use tokio_postgres::Error;

use super::copy_row;
use tallyd_base::failpoint;

/// Bytes of COPY data that are sent at once.
const PIECE_BYTES: usize = 128 * 1024;
/// Capacity of a piece: the last chunk's rows may exceed the mark.
const PIECE_CAPACITY: usize = PIECE_BYTES + 64 * 1024;
/// Bytes of rows that are sorted together, about 150,000 rows. Each lane has a window in memory.
const WINDOW_BYTES: usize = 16 * 1024 * 1024;

/// Rows that are encoded and not yet sent.
pub(crate) struct Rows {
    piece: Vec<u8>,
    window: Option<Window>,
}

/// Rows that are still to be sorted.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

/// A row's user, and its place in the window.
#[derive(Clone, Copy)]
struct Row {
    user: u32,
    start: u32,
    len: u32,
}

impl Rows {
    /// Starts empty.
    pub(super) fn new(by_user: bool) -> Self {
        let mut piece = Vec::with_capacity(PIECE_CAPACITY);
        piece.extend_from_slice(copy_row::HEADER);
        Self { piece, window: by_user.then(Window::default) }
    }

    /// Adds a row, which `write` appends. `user` is the place of its user's row in the fold.
    pub(super) fn push(&mut self, user: usize, write: impl FnOnce(&mut Vec<u8>)) {
        let Some(window) = &mut self.window else { return write(&mut self.piece) };
        let start = window.bytes.len();
        write(&mut window.bytes);
        // A window has megabytes, a batch some hundred thousand users.
        window.rows.push(Row { user: user as u32, start: start as u32, len: (window.bytes.len() - start) as u32 });
    }

    /// Sends full pieces. `ranks` returns each user's place in the sorted order; it is called only if rows go by user.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(super) async fn send_full(
        &mut self,
        sink: &mut (impl Sink<Bytes, Error = Error> + Unpin),
        ranks: impl FnOnce() -> Vec<u32>,
    ) -> Result<(), Error> {
        match &self.window {
            Some(window) if window.bytes.len() >= WINDOW_BYTES => self.send_window(sink, &ranks()).await,
            Some(_) => Ok(()),
            None => self.send_piece(sink).await,
        }
    }

    /// Sends the rest, and the end of COPY.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub(super) async fn send_all(
        mut self,
        sink: &mut (impl Sink<Bytes, Error = Error> + Unpin),
        ranks: impl FnOnce() -> Vec<u32>,
    ) -> Result<(), Error> {
        if self.window.is_some() {
            self.send_window(sink, &ranks()).await?;
        }
        self.piece.extend_from_slice(copy_row::TRAILER);
        sink.feed(self.piece.into()).await
    }

    async fn send_window(
        &mut self,
        sink: &mut (impl Sink<Bytes, Error = Error> + Unpin),
        ranks: &[u32],
    ) -> Result<(), Error> {
        let Some(mut window) = self.window.take() else { return Ok(()) };
        window.rows.sort_unstable_by_key(|row| (ranks[row.user as usize], row.start));
        for row in &window.rows {
            self.piece.extend_from_slice(&window.bytes[row.start as usize..][..row.len as usize]);
            self.send_piece(sink).await?;
        }
        window.bytes.clear();
        window.rows.clear();
        self.window = Some(window);
        Ok(())
    }

    /// Sends the piece if it is full.
    async fn send_piece(&mut self, sink: &mut (impl Sink<Bytes, Error = Error> + Unpin)) -> Result<(), Error> {
        if self.piece.len() < PIECE_BYTES {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_CAPACITY));
        sink.feed(full.into()).await?;
        failpoint::hit("flusher.copying");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::sink;

    use super::*;

    /// The rows that COPY receives of `count` rows of 8 bytes, each with its user and number.
    async fn sent(by_user: bool, users: &[u32], count: u32) -> Vec<(u32, u32)> {
        let mut got = Vec::new();
        let mut pieces = Box::pin(sink::unfold(&mut got, async |got: &mut Vec<u8>, piece: Bytes| {
            got.extend_from_slice(&piece);
            Ok::<_, Error>(got)
        }));
        let mut rows = Rows::new(by_user);
        for number in 0..count {
            let user = users[number as usize % users.len()];
            rows.push(user as usize, |out| {
                out.extend_from_slice(&user.to_be_bytes());
                out.extend_from_slice(&number.to_be_bytes());
            });
            rows.send_full(&mut pieces, || vec![3, 2, 1, 0]).await.unwrap();
        }
        rows.send_all(&mut pieces, || vec![3, 2, 1, 0]).await.unwrap();
        pieces.flush().await.unwrap();
        drop(pieces);
        let rows = got.strip_prefix(copy_row::HEADER).and_then(|rows| rows.strip_suffix(copy_row::TRAILER)).unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        rows.chunks(8).map(|row| (number(&row[..4]), number(&row[4..]))).collect()
    }

    #[tokio::test]
    async fn rows_go_as_they_come_or_by_user_and_none_is_lost() {
        let users = [2, 0, 3, 1];
        let count = (WINDOW_BYTES / 8) as u32 + 1_000;
        let plain = sent(false, &users, count).await;
        assert!(plain.iter().enumerate().all(|(at, row)| *row == (users[at % 4], at as u32)));
        let sorted = sent(true, &users, count).await;
        assert_eq!(sorted.len(), plain.len());
        let (window, rest) = sorted.split_at(WINDOW_BYTES / 8);
        for part in [window, rest] {
            // The highest rank is the user 0's.
            assert!(part.is_sorted_by_key(|(user, number)| (3 - user, *number)));
        }
        let mut all = sorted;
        all.sort_unstable_by_key(|(_, number)| *number);
        assert_eq!(all, plain);
    }
}
