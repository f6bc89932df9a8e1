//! Reads a request's body within its limits, or says why it was not read.

use std::time::Duration;

use bowline_core::journal::Permit;
use bowline_core::preset::Preset;
use bowline_core::source::SourceSpec;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};

use crate::reject::{Refusal, refuse_journal};

/// What is taken from a sender whose request is refused, so that the refusal is not lost with a
/// connection that is reset under it.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a body is taken, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) bytes_max: u64,
    pub(crate) timeout: Duration,
}

impl BodyLimits {
    pub(crate) fn of(spec: &SourceSpec, preset: &Preset, timeout: Duration) -> Self {
        Self { bytes_max: spec.body_limit_bytes.unwrap_or_else(|| preset.body_limit_bytes()), timeout }
    }

    /// A body that says it is too long is refused before any of it is asked for.
    pub(crate) fn check_announced(&self, body: &impl Body) -> Result<(), Refusal> {
        if body.size_hint().lower() > self.bytes_max { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Refusal {
        let message = format!("the body is longer than the {} bytes this source accepts", self.bytes_max);
        let mut refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message);
        refusal.close = true;
        refusal
    }

    fn too_slow(&self) -> Refusal {
        let message = format!("the body did not arrive within {} s", self.timeout.as_secs());
        let mut refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message);
        refusal.close = true;
        refusal
    }
}

/// Reads the whole body. Every byte is accounted for by `permit` before it is kept.
pub(crate) async fn receive<B>(body: &mut B, limits: BodyLimits, permit: &Permit) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let grow = |bytes| permit.grow(bytes).map_err(refuse_journal);
    match tokio::time::timeout(limits.timeout, read(body, limits, grow)).await {
        Ok(read) => read,
        Err(_) => Err(limits.too_slow()),
    }
}

async fn read<B>(
    body: &mut B,
    limits: BodyLimits,
    mut grow: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Most bodies come in one piece, which is kept without a copy.
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(incomplete()) };
        // Trailers are no part of what a sender signs.
        let Ok(data) = frame.into_data() else { continue };
        let got = first.len() + whole.len() + data.len();
        if got as u64 > limits.bytes_max {
            return Err(limits.too_large());
        }
        grow(data.len())?;
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn incomplete() -> Refusal {
    let mut refusal =
        Refusal::new(StatusCode::BAD_REQUEST, "body_incomplete", "the body ended before it was complete");
    refusal.close = true;
    refusal
}

/// Whether the sender of a body nobody has touched waits to be asked for it. It will not send it once
/// it has been refused, and reading would ask.
pub(crate) fn awaits_continue(request: &Request<Incoming>) -> bool {
    expects_continue(request.headers()) && !request.body().is_end_stream()
}

fn expects_continue(headers: &HeaderMap) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Takes, beside the answer, what a refused sender still sends. HTTP/2 resets the one stream, and
/// needs none of this.
pub(crate) fn drain(mut body: Incoming, version: Version) {
    if body.is_end_stream() || version >= Version::HTTP_2 {
        return;
    }
    tokio::spawn(async move {
        let rest = async {
            let mut taken = 0;
            while let Some(Ok(frame)) = body.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > DRAIN_BYTES_MAX {
                    break;
                }
            }
        };
        // Whoever sends for longer is cut off.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
    });
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// Pieces without a length known ahead.
    struct Pieces {
        left: VecDeque<&'static [u8]>,
        polled: usize,
    }

    impl Pieces {
        fn of(pieces: impl IntoIterator<Item = &'static [u8]>) -> Self {
            Self { left: pieces.into_iter().collect(), polled: 0 }
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.polled += 1;
            Poll::Ready(self.left.pop_front().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    const LIMITS: BodyLimits = BodyLimits { bytes_max: 8, timeout: Duration::from_secs(30) };

    #[tokio::test]
    async fn a_body_is_whole_however_it_is_cut() {
        for pieces in [vec![&b"12345678"[..]], vec![b"1234", b"", b"567", b"8"], vec![b"", b"12345678"]] {
            let mut kept = 0;
            let grow = |bytes| {
                kept += bytes;
                Ok(())
            };
            assert_eq!(read(&mut Pieces::of(pieces), LIMITS, grow).await.unwrap(), "12345678");
            assert_eq!(kept, 8);
        }
        assert_eq!(read(&mut Pieces::of([]), LIMITS, |_| Ok(())).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_read_to_its_end() {
        let mut endless = Pieces::of([&b"1234"[..], b"5678", b"9", b"never read"]);
        let refusal = read(&mut endless, LIMITS, |_| Ok(())).await.unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code, refusal.close),
            (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", true)
        );
        assert_eq!(endless.polled, 3);

        let announced = |body: &'static [u8]| LIMITS.check_announced(&Full::new(Bytes::from_static(body)));
        assert!(announced(b"12345678").is_ok());
        assert_eq!(announced(b"123456789").unwrap_err().code, "body_too_large");
    }

    #[tokio::test]
    async fn what_cannot_be_held_is_refused() {
        let full = |_| Err(Refusal::unavailable("overloaded", "full", Duration::from_secs(1)));
        let refusal = read(&mut Pieces::of([&b"1"[..]]), LIMITS, full).await.unwrap_err();
        assert_eq!((refusal.status, refusal.code), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    }

    #[test]
    fn the_sources_own_limit_goes_before_the_presets() {
        let preset = bowline_core::preset::find("chatblocks").unwrap();
        let limit = |spec: &SourceSpec| BodyLimits::of(spec, preset, LIMITS.timeout).bytes_max;
        assert_eq!(limit(&SourceSpec::default()), 262_144);
        assert_eq!(limit(&SourceSpec { body_limit_bytes: Some(10), ..SourceSpec::default() }), 10);
    }
}
