//! The bytes of a connection, both ways, between the socket and the HTTP library: what comes in is
//! scanned for requests with two ends, and a body is cut off where it has none; the library's own refusals
//! go out with a body, and reach the sender.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::framing::{Framing, Scanner};
use crate::linger::Linger;
use crate::unreadable;

#[derive(Debug)]
pub(crate) struct Watched<S> {
    stream: S,
    scanner: Scanner,
    framing: Arc<Framing>,
    /// All that was written has been flushed: the next byte begins an answer.
    is_flushed: bool,
    refusal: Option<Refusal>,
    /// The library has refused what it read, and reads no more.
    linger: Option<Linger>,
}

/// What goes out in place of what the library wrote.
#[derive(Debug)]
struct Refusal {
    bytes: Vec<u8>,
    written: usize,
    in_place_of_bytes: usize,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, framing: Arc<Framing>) -> Self {
        Self { stream, scanner: Scanner::default(), framing, is_flushed: true, refusal: None, linger: None }
    }

    /// Whether what is to be written is a refusal that the library made. Only the beginning of an answer
    /// is looked at, and only where no answer is ours: nothing that a sender makes us say is taken for one.
    fn is_refusal(&mut self, bytes: &[u8]) -> bool {
        if self.refusal.is_none()
            && self.is_flushed
            && !self.framing.is_answering()
            && let Some((worded, code)) = unreadable::worded(bytes)
        {
            metrics::counter!("bowline_ingest_requests_total", "outcome" => code).increment(1);
            self.refusal = Some(Refusal { bytes: worded, written: 0, in_place_of_bytes: bytes.len() });
            self.linger = Some(Linger::new());
        }
        self.is_flushed = false;
        self.refusal.is_some()
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// The library hears that its own bytes were written once all of ours are.
    fn poll_refuse(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(refusal) = &mut self.refusal else { return Poll::Ready(Ok(0)) };
        while refusal.written < refusal.bytes.len() {
            let left = &refusal.bytes[refusal.written..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            refusal.written += written;
        }
        let bytes = refusal.in_place_of_bytes;
        self.refusal = None;
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if !this.scanner.is_broken() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let fine = this.framing.scan(&mut this.scanner, &mut buffer.filled_mut()[before..]);
            buffer.set_filled(before + fine);
        }
        // What was fine goes first.
        if this.scanner.is_broken() && buffer.filled().len() == before {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_refusal(bytes) {
            return this.poll_refuse(cx);
        }
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        // A refusal of the library is one piece.
        let only = filled.next().filter(|_| filled.next().is_none());
        if this.is_refusal(only.map_or(&[][..], |slice| &**slice)) {
            return this.poll_refuse(cx);
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.linger {
            Some(linger) => linger.poll_close(&mut this.stream, cx),
            None => Pin::new(&mut this.stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    const BARE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    /// Takes a few bytes at a time, and every other time none.
    #[derive(Debug, Default)]
    struct Narrow {
        taken: Vec<u8>,
        is_pending: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_pending = !self.is_pending;
            if self.is_pending {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = bytes.len().min(7);
            self.taken.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Narrow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn watched() -> Watched<Narrow> {
        Watched::new(Narrow::default(), Arc::new(Framing::default()))
    }

    #[tokio::test]
    async fn a_bare_refusal_is_written_with_a_body_however_slowly() {
        use tokio::io::AsyncWriteExt as _;

        for vectored in [false, true] {
            let mut watched = watched();
            watched.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            watched.flush().await.unwrap();
            if vectored {
                let slices = [IoSlice::new(&[]), IoSlice::new(BARE)];
                assert_eq!(watched.write_vectored(&slices).await.unwrap(), BARE.len());
            } else {
                watched.write_all(BARE).await.unwrap();
            }
            let (whole, code) = unreadable::worded(BARE).unwrap();
            assert_eq!(code, "malformed_request");
            assert!(watched.stream.taken.ends_with(&whole), "vectored: {vectored}");
        }
    }

    #[tokio::test]
    async fn what_we_answer_ourselves_is_written_as_it_is() {
        use tokio::io::AsyncWriteExt as _;

        // The same bytes, as an answer of ours, and in the middle of one.
        let mut watched = watched();
        watched.framing.answer_begins();
        watched.write_all(BARE).await.unwrap();
        watched.framing.answer_ends();
        watched.write_all(BARE).await.unwrap();
        assert_eq!(watched.stream.taken, [BARE, BARE].concat());
    }
}
