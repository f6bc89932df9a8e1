//! Answers of one message. A client says how much it is ready to take, which may be nothing: what it has asked for then
//! waits here. So a large message takes room, or is refused where there is none.

use bowline_core::id::TenantId;
use futures_util::FutureExt as _;
use futures_util::stream::{StreamExt as _, iter};
use http_body_util::{BodyExt as _, BodyStream, StreamBody};
use tonic::body::Body;

use super::{Encoded, Part, Room};
use crate::fault::Fault;

/// The largest answer, such as a page of a thousand endpoints with all their headers; a tenant may have as much
/// waiting.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A smaller answer is not counted: its stream takes as much by itself.
const SMALL_BYTES: usize = 1024;

pub(super) fn room() -> Room {
    Room::new(2 * ANSWER_BYTES_MAX, ANSWER_BYTES_MAX)
}

/// Takes the message, if it is large, and room for it.
pub(super) async fn large(
    room: &Room,
    tenant: Option<TenantId>,
    body: &mut Body,
) -> Result<Option<Part>, Fault> {
    let mut rest = std::mem::take(body);
    let first = rest.frame().await;
    let message = first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
    if let Some(message) = message.filter(|message| message.len() > SMALL_BYTES) {
        let held = room.take(tenant, message.len()).now_or_never();
        let held = held.unwrap_or(Err(Fault::AnswersUnread))?;
        return Ok(Some(Part::of(Encoded::new(message.clone(), Some(held)))));
    }
    if first.is_some() {
        *body = Body::new(StreamBody::new(iter(first).chain(BodyStream::new(rest))));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;
    use tonic::Status;

    use super::*;
    use crate::streaming::body::Answer;

    fn body(bytes: usize) -> Body {
        Body::new(Full::new(Bytes::from(vec![7; bytes])))
    }

    async fn taken(room: &Room, tenant: Option<TenantId>, bytes: usize) -> Result<Option<Part>, Fault> {
        large(room, tenant, &mut body(bytes)).await
    }

    #[tokio::test]
    async fn only_what_is_large_is_taken() {
        for bytes in [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 100_000] {
            let mut body = body(bytes);
            let taken = large(&room(), None, &mut body).await.unwrap();
            assert_eq!(taken.is_some(), bytes > SMALL_BYTES);
            let left = body.collect().await.unwrap().to_bytes().len();
            assert_eq!(left + taken.map_or(0, |part| part.rest.len()), bytes);
        }
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_all_and_of_each_tenant() {
        let room = room();
        let half = ANSWER_BYTES_MAX / 2;
        let [first, second, third] = [Some(TenantId::new()), Some(TenantId::new()), None];
        let mut held = Vec::new();
        for (asking, fits) in
            [(first, true), (first, true), (first, false), (second, true), (second, true), (third, false)]
        {
            let taken = taken(&room, asking, half).await;
            assert_eq!(taken.is_ok(), fits, "{asking:?}");
            held.extend(taken);
        }
        assert!(taken(&room, third, SMALL_BYTES).await.is_ok(), "small ones always fit");
        held.remove(0);
        assert!(taken(&room, third, half).await.is_ok());
    }

    #[tokio::test]
    async fn the_largest_has_room_with_what_frames_it_and_gives_it_back_where_it_is_cut() {
        let room = room();
        let answer = Answer::of(taken(&room, None, ANSWER_BYTES_MAX + 5).await.unwrap().unwrap());
        assert!(!answer.unread_for().is_zero(), "whether or not the transport has asked for it");
        assert!(matches!(taken(&room, None, SMALL_BYTES + 1).await, Err(Fault::AnswersUnread)));
        answer.cut(Status::resource_exhausted("unread"));
        assert!(taken(&room, None, ANSWER_BYTES_MAX).await.is_ok());
    }
}
