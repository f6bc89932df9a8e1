//! Bytes to and from a receiver, over TLS or not.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::connect::{Birth, Place};

/// A connection, and what making it took.
pub(super) struct Stream {
    pub(super) io: Io,
    /// Whether it may serve more than one request.
    pub(super) kept: bool,
    pub(super) birth: Birth,
    pub(super) _place: Place,
}

pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.birth.clone());
        if !self.kept {
            connected.poison();
        }
        match &self.io {
            Io::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

macro_rules! on {
    ($stream:expr, $io:ident => $call:expr) => {
        match &mut $stream.get_mut().io {
            Io::Plain(plain) => {
                let $io = Pin::new(plain);
                $call
            }
            Io::Tls(tls) => {
                let $io = Pin::new(tls);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let read = on!(Pin::new(&mut *stream), io => io.poll_read(context, into));
        if let Poll::Ready(Err(error)) = &read {
            stream.birth.note(error);
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on!(self, io => io.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, io => io.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, io => io.poll_shutdown(context))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on!(self, io => io.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(plain) => plain.is_write_vectored(),
            Io::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
