//! How answers are sent that may be much, whichever service they are of.
//!
//! A handler that watches leaves an [`Outgoing`] in its answer, and [`StreamLayer`] sends it, as it does what is
//! [large](whole) of one message:
//!
//! 1. Messages are encoded by themselves ([`Part`]): an encoder that serves a whole stream keeps a buffer as large as
//!    the largest of its messages, of those who wait, too.
//! 2. What lies ready takes [`room`]; [`body`] hands it to the transport little by little.
//! 3. A supervisor looks twice a second whether somebody reads, and whether the key still allows a watch.

mod body;
mod room;
mod whole;

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::{self, TryStreamExt as _, try_unfold};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use parking_lot::Mutex;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::auth::Gate;
use crate::call::Call;
use crate::fault::{Fault, to_status};
use body::{Answer, AnswerBody};
pub(crate) use room::{Held, Room};
pub(crate) use whole::ANSWER_BYTES_MAX;

/// How often an answer is looked after; a key that is revoked is believed for a second more (see [`Gate`]).
const LOOK: Duration = Duration::from_millis(500);
/// Who takes nothing for so long is ended.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// The same, where somebody waits for the room that it takes.
const UNREAD_IN_THE_WAY_MAX: Duration = Duration::from_secs(5);
/// While Postgres is away no key can be checked: for so long it is believed.
const UNCHECKED_MAX: Duration = Duration::from_secs(10);

type Source = Pin<Box<dyn Stream<Item = Result<Part, Status>> + Send>>;
type Place = Arc<dyn Any + Send + Sync>;

/// What a method that watches has tonic send: the messages go past its encoder.
pub(crate) type Nothing<M> = stream::Empty<Result<M, Status>>;

/// A message as it is on the wire, with the room it takes.
#[derive(Debug)]
pub(crate) struct Encoded {
    bytes: Bytes,
    held: Option<Held>,
}

impl Encoded {
    pub(crate) fn new(bytes: Bytes, held: Option<Held>) -> Arc<Self> {
        Arc::new(Self { bytes, held })
    }
}

/// What is left of a message that one watch is to be sent; others may be sent the same.
#[derive(Debug)]
pub(crate) struct Part {
    message: Arc<Encoded>,
    rest: Bytes,
}

impl Part {
    /// Few bytes, as heartbeats have.
    pub(crate) fn small(message: &impl Message) -> Self {
        Self::of(Encoded::new(encode(message), None))
    }

    pub(crate) fn of(message: Arc<Encoded>) -> Self {
        let rest = message.bytes.clone();
        Self { message, rest }
    }

    fn is_begun(&self) -> bool {
        self.rest.len() < self.message.bytes.len()
    }

    fn is_in_the_way(&self) -> bool {
        self.message.held.as_ref().is_some_and(Held::is_wanted)
    }
}

/// With the prefix of gRPC.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    bytes.put_u32(length as u32);
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// What a method watches.
pub(crate) trait Watched: Send + 'static {
    /// The next message, which is asked for when the one before has been taken; `None`: there is none any more.
    fn next(&mut self) -> impl Future<Output = Result<Option<Part>, Fault>> + Send;
}

/// The messages of a watch. In extensions, which must be cloneable: the layer takes it from there.
#[derive(Clone)]
pub(crate) struct Outgoing(Arc<Mutex<Option<(Source, Place)>>>);

impl Outgoing {
    /// `place` is kept until the transport is done with the answer.
    pub(crate) fn new(call: &Call, place: Place, watched: impl Watched) -> Self {
        let id = Arc::clone(&call.id);
        let parts = try_unfold(watched, |mut watched| async move {
            Ok(watched.next().await?.map(|part| (part, watched)))
        });
        let source: Source = Box::pin(parts.map_err(move |fault| to_status(&fault, &id)));
        Self(Arc::new(Mutex::new(Some((source, place)))))
    }
}

/// The answer of a method that watches.
pub(crate) fn answer<M>(
    call: &Call,
    begun: Result<Outgoing, Fault>,
) -> Result<tonic::Response<Nothing<M>>, Status> {
    let outgoing = begun.map_err(|fault| to_status(&fault, &call.id))?;
    let mut response = tonic::Response::new(stream::empty());
    response.extensions_mut().insert(outgoing);
    Ok(response)
}

/// Sends what methods that watch leave in their answers, and what is large.
#[derive(Clone)]
pub(crate) struct StreamLayer {
    gate: Arc<Gate>,
    /// Of answers of one message.
    room: Arc<Room>,
}

impl StreamLayer {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, room: Arc::new(whole::room()) }
    }

    async fn send(self, asked: Asked, mut response: Response<Body>) -> Response<Body> {
        let outgoing = response.extensions_mut().remove::<Outgoing>();
        let answer = if let Some((source, place)) = outgoing.and_then(|outgoing| outgoing.0.lock().take()) {
            Answer::new(source, place)
        } else {
            match whole::large(&self.room, asked.call.scope(), response.body_mut()).await {
                Ok(Some(message)) => Answer::of(message),
                Ok(None) => return response,
                Err(fault) => return to_status(&fault, &asked.call.id).into_http(),
            }
        };
        let answer = Arc::new(answer);
        let supervised = Arc::clone(&answer);
        let supervisor = tokio::spawn(async move { supervise(&supervised, &self.gate, &asked).await });
        *response.body_mut() = Body::new(AnswerBody { answer, supervisor: supervisor.abort_handle() });
        response
    }
}

impl<S> Layer<S> for StreamLayer {
    type Service = Streaming<S>;

    fn layer(&self, inner: S) -> Streaming<S> {
        Streaming { inner, layer: self.clone() }
    }
}

/// A service whose answers are sent and looked after.
#[derive(Clone)]
pub(crate) struct Streaming<S> {
    inner: S,
    layer: StreamLayer,
}

impl<S> Service<Request<Body>> for Streaming<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = Asked::of(&request);
        let layer = self.layer.clone();
        let answered = self.inner.call(request);
        Box::pin(async move {
            let response = answered.await?;
            Ok(match asked {
                Some(asked) => layer.send(asked, response).await,
                None => response,
            })
        })
    }
}

/// Who asked for what may be much.
struct Asked {
    call: Call,
    key: Option<HeaderValue>,
}

impl Asked {
    fn of(request: &Request<Body>) -> Option<Self> {
        let call = request.extensions().get::<Call>().filter(|call| call.method.may_answer_much())?;
        Some(Self { call: call.clone(), key: request.headers().get(AUTHORIZATION).cloned() })
    }
}

/// Ends an answer that nobody reads, and a watch whose key no longer allows it.
async fn supervise(answer: &Answer, gate: &Gate, asked: &Asked) {
    let (mut checked, mut is_watch) = (Instant::now(), asked.call.method.is_stream);
    loop {
        tokio::time::sleep(LOOK).await;
        let bound = if answer.is_in_the_way() { UNREAD_IN_THE_WAY_MAX } else { UNREAD_MAX };
        if answer.unread_for() >= bound {
            return answer.cut(to_status(&Fault::Unread(bound), &asked.call.id));
        }
        if !is_watch {
            continue;
        }
        match gate.admit(asked.call.method, asked.key.as_ref()).await {
            Ok(_) => checked = Instant::now(),
            Err(denied) if denied.fault.is_of_the_store() && checked.elapsed() < UNCHECKED_MAX => {}
            Err(denied) => {
                is_watch = false;
                answer.end(to_status(&denied.fault, &asked.call.id));
            }
        }
    }
}
