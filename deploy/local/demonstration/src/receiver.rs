//! A customer's receiver: a real HTTP server that checks each signature and answers as it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::signature::Receives;

const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The newest are kept; a live receiver may run for days.
const ARRIVALS_MAX: usize = 20_000;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the receiver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    /// 500 to the first so many requests of each delivery, then 200.
    FailFirst(u32),
    AlwaysFail,
    /// Nothing until another answer is set, then that.
    Hold,
}

/// One request that came in whole.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// Counts the requests of this receiver, from 1.
    pub(crate) number: u64,
    /// `webhook-id`: the event's id, the same over all attempts.
    pub(crate) id: String,
    /// `Bowline-Attempt`.
    pub(crate) attempt: u32,
    pub(crate) at: Instant,
    pub(crate) body: Bytes,
    /// Nothing, or what was wrong with its signature.
    pub(crate) fault: Option<String>,
    /// 0 until it was answered.
    pub(crate) status: u16,
}

/// A running receiver; dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    receives: Mutex<Option<Receives>>,
    answer: watch::Sender<Answer>,
    arrivals: watch::Sender<Vec<Arrival>>,
}

impl Receiver {
    /// Listens on a free port of this machine.
    pub(crate) async fn start(answer: Answer) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let url = format!("http://{}/hooks", listener.local_addr()?);
        let shared = Arc::new(Shared {
            receives: Mutex::new(None),
            answer: watch::Sender::new(answer),
            arrivals: watch::Sender::new(Vec::new()),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { url, shared, task })
    }

    /// How it checks, known once the endpoint exists.
    pub(crate) fn expect(&self, receives: Receives) {
        *self.shared.receives.lock() = Some(receives);
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.shared.answer.send_replace(answer);
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals.borrow().clone()
    }

    /// Requests of one event, in the order they came.
    pub(crate) fn of(&self, id: &str) -> Vec<Arrival> {
        self.shared.arrivals.borrow().iter().filter(|arrival| arrival.id == id).cloned().collect()
    }

    /// Hears of every change of the arrivals.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Vec<Arrival>> {
        self.shared.arrivals.subscribe()
    }

    /// Waits until the arrivals are as they should be.
    pub(crate) async fn until(
        &self,
        what: &str,
        within: Duration,
        mut enough: impl FnMut(&[Arrival]) -> bool,
    ) -> anyhow::Result<()> {
        let mut arrivals = self.subscribe();
        let waited = tokio::time::timeout(within, arrivals.wait_for(|arrivals| enough(arrivals))).await;
        if let Ok(seen) = waited {
            seen.context("the receiver is gone")?;
            return Ok(());
        }
        bail!("{what}: not within {} s ({} requests came)", within.as_secs(), self.arrivals().len())
    }

    /// Waits until a request of this event was answered with 2xx; that request.
    pub(crate) async fn delivered(&self, id: &str, within: Duration) -> anyhow::Result<Arrival> {
        let done = |arrival: &Arrival| arrival.id == id && (200..300).contains(&arrival.status);
        self.until(&format!("{id} did not arrive"), within, |arrivals| arrivals.iter().any(done)).await?;
        let arrival = self.arrivals().into_iter().find(done).context("it arrived")?;
        match &arrival.fault {
            None => Ok(arrival),
            Some(fault) => bail!("{id} arrived, but {fault}"),
        }
    }

    /// Waits until each of these events was answered with 2xx; how many were sent more than once.
    pub(crate) async fn all_delivered(&self, ids: &[String], within: Duration) -> anyhow::Result<usize> {
        let missing = |arrivals: &[Arrival]| {
            let done: std::collections::HashSet<&str> = arrivals
                .iter()
                .filter(|arrival| (200..300).contains(&arrival.status))
                .map(|arrival| arrival.id.as_str())
                .collect();
            ids.iter().filter(|id| !done.contains(id.as_str())).count()
        };
        let waited = self.until("some did not arrive", within, |arrivals| missing(arrivals) == 0).await;
        let arrivals = self.arrivals();
        waited.with_context(|| format!("{} of {} events are missing", missing(&arrivals), ids.len()))?;
        if let Some(fault) = arrivals.iter().find_map(|arrival| arrival.fault.as_ref()) {
            bail!("a request arrived, but {fault}");
        }
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for arrival in &arrivals {
            *times.entry(&arrival.id).or_default() += 1;
        }
        Ok(ids.iter().filter(|id| times.get(id.as_str()).is_some_and(|times| *times > 1)).count())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A connection that was gone before it was accepted is the sender's loss.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, shared.clone()));
            // A connection that breaks is what a sender has to live with.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(respond(StatusCode::BAD_REQUEST));
    };
    let number = shared.note(&parts.headers, body.to_bytes());
    let mut answer = shared.answer.subscribe();
    // The sender of answers lives as long as `shared`: waiting cannot fail.
    let now = answer.wait_for(|answer| *answer != Answer::Hold).await.map_or(Answer::Accept, |now| *now);
    let mut status = StatusCode::OK;
    shared.arrivals.send_modify(|arrivals| {
        let Some(arrival) = arrivals.iter_mut().rev().find(|arrival| arrival.number == number) else {
            return;
        };
        let failing = match now {
            Answer::AlwaysFail => true,
            Answer::FailFirst(count) => arrival.attempt <= count,
            Answer::Accept | Answer::Hold => false,
        };
        status = match (&arrival.fault, failing) {
            (Some(_), _) => StatusCode::UNAUTHORIZED,
            (None, true) => StatusCode::INTERNAL_SERVER_ERROR,
            (None, false) => StatusCode::OK,
        };
        arrival.status = status.as_u16();
    });
    Ok(respond(status))
}

