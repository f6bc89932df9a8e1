//! Keys that a scheme has to fetch: certificates, key sets, a provider's word. Through the egress
//! guard, and kept.
//!
//! Everything is bounded (invariant 7): the bytes kept, how long they count, how large an answer is, how
//! long it takes and how many are out at once. Requests that want the same wait for one fetch. A failure
//! is kept too, for a short while, so that a provider that is away is not asked by every request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use url::Url;

use crate::egress::{EgressGuard, EgressRequest, EgressSendError};
use crate::scheme::{CompiledScheme, Key, KeyFetch, VerifyError};
use crate::secrets::Secret;

const ANSWER_BYTES_MAX: usize = 256 * 1024;
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;
const FETCHES_MAX: usize = 32;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const KEYS_KEPT: Duration = Duration::from_secs(3600);
/// What a provider said of one object may change.
const CONFIRMATION_KEPT: Duration = Duration::from_secs(30);
const FAILURE_KEPT: Duration = Duration::from_secs(10);
/// A key that is not in a set this young will not be in the next one either.
const SET_YOUNG: Duration = Duration::from_secs(60);

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Send(#[from] EgressSendError),
    #[error("the answer has the status {0}")]
    Status(u16),
    #[error("the answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("too many keys are being fetched")]
    Busy,
}

/// What tells one fetch from another; what goes along is hashed, since it may be a secret.
type What = (Url, [u8; 32]);

#[derive(Debug, Clone)]
struct Kept {
    answer: Result<Bytes, FetchError>,
    since: Instant,
    confirms: bool,
}

struct Freshness;

impl Expiry<What, Kept> for Freshness {
    fn expire_after_create(&self, _: &What, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(match &kept.answer {
            Err(_) => FAILURE_KEPT,
            Ok(_) if kept.confirms => CONFIRMATION_KEPT,
            Ok(_) => KEYS_KEPT,
        })
    }
}

/// Fetches, and keeps. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FetchedKeys {
    guard: EgressGuard,
    kept: Cache<What, Kept>,
    permits: Arc<Semaphore>,
}

impl FetchedKeys {
    pub fn new(guard: EgressGuard) -> Self {
        let weight = |(url, _): &What, kept: &Kept| {
            let body = kept.answer.as_ref().map_or(0, Bytes::len);
            u32::try_from(url.as_str().len() + body + 256).unwrap_or(u32::MAX)
        };
        let kept =
            Cache::builder().max_capacity(KEPT_BYTES_MAX).weigher(weight).expire_after(Freshness).build();
        Self { guard, kept, permits: Arc::new(Semaphore::new(FETCHES_MAX)) }
    }

    /// The keys that a request is verified with.
    pub async fn keys(
        &self,
        scheme: &CompiledScheme,
        fetch: &KeyFetch,
        now: DateTime<Utc>,
    ) -> Result<Vec<Key>, VerifyError> {
        let what = what(fetch);
        let mut kept = self.get(&what, fetch).await;
        let mut keys = read(scheme, fetch, &kept, now)?;
        let named = fetch.key_id.as_deref();
        if named.is_some_and(|named| !keys.iter().any(|key| key.may_be(named)))
            && kept.since.elapsed() > SET_YOUNG
        {
            // The provider has new keys since.
            self.kept.invalidate(&what).await;
            kept = self.get(&what, fetch).await;
            keys = read(scheme, fetch, &kept, now)?;
        }
        Ok(keys)
    }

    /// Visits a URL once, for what the visit does.
    pub async fn visit(&self, url: Url) -> Result<(), VerifyError> {
        let fetch = KeyFetch { url, body: None, bearer: None, key_id: None, confirms: true };
        self.fetch(&fetch).await.map(drop).map_err(|error| away(&error))
    }

    async fn get(&self, what: &What, fetch: &KeyFetch) -> Kept {
        let fetched = async {
            let answer = self.fetch(fetch).await;
            let outcome = if answer.is_ok() { "ok" } else { "failed" };
            metrics::counter!("bowline_core_key_fetches_total", "outcome" => outcome).increment(1);
            if let Err(error) = &answer {
                tracing::warn!(host = fetch.url.host_str(), %error, "keys could not be fetched");
            }
            Kept { answer, since: Instant::now(), confirms: fetch.confirms }
        };
        self.kept.get_with_by_ref(what, fetched).await
    }

    async fn fetch(&self, fetch: &KeyFetch) -> Result<Bytes, FetchError> {
        let _permit = self.permits.try_acquire().map_err(|_| FetchError::Busy)?;
        let method = if fetch.body.is_some() { Method::POST } else { Method::GET };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(bearer) = &fetch.bearer
            && let Ok(mut value) = HeaderValue::from_bytes(&[b"Bearer ", bearer.expose()].concat())
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut body = Bytes::new();
        if let Some(given) = &fetch.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            body = given.expose().to_vec().into();
        }
        let url = fetch.url.clone();
        let request = EgressRequest { method, url, headers, body, timeout: FETCH_TIMEOUT };
        let mut response = self.guard.send(request).await?;
        if !response.status.is_success() {
            return Err(FetchError::Status(response.status.as_u16()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(FetchError::TooLarge);
            }
            // That there is such an object is all that is asked.
            if !fetch.confirms {
                body.extend_from_slice(&chunk);
            }
        }
        Ok(body.freeze())
    }
}

fn what(fetch: &KeyFetch) -> What {
    let along =
        [&fetch.body, &fetch.bearer].map(|part| part.as_ref().map(Secret::expose).unwrap_or_default());
    let mut hash = Sha256::new();
    for part in along {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    (fetch.url.clone(), hash.finalize().into())
}

fn read(
    scheme: &CompiledScheme,
    fetch: &KeyFetch,
    kept: &Kept,
    now: DateTime<Utc>,
) -> Result<Vec<Key>, VerifyError> {
    match &kept.answer {
        Ok(body) => scheme
            .read_fetched(fetch, body, now)
            .map_err(|fault| VerifyError::KeysAway { problem: fault.to_string() }),
        // The provider was asked, and knows no such thing.
        Err(FetchError::Status(404 | 410)) if fetch.confirms => Err(VerifyError::NotConfirmed),
        Err(error) => Err(away(error)),
    }
}

fn away(error: &FetchError) -> VerifyError {
    VerifyError::KeysAway { problem: error.to_string() }
}

#[cfg(test)]
#[path = "fetched_keys_tests.rs"]
mod tests;
