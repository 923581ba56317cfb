//! A socket whose client must take its answers in time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use tallyd_pipeline::seats::Seat;

/// The longest time for a client to take [`STEP_BYTES`] of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP_BYTES: usize = 64 * 1024;

/// Writing fails once the client has been too slow.
pub(super) struct Paced<S> {
    stream: S,
    seat: Arc<Seat>,
    held_up: Option<HeldUp>,
}

/// State while the client takes no more bytes.
struct HeldUp {
    request: u64,
    moved: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, seat: Arc<Seat>) -> Self {
        Self { stream, seat, held_up: None }
    }

    fn watch(
        &mut self,
        wanted: usize,
        written: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(taken)) => {
                let is_done = self.held_up.as_mut().is_some_and(|held_up| {
                    held_up.moved += taken;
                    taken == wanted || held_up.moved >= STEP_BYTES
                });
                if is_done {
                    self.held_up = None;
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let request = self.seat.requests();
                if self.held_up.as_ref().is_some_and(|held_up| held_up.request != request) {
                    self.held_up = None;
                }
                let begin = || HeldUp { request, moved: 0, deadline: Box::pin(sleep(PATIENCE)) };
                let held_up = self.held_up.get_or_insert_with(begin);
                let late = || io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer");
                held_up.deadline.as_mut().poll(context).map(|()| Err(late()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watch(bytes.len(), written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.watch(slices.iter().map(|slice| slice.len()).sum(), written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use tallyd_pipeline::seats::{SeatBounds, Seats};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_answer_slowly_is_served_and_one_that_drips_is_not() {
        let guard = Seats::new(SeatBounds::new(8, 8)).take([127, 0, 0, 1].into()).await;
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = Paced::new(server, Arc::clone(&guard.seat));
        let answering = tokio::spawn(async move { server.write_all(&vec![7; 1 << 20]).await });
        // 4 KiB a second: 64 KiB in 16.
        for _ in 0..100 {
            client.read_exact(&mut [0; 4096]).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(!answering.is_finished());
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if client.read(&mut [0; 100]).await.unwrap() == 0 {
                break;
            }
        }
        let ended = answering.await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