impl Shared {
    /// The number of the arrival.
    fn note(&self, headers: &HeaderMap, body: Bytes) -> u64 {
        let fault = match &*self.receives.lock() {
            Some(receives) => receives.check(headers, &body).err(),
            None => Some("it came before the endpoint was made".to_owned()),
        };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut arrival = Arrival {
            number: 0,
            id: text("webhook-id").to_owned(),
            attempt: text("bowline-attempt").parse().unwrap_or(0),
            at: Instant::now(),
            body,
            fault,
            status: 0,
        };
        let mut number = 0;
        self.arrivals.send_modify(|arrivals| {
            number = arrivals.last().map_or(0, |last| last.number) + 1;
            arrival.number = number;
            if arrivals.len() >= ARRIVALS_MAX {
                arrivals.drain(..ARRIVALS_MAX / 2);
            }
            arrivals.push(arrival);
        });
        number
    }
}

fn respond(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature;

    const SECRET: &str = "whsec_Ym93bGluZS10ZXN0LWtleQ==";
    const BOUND: Duration = Duration::from_secs(10);

    async fn send(url: &str, id: &str, attempt: u32, secret: &str) -> u16 {
        // Another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.post(url).body("{}").header("bowline-attempt", attempt);
        for (name, value) in signature::standard(secret, id, signature::unix_now(), b"{}").unwrap() {
            request = request.header(name, value);
        }
        request.send().await.unwrap().status().as_u16()
    }

    async fn receiver(answer: Answer) -> Receiver {
        let receiver = Receiver::start(answer).await.unwrap();
        receiver.expect(Receives::Standard { secret: SECRET.to_owned() });
        receiver
    }

    #[tokio::test]
    async fn it_fails_as_often_as_told_and_counts_what_came_twice() {
        let receiver = receiver(Answer::FailFirst(2)).await;
        for (attempt, status) in [(1, 500), (2, 500), (3, 200)] {
            assert_eq!(send(&receiver.url, "evt_a", attempt, SECRET).await, status);
        }
        assert_eq!(send(&receiver.url, "evt_b", 3, SECRET).await, 200);
        let ids = ["evt_a".to_owned(), "evt_b".to_owned()];
        assert_eq!(receiver.all_delivered(&ids, BOUND).await.unwrap(), 1);
        assert_eq!(receiver.delivered("evt_a", BOUND).await.unwrap().attempt, 3);
        let missing = receiver.all_delivered(&["evt_c".to_owned()], Duration::ZERO).await.unwrap_err();
        assert!(format!("{missing:#}").contains("1 of 1 events are missing"), "{missing:#}");
    }

    #[tokio::test]
    async fn it_holds_until_told_and_refuses_a_wrong_signature() {
        let receiver = receiver(Answer::Hold).await;
        let url = receiver.url.clone();
        let held = tokio::spawn(async move { send(&url, "evt_a", 1, SECRET).await });
        receiver.until("it came", BOUND, |arrivals| arrivals.len() == 1).await.unwrap();
        assert_eq!(receiver.arrivals()[0].status, 0);
        receiver.answer(Answer::Accept);
        assert_eq!(held.await.unwrap(), 200);
        assert_eq!(send(&receiver.url, "evt_b", 1, "whsec_AAAA").await, 401);
        assert!(receiver.of("evt_b")[0].fault.is_some());
    }
}
