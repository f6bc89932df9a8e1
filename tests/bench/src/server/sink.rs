//! The customers: takes deliveries, and knows which numbers of which run it has seen, and when.
//!
//! - `/ok/NAME` answers 200 at once
//! - `/slow/MS/NAME` answers 200 after so many milliseconds
//! - `/hang/NAME` never answers
//! - `/trickle/NAME` answers 200 with a byte every tenth of a second, without end
//! - `/runs/RUN` says what was seen of a run, as a [`SinkReport`]

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::payload::Mark;
use crate::wire::{Latencies, SinkReport, unix_ns};

const TRICKLE_EVERY: Duration = Duration::from_millis(100);
/// A number beyond this is none of ours: it would only ask for memory.
const NUMBERS_MAX: u64 = 50_000_000;

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Seen = Arc<Mutex<HashMap<u32, Run>>>;

#[derive(Debug, Default)]
struct Run {
    endpoints: BTreeMap<String, Numbers>,
    duplicates: u64,
    first_unix_ns: u64,
    last_unix_ns: u64,
    latency: Latencies,
}

/// A set of numbers, a bit each.
#[derive(Debug, Default)]
struct Numbers {
    bits: Vec<u64>,
    distinct: u64,
}

impl Numbers {
    /// Returns false if it was there.
    fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.distinct += u64::from(new);
        new
    }
}

impl Run {
    fn take(&mut self, endpoint: &str, mark: Mark, now_ns: u64) {
        let numbers = match self.endpoints.get_mut(endpoint) {
            Some(numbers) => numbers,
            None => self.endpoints.entry(endpoint.to_owned()).or_default(),
        };
        if !numbers.insert(mark.number) {
            self.duplicates += 1;
        }
        if self.first_unix_ns == 0 {
            self.first_unix_ns = now_ns;
        }
        self.last_unix_ns = now_ns;
        if mark.intended_ns > 0 {
            self.latency.record(Duration::from_nanos(now_ns.saturating_sub(mark.intended_ns)));
        }
    }

    fn report(&self) -> SinkReport {
        SinkReport {
            distinct: self.endpoints.iter().map(|(name, seen)| (name.clone(), seen.distinct)).collect(),
            duplicates: self.duplicates,
            first_unix_ns: self.first_unix_ns,
            last_unix_ns: self.last_unix_ns,
            latency: self.latency.quantiles(),
        }
    }
}

pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    let seen = Seen::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| answer(Arc::clone(&seen), request));
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn answer(seen: Seen, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let mut parts = head.uri.path().trim_start_matches('/').splitn(3, '/');
    let place = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next());
    let endpoint = match place {
        ("runs", run, _) => return Ok(report(&seen, run)),
        ("ok" | "hang" | "trickle", name, _) | ("slow", _, Some(name)) => name,
        _ => return Ok(plain(StatusCode::NOT_FOUND, Bytes::new())),
    };
    let body = body.collect().await?.to_bytes();
    if let Some(mark) = Mark::read(&body).filter(|mark| mark.number <= NUMBERS_MAX) {
        let now_ns = unix_ns();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(mark.run).or_default().take(endpoint, mark, now_ns);
    }
    match place {
        ("hang", ..) => std::future::pending::<()>().await,
        ("trickle", ..) => return Ok(Response::new(trickle())),
        ("slow", ms, _) => tokio::time::sleep(Duration::from_millis(ms.parse().unwrap_or(100))).await,
        _ => {}
    }
    Ok(plain(StatusCode::OK, Bytes::from_static(b"ok")))
}

fn report(seen: &Seen, run: &str) -> Response<Body> {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let report = run.parse().ok().and_then(|run| seen.get(&run)).map(Run::report).unwrap_or_default();
    plain(StatusCode::OK, serde_json::to_vec(&report).unwrap_or_default().into())
}

/// Never silent for long, and never done.
fn trickle() -> Body {
    let bytes = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(TRICKLE_EVERY).await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"."))), ()))
    });
    StreamBody::new(bytes).boxed_unsync()
}

fn plain(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_a_duplicate_at_that_endpoint_only() {
        let mut run = Run::default();
        let mark = |number| Mark { run: 1, number, intended_ns: 1_000 };
        run.take("a", mark(70), 3_001_000);
        run.take("a", mark(70), 3_001_000);
        run.take("b", mark(70), 4_001_000);
        run.take("a", mark(0), 5_001_000);
        let report = run.report();
        assert_eq!((report.total(), report.duplicates), (3, 1));
        assert_eq!(report.distinct["a"], 2);
        assert_eq!((report.first_unix_ns, report.last_unix_ns), (3_001_000, 5_001_000));
        // True to one per cent.
        assert_eq!(report.latency.count, 4);
        assert!((4_950..=5_050).contains(&report.latency.max_us), "{:?}", report.latency);
    }
}
