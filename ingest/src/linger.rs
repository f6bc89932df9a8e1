//! The end of a connection on which something was refused before it was all there. To close it with bytes unread
//! would reset it, and a reset may take the refusal away before its sender has read it: so what still comes is
//! taken for a while, and thrown away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::drain;

const AT_ONCE_BYTES: usize = 8 * 1024;

/// What is still taken.
#[derive(Debug)]
pub(crate) struct Linger {
    /// Our side is closed: the sender sees the end of the answer.
    is_closed: bool,
    bytes_left: usize,
    until: Pin<Box<Sleep>>,
}

impl Linger {
    pub(crate) fn new() -> Self {
        Self {
            is_closed: false,
            bytes_left: drain::BYTES_MAX,
            until: Box::pin(tokio::time::sleep(drain::TIMEOUT)),
        }
    }

    /// Closes our side, and is ready when the sender has closed its own, or has sent for long enough.
    pub(crate) fn poll_close<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_closed {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_closed = true;
        }
        let mut bytes = [0; AT_ONCE_BYTES];
        while self.until.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            // However it ends, it has ended.
            let Ok(()) = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)) else { break };
            let taken = buffer.filled().len();
            if taken == 0 || taken >= self.bytes_left {
                break;
            }
            self.bytes_left -= taken;
        }
        Poll::Ready(Ok(()))
    }
}
