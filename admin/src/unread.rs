//! Answers that nobody reads. A client says how much it is ready to take, which may be nothing: what it has asked for
//! then waits here. So the bytes that wait are bounded, in all and of each tenant, they are handed on in pieces, and an
//! answer of which no piece is taken for a while goes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::id::TenantId;
use bytes::{Buf as _, Bytes};
use futures_util::stream::unfold;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;
use tonic::body::Body;

use crate::fault::Fault;

/// The largest answer, such as a page of a thousand endpoints with all their headers; a tenant may have as much
/// waiting.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const BYTES_MAX: usize = 2 * ANSWER_BYTES_MAX;
/// No more of an answer is handed to its connection than it is ready to send, and this.
const PIECE_BYTES: usize = 16 * 1024;
/// A smaller answer is not counted: its stream takes as much by itself.
const SMALL_BYTES: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes of answers that wait, by who asked; `None` is whoever may see every tenant.
#[derive(Debug)]
pub(crate) struct Answers {
    waiting: Mutex<HashMap<Option<TenantId>, usize>>,
    patience: Duration,
}

impl Default for Answers {
    fn default() -> Self {
        Self { waiting: Mutex::default(), patience: PATIENCE }
    }
}

impl Answers {
    /// The same answer, counted until it is read. Not for streams: the first message is waited for.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
        response: Response<Body>,
    ) -> Result<Response<Body>, Fault> {
        let (head, mut rest) = response.into_parts();
        let body = match rest.frame().await {
            None => Body::empty(),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) if bytes.len() > SMALL_BYTES => {
                    let place = self.place(tenant, bytes.len()).ok_or(Fault::AnswersUnread)?;
                    Reading::begin(bytes, place, rest, self.patience)
                }
                Ok(bytes) => followed(Ok(Frame::data(bytes)), rest),
                Err(trailers) => followed(Ok(trailers), rest),
            },
            Some(Err(status)) => followed(Err(status), rest),
        };
        Ok(Response::from_parts(head, body))
    }

    fn place(self: &Arc<Self>, tenant: Option<TenantId>, bytes: usize) -> Option<Place> {
        let mut waiting = self.waiting.lock();
        let total: usize = waiting.values().sum();
        let own = waiting.get(&tenant).copied().unwrap_or(0);
        // The largest answer has its place, with what frames it.
        let fits = own == 0 || own + bytes <= ANSWER_BYTES_MAX;
        if !fits || total + bytes > BYTES_MAX {
            return None;
        }
        waiting.insert(tenant, own + bytes);
        Some(Place { of: Arc::clone(self), tenant, bytes })
    }
}

fn followed(first: Result<Frame<Bytes>, Status>, rest: Body) -> Body {
    Body::new(StreamBody::new(unfold((Some(first), rest), |(first, mut rest)| async move {
        let next = match first {
            Some(first) => first,
            None => rest.frame().await?,
        };
        Some((next, (None, rest)))
    })))
}

/// So many bytes that wait.
#[derive(Debug)]
struct Place {
    of: Arc<Answers>,
    tenant: Option<TenantId>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.of.waiting.lock();
        if let Some(own) = waiting.get_mut(&self.tenant) {
            *own -= self.bytes;
            if *own == 0 {
                waiting.remove(&self.tenant);
            }
        }
    }
}

/// What of an answer has not been taken.
#[derive(Debug)]
struct Unread {
    bytes: Bytes,
    taken_at: Instant,
    _place: Place,
}

/// An answer while it is read; `None` once it has been given up.
struct Reading {
    unread: Arc<Mutex<Option<Unread>>>,
    /// What follows the message.
    rest: Body,
    _patience: AbortOnDropHandle<()>,
}

impl Reading {
    fn begin(bytes: Bytes, place: Place, rest: Body, patience: Duration) -> Body {
        let unread = Arc::new(Mutex::new(Some(Unread { bytes, taken_at: Instant::now(), _place: place })));
        let patience = AbortOnDropHandle::new(tokio::spawn(give_up(Arc::clone(&unread), patience)));
        let reading = Self { unread, rest, _patience: patience };
        Body::new(StreamBody::new(unfold(reading, Self::next)))
    }

    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Status>, Self)> {
        let piece = match &mut *self.unread.lock() {
            None => {
                Some(Err(Status::deadline_exceeded("nothing of the answer was read for a while: ask again")))
            }
            Some(unread) if unread.bytes.has_remaining() => {
                unread.taken_at = Instant::now();
                let length = PIECE_BYTES.min(unread.bytes.len());
                // Copied: a piece of the whole would keep the whole.
                let piece = Bytes::copy_from_slice(&unread.bytes[..length]);
                unread.bytes.advance(length);
                Some(Ok(Frame::data(piece)))
            }
            Some(_) => None,
        };
        match piece {
            Some(piece) => Some((piece, self)),
            None => Some((self.rest.frame().await?, self)),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // The task that would give it up may be dropped later.
        *self.unread.lock() = None;
    }
}

/// Nobody may ever ask for the next piece: what waits goes all the same.
async fn give_up(unread: Arc<Mutex<Option<Unread>>>, patience: Duration) {
    loop {
        let Some(taken_at) = unread.lock().as_ref().map(|unread| unread.taken_at) else { return };
        tokio::time::sleep_until(taken_at + patience).await;
        let mut unread = unread.lock();
        if unread.as_ref().is_some_and(|unread| unread.taken_at == taken_at) {
            *unread = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Response<Body> {
        Response::new(Body::new(http_body_util::Full::new(Bytes::from(vec![7; bytes]))))
    }

    fn tenant(number: u128) -> TenantId {
        TenantId(uuid::Uuid::from_u128(number))
    }

    async fn length(answer: Response<Body>) -> Result<usize, Status> {
        answer.into_body().collect().await.map(|body| body.to_bytes().len())
    }

    #[tokio::test]
    async fn an_answer_is_what_it_was() {
        let answers = Arc::new(Answers::default());
        for bytes in [0, 1, SMALL_BYTES, SMALL_BYTES + 1, PIECE_BYTES, 5 * PIECE_BYTES + 3] {
            let held = answers.hold(Some(tenant(1)), answer(bytes)).await.unwrap();
            assert_eq!(length(held).await.unwrap(), bytes);
            assert!(answers.waiting.lock().is_empty());
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_all_and_of_each_tenant() {
        let answers = Arc::new(Answers::default());
        let half = ANSWER_BYTES_MAX / 2;
        let mut held = Vec::new();
        for (asking, fits) in [(1, true), (1, true), (1, false), (2, true), (2, true), (3, false)] {
            let answer = answers.hold(Some(tenant(asking)), answer(half)).await;
            assert_eq!(answer.is_ok(), fits, "tenant {asking}");
            held.extend(answer);
        }
        assert!(answers.hold(Some(tenant(3)), answer(SMALL_BYTES)).await.is_ok(), "small ones always fit");
        held.remove(0);
        assert!(answers.hold(Some(tenant(3)), answer(half)).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_not_read_goes() {
        let answers = Arc::new(Answers { patience: Duration::from_millis(10), ..Answers::default() });
        let unread = answers.hold(Some(tenant(1)), answer(ANSWER_BYTES_MAX)).await.unwrap();
        let gone = async {
            while !answers.waiting.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
        assert_eq!(length(unread).await.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}
