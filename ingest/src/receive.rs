//! Reads a request's body within its limits, or says why it was not read.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bowline_core::bootstrap::config::IngestConfig;
use bowline_core::preset::Preset;
use bowline_core::source::SourceSpec;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, sleep_until};

use crate::arrivals::{Arrival, Full};
use bowline_core::inbound::{RETRY_SOON, Refusal};

/// So much is read before a body is counted among those that are arriving.
const AT_ONCE_BYTES_MAX: usize = 128 * 1024;
/// For so long a body may be slower than the slowest that is taken.
const SLOW_START: Duration = Duration::from_secs(5);

/// How much of a body is taken, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) bytes_max: u64,
    pub(crate) pace: Pace,
}

/// How fast a body must arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) timeout: Duration,
    pub(crate) bytes_per_s_min: usize,
}

impl Pace {
    pub(crate) fn of(config: &IngestConfig) -> Self {
        Self { timeout: config.body_timeout, bytes_per_s_min: config.body_bytes_per_s_min }
    }

    /// When the rest must be there, by what has come.
    fn deadline(&self, began: Instant, bytes: usize) -> Instant {
        let paced = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s_min as f64);
        began + self.timeout.min(SLOW_START + paced)
    }
}

impl BodyLimits {
    pub(crate) fn of(spec: &SourceSpec, preset: &Preset, pace: Pace) -> Self {
        Self { bytes_max: spec.body_limit_bytes.unwrap_or_else(|| preset.body_limit_bytes()), pace }
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
        let message = format!(
            "the body did not arrive within {} s, at {} bytes a second or more",
            self.pace.timeout.as_secs(),
            self.pace.bytes_per_s_min
        );
        let mut refusal = Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message);
        refusal.close = true;
        refusal
    }
}

/// Reads the whole body. Where it is not there yet, `enter` counts it among those that are arriving, with
/// the bytes that have come; every further byte is accounted for before it is kept.
pub(crate) async fn receive<B>(
    body: &mut B,
    limits: BodyLimits,
    enter: impl FnOnce(usize) -> Result<Arrival, Full>,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut gathered = Gathered::new(body.size_hint().exact(), limits);
    if !gathered.take_what_is_there(body).await? {
        let arrival = enter(gathered.held()).map_err(|Full| gave_way())?;
        gathered.take_the_rest(body, arrival).await?;
    }
    Ok(gathered.whole())
}

/// What has come of a body. Most come in one piece, which is kept without a copy.
struct Gathered {
    limits: BodyLimits,
    announced: Option<u64>,
    first: Bytes,
    joined: Vec<u8>,
}

impl Gathered {
    fn new(announced: Option<u64>, limits: BodyLimits) -> Self {
        Self { limits, announced, first: Bytes::new(), joined: Vec::new() }
    }

    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    /// Bytes of memory, not of the body.
    fn held(&self) -> usize {
        self.first.len() + self.joined.capacity()
    }

    fn whole(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.into() }
    }

    /// Takes what is there without waiting for more; true when that is all. The library hands over a
    /// body's beginning only after it was asked once, in the same run of the connection: so twice.
    async fn take_what_is_there<B>(&mut self, body: &mut B) -> Result<bool, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut asked = false;
        poll_fn(|cx| match self.poll(body, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(true)),
            Poll::Ready(Err(refusal)) => Poll::Ready(Err(refusal)),
            Poll::Pending if asked => Poll::Ready(Ok(false)),
            Poll::Pending => {
                asked = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }

    /// Until the body is complete, or there is nothing more for now.
    fn poll<B>(&mut self, body: &mut B, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        while let Some(frame) = std::task::ready!(Pin::new(&mut *body).poll_frame(cx)) {
            // Trailers are no part of what a sender signs.
            let Ok(frame) = frame else { return Poll::Ready(Err(incomplete())) };
            if let Ok(data) = frame.into_data() {
                self.keep(data, |_| Ok(()))?;
            }
            // What comes as fast as it is read is still to be counted.
            if self.held() > AT_ONCE_BYTES_MAX {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    async fn take_the_rest<B>(&mut self, body: &mut B, mut arrival: Arrival) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let began = Instant::now();
        let pace = self.limits.pace;
        let mut late = pin!(sleep_until(pace.deadline(began, self.len())));
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = arrival.gives_way() => return Err(gave_way()),
                () = &mut late => {
                    let deadline = pace.deadline(began, self.len());
                    if deadline <= Instant::now() {
                        return Err(self.limits.too_slow());
                    }
                    late.as_mut().reset(deadline);
                    continue;
                }
            };
            match frame {
                None => return Ok(()),
                Some(Err(_)) => return Err(incomplete()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.keep(data, |bytes| arrival.grow(bytes))?;
                    }
                }
            }
        }
    }

    fn keep(&mut self, data: Bytes, grow: impl FnOnce(usize) -> Result<(), Full>) -> Result<(), Refusal> {
        let length = self.len() + data.len();
        if length as u64 > self.limits.bytes_max {
            return Err(self.limits.too_large());
        }
        if self.first.is_empty() && self.joined.is_empty() {
            grow(data.len()).map_err(|Full| gave_way())?;
            self.first = data;
            return Ok(());
        }
        if self.joined.capacity() < length {
            let capacity = self.capacity_for(length);
            grow(capacity - self.joined.capacity()).map_err(|Full| gave_way())?;
            self.joined.reserve_exact(capacity - self.joined.len());
        }
        if !self.first.is_empty() {
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&data);
        Ok(())
    }

    /// At least doubled each time, and never more than is announced or allowed.
    fn capacity_for(&self, length: usize) -> usize {
        let most = self.announced.unwrap_or(self.limits.bytes_max).min(self.limits.bytes_max);
        (2 * length).min(usize::try_from(most).unwrap_or(usize::MAX)).max(length)
    }
}

