//! The body of an answer that may be much.
//!
//! A message goes to the transport in small frames, each copied, and only so many before the transport has let go of
//! the first: what a reader does not take stays here, where it can be taken away, and not in buffers of the
//! transport, where it would stay as long as the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use tonic::Status;

use super::{Part, Place, Source};

const FRAME_BYTES: usize = 8 * 1024;
/// Frames the transport may have.
const FLIGHTS_MAX: usize = 3;

/// What the body and its supervisor share.
pub(super) struct Answer {
    state: Mutex<State>,
    flights: Arc<Mutex<Flights>>,
    /// Until the transport lets go of the body: what it holds of an ended watch is bounded by places, too.
    #[allow(dead_code, reason = "held until dropped")]
    place: Place,
}

struct State {
    source: Option<Source>,
    /// What the transport has not had of the message that is under way.
    rest: Option<Part>,
    /// Sent after `rest`.
    end: Option<Status>,
    /// Of the message under way the rest is gone.
    is_cut: bool,
    is_done: bool,
}

/// Frames that the transport holds.
struct Flights {
    count: usize,
    /// Since when it has let go of none, or has begun none.
    since: Instant,
    /// Of who sends.
    waker: Option<Waker>,
    /// Who sends waits for the next to be let go of.
    is_awaited: bool,
}

/// Bytes of a frame, which say when they are dropped.
struct Flight {
    bytes: Bytes,
    flights: Arc<Mutex<Flights>>,
}

impl AsRef<[u8]> for Flight {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let waker = {
            let mut flights = self.flights.lock();
            flights.count -= 1;
            flights.since = Instant::now();
            let is_awaited = std::mem::take(&mut flights.is_awaited);
            flights.waker.take_if(|_| is_awaited)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Answer {
    pub(super) fn new(source: Source, place: Place) -> Self {
        let state = State { source: Some(source), rest: None, end: None, is_cut: false, is_done: false };
        let flights = Flights { count: 0, since: Instant::now(), waker: None, is_awaited: false };
        Self { state: Mutex::new(state), flights: Arc::new(Mutex::new(flights)), place }
    }

    /// Of one message.
    pub(super) fn of(message: Part) -> Self {
        let answer = Self::new(Box::pin(stream::empty()), Arc::new(()));
        answer.state.lock().rest = Some(message);
        answer
    }

    /// For how long the transport has taken nothing of what there is for it.
    pub(super) fn unread_for(&self) -> Duration {
        let is_ready = self.state.lock().rest.is_some();
        let flights = self.flights.lock();
        if is_ready || flights.count > 0 { flights.since.elapsed() } else { Duration::ZERO }
    }

    /// What lies ready here takes room that somebody waits for.
    pub(super) fn is_in_the_way(&self) -> bool {
        self.state.lock().rest.as_ref().is_some_and(Part::is_in_the_way)
    }

    /// The message under way is the last.
    pub(super) fn end(&self, status: Status) {
        self.stop(status, false);
    }

    /// Even of the message under way nothing more is sent.
    pub(super) fn cut(&self, status: Status) {
        self.stop(status, true);
    }

    fn stop(&self, status: Status, cut: bool) {
        let mut state = self.state.lock();
        let source = state.source.take();
        if state.end.is_none() {
            state.end = Some(status);
        }
        let rest = state.rest.take_if(|_| cut);
        state.is_cut |= rest.as_ref().is_some_and(Part::is_begun);
        drop(state);
        drop((source, rest));
        // It may be asked for the next message just now, or wait for a place of a frame.
        let waker = self.flights.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Nobody is there any more.
    fn clear(&self) {
        let mut state = self.state.lock();
        let gone = (state.source.take(), state.rest.take());
        drop(state);
        drop(gone);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        {
            // Before the look: whoever ends the watch after it wakes.
            let mut flights = self.flights.lock();
            flights.waker = Some(cx.waker().clone());
            flights.is_awaited = flights.count >= FLIGHTS_MAX;
            if flights.is_awaited {
                return Poll::Pending;
            }
        }
        let mut state = self.state.lock();
        if state.is_done {
            return Poll::Ready(None);
        }
        // The next message is asked for when the transport has taken all of the one before.
        let may_ask = {
            let mut flights = self.flights.lock();
            flights.is_awaited = flights.count > 0;
            !flights.is_awaited
        };
        let frame = state.fill(cx, may_ask);
        if !frame.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.launch(frame)))));
        }
        let Some(status) = state.end.take() else { return Poll::Pending };
        state.is_done = true;
        if state.is_cut {
            // In the middle of a message no status can be said: the stream is reset, which clients read as
            // RESOURCE_EXHAUSTED.
            let reset = h2::Error::from(h2::Reason::ENHANCE_YOUR_CALM);
            return Poll::Ready(Some(Err(Status::from_error(Box::new(reset)))));
        }
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn launch(&self, bytes: Bytes) -> Bytes {
        let mut flights = self.flights.lock();
        if flights.count == 0 {
            flights.since = Instant::now();
        }
        flights.count += 1;
        drop(flights);
        Bytes::from_owner(Flight { bytes, flights: Arc::clone(&self.flights) })
    }
}