/// Others needed the room of a request that was not all there, or not verifiable yet.
pub(crate) fn gave_way() -> Refusal {
    let message = "too many requests are on their way, and this one was the slowest; send it again later";
    let mut refusal = Refusal::unavailable("overloaded", message, RETRY_SOON);
    refusal.close = true;
    refusal
}

fn incomplete() -> Refusal {
    let mut refusal =
        Refusal::new(StatusCode::BAD_REQUEST, "body_incomplete", "the body ended before it was complete");
    refusal.close = true;
    refusal
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use bowline_core::id::{SourceId, TenantId};
    use hyper::body::{Frame, SizeHint};

    use super::*;
    use crate::arrivals::Arrivals;

    /// Pieces without a length known ahead.
    struct Pieces {
        left: VecDeque<&'static [u8]>,
        polled: usize,
        /// How often it has nothing yet.
        pauses: usize,
    }

    impl Pieces {
        fn of(pieces: impl IntoIterator<Item = &'static [u8]>) -> Self {
            Self { left: pieces.into_iter().collect(), polled: 0, pauses: 0 }
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.pauses > 0 {
                self.pauses -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.polled += 1;
            Poll::Ready(self.left.pop_front().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    const PACE: Pace = Pace { timeout: Duration::from_secs(30), bytes_per_s_min: 1000 };
    const LIMITS: BodyLimits = BodyLimits { bytes_max: 8, pace: PACE };

    fn at_once(_: usize) -> Result<Arrival, Full> {
        Err(Full)
    }

    #[tokio::test]
    async fn a_body_is_whole_however_it_is_cut() {
        for pieces in [vec![&b"12345678"[..]], vec![b"1234", b"", b"567", b"8"], vec![b"", b"12345678"]] {
            assert_eq!(receive(&mut Pieces::of(pieces), LIMITS, at_once).await.unwrap(), "12345678");
        }
        assert_eq!(receive(&mut Pieces::of([]), LIMITS, at_once).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_not_read_to_its_end() {
        let mut endless = Pieces::of([&b"1234"[..], b"5678", b"9", b"never read"]);
        let refusal = receive(&mut endless, LIMITS, at_once).await.unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code, refusal.close),
            (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", true)
        );
        assert_eq!(endless.polled, 3);

        let announced = |body: &'static [u8]| {
            LIMITS.check_announced(&http_body_util::Full::new(Bytes::from_static(body)))
        };
        assert!(announced(b"12345678").is_ok());
        assert_eq!(announced(b"123456789").unwrap_err().code, "body_too_large");
    }

    #[tokio::test]
    async fn a_body_that_comes_later_is_counted() {
        let arrivals = Arrivals::unlimited();
        let enter = |bytes| arrivals.enter(TenantId::new(), SourceId::new(), bytes);
        let mut late = Pieces::of([&b"1234"[..], b"5678"]);
        late.pauses = 3;
        assert_eq!(receive(&mut late, LIMITS, enter).await.unwrap(), "12345678");
        let mut late = Pieces::of([&b"1"[..]]);
        late.pauses = 3;
        let refusal = receive(&mut late, LIMITS, at_once).await.unwrap_err();
        assert_eq!((refusal.status, refusal.code), (StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
    }

    #[tokio::test]
    async fn memory_is_doubled_and_not_beyond_what_is_announced() {
        let limits = BodyLimits { bytes_max: 1000, ..LIMITS };
        for (announced, capacities) in [(Some(25), [0, 20, 25]), (None, [0, 20, 50])] {
            let mut gathered = Gathered::new(announced, limits);
            let mut grown = 0;
            for (piece, capacity) in [&b"12345"[..], b"67890", &[b'x'; 15]].into_iter().zip(capacities) {
                let grow = |bytes| {
                    grown += bytes;
                    Ok(())
                };
                gathered.keep(Bytes::from_static(piece), grow).unwrap();
                assert_eq!(gathered.joined.capacity(), capacity);
            }
            // The first piece was counted by itself, and lives until the body is joined.
            assert_eq!(grown, 5 + capacities[2]);
            assert_eq!(gathered.whole().len(), 25);
        }
    }

    #[test]
    fn a_body_must_keep_its_pace_after_a_slow_start() {
        let began = Instant::now();
        let within = |bytes| PACE.deadline(began, bytes) - began;
        assert_eq!(within(0), SLOW_START);
        assert_eq!(within(10_000), Duration::from_secs(15));
        assert_eq!(within(1_000_000), PACE.timeout);
    }

    #[test]
    fn the_sources_own_limit_goes_before_the_presets() {
        let preset = bowline_core::preset::find("chatblocks").unwrap();
        let limit = |spec: &SourceSpec| BodyLimits::of(spec, preset, PACE).bytes_max;
        assert_eq!(limit(&SourceSpec::default()), 262_144);
        assert_eq!(limit(&SourceSpec { body_limit_bytes: Some(10), ..SourceSpec::default() }), 10);
    }
}