impl State {
    /// As much as there is, up to a frame; nothing: there is none yet, or it has ended.
    fn fill(&mut self, cx: &mut Context<'_>, may_ask: bool) -> Bytes {
        let mut frame = BytesMut::new();
        while frame.len() < FRAME_BYTES {
            if let Some(part) = &mut self.rest {
                // Whole where it can be: where a message ends, a status can be said.
                if !frame.is_empty() && frame.len() + part.rest.len() > FRAME_BYTES {
                    break;
                }
                let piece = part.rest.split_to(part.rest.len().min(FRAME_BYTES - frame.len()));
                frame.extend_from_slice(&piece);
                if part.rest.is_empty() {
                    self.rest = None;
                }
                continue;
            }
            if self.end.is_some() || !may_ask {
                break;
            }
            let Some(source) = &mut self.source else { break };
            match source.as_mut().poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(part))) => self.rest = Some(part),
                Poll::Ready(ended) => {
                    self.source = None;
                    let status = ended.and_then(Result::err);
                    self.end = Some(status.unwrap_or_else(|| Status::ok("")));
                }
            }
        }
        frame.freeze()
    }
}

/// Ends its supervisor with it.
pub(super) struct AnswerBody {
    pub(super) answer: Arc<Answer>,
    pub(super) supervisor: tokio::task::AbortHandle,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.answer.poll(cx)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.supervisor.abort();
        self.answer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Encoded;
    use super::*;
    use futures_util::StreamExt as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// An answer of messages of these sizes, and how many were asked for.
    fn answer(sizes: &[usize]) -> (Answer, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let parts = stream::iter(sizes.to_vec()).map(move |size| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(Part::of(Encoded::new(vec![b'x'; size].into(), None)))
        });
        (Answer::new(Box::pin(parts.chain(stream::pending())), Arc::new(())), asked)
    }

    fn next(answer: &Answer) -> Option<Result<Frame<Bytes>, Status>> {
        match answer.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => Some(frame.expect("no end without a status")),
            Poll::Pending => None,
        }
    }

    fn data(answer: &Answer) -> Option<Bytes> {
        next(answer).map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[test]
    fn the_transport_has_a_few_frames_and_no_message_is_asked_for_before_it_has_taken_the_last() {
        let (answer, asked) = answer(&[5 * FRAME_BYTES, 100, FRAME_BYTES - 150, 100]);
        let mut taken: Vec<Bytes> = std::iter::from_fn(|| data(&answer)).collect();
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [FRAME_BYTES; FLIGHTS_MAX]);
        taken.clear();
        taken.extend(std::iter::from_fn(|| data(&answer)));
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [FRAME_BYTES; 2]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // Whole messages as far as they fit.
        taken.clear();
        taken.extend(std::iter::from_fn(|| data(&answer)));
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [FRAME_BYTES - 50, 100]);
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn an_end_is_said_where_a_message_ends() {
        let code = |frame: Frame<Bytes>| frame.into_trailers().unwrap()["grpc-status"].clone();
        let (whole, _) = answer(&[100]);
        let frame = data(&whole).unwrap();
        assert!(data(&whole).is_none());
        whole.cut(Status::resource_exhausted("unread"));
        assert_eq!(code(next(&whole).unwrap().unwrap()), "8");
        drop(frame);

        let (ended, _) = answer(&[2 * FRAME_BYTES, 100]);
        data(&ended).unwrap();
        ended.end(Status::unauthenticated("revoked"));
        assert_eq!(data(&ended).unwrap().len(), FRAME_BYTES);
        assert_eq!(code(next(&ended).unwrap().unwrap()), "16");

        let (cut, _) = answer(&[2 * FRAME_BYTES]);
        let frame = data(&cut).unwrap();
        assert!(cut.unread_for() < Duration::from_secs(60));
        cut.cut(Status::resource_exhausted("unread"));
        cut.end(Status::unauthenticated("revoked"));
        assert_eq!(next(&cut).unwrap().unwrap_err().code(), tonic::Code::ResourceExhausted);
        drop(frame);
        assert_eq!(cut.unread_for(), Duration::ZERO);
    }
}
