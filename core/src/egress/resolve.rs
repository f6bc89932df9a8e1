//! Names to checked addresses.
//!
//! The system's resolver blocks a thread for as long as it pleases, so look-ups of one name are
//! shared, those of all names are few at a time, and none is awaited longer than a bound: an
//! endpoint whose name servers hang holds one thread, not a pool of them (invariant 5).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::policy::{EgressError, EgressPolicy};

/// Look-ups that may block a thread at a time (tokio has 512 such threads).
const LOOKUPS_MAX: usize = 192;
/// Names looked up or waiting to be.
const NAMES_MAX: usize = 8192;
/// Answers with more addresses than this are cut: a connection tries a few at most.
const ADDRESSES_MAX: usize = 64;

/// Asks the system for the addresses of a name.
pub(super) type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("the name could not be resolved: {0}")]
    Lookup(String),
    #[error("the name has no address")]
    NoAddress,
    #[error("the name was not resolved within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("too many names are being resolved")]
    Busy,
}

/// Why a name leads nowhere.
#[derive(Debug)]
pub(super) enum LookupError {
    Refused(EgressError),
    Resolve(ResolveError),
}

type Answer = Result<Arc<[IpAddr]>, ResolveError>;
type InFlight = Arc<Mutex<HashMap<String, watch::Receiver<Option<Answer>>>>>;

/// Resolves names and lets through only those of which every address may be reached.
pub(super) struct GuardedResolver {
    policy: Arc<EgressPolicy>,
    lookup: Lookup,
    timeout: Duration,
    permits: Arc<Semaphore>,
    in_flight: InFlight,
}

impl fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedResolver").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl GuardedResolver {
    pub(super) fn new(policy: Arc<EgressPolicy>, lookup: Lookup, timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { policy, lookup, timeout, permits, in_flight: InFlight::default() }
    }

    /// The answer of a look-up that is under way for this name, or of a new one.
    fn ask(&self, name: &str) -> Result<watch::Receiver<Option<Answer>>, ResolveError> {
        let mut in_flight = self.in_flight.lock();
        if let Some(answer) = in_flight.get(name) {
            return Ok(answer.clone());
        }
        if in_flight.len() >= NAMES_MAX {
            return Err(ResolveError::Busy);
        }
        let (sender, receiver) = watch::channel(None);
        in_flight.insert(name.to_owned(), receiver.clone());
        drop(in_flight);
        // A task of its own: it outlives a caller that gave up, and keeps its permit until the
        // thread below it is free again.
        let (permits, names) = (Arc::clone(&self.permits), Arc::clone(&self.in_flight));
        let (lookup, name) = (Arc::clone(&self.lookup), name.to_owned());
        tokio::spawn(async move {
            let leave = Leave { names, name: name.clone() };
            let permit = permits.acquire_owned().await;
            let found = lookup(name).await;
            drop(permit);
            drop(leave);
            // Nobody may be left to hear it.
            let _ = sender.send(Some(to_answer(found)));
        });
        Ok(receiver)
    }
}

/// Takes the name off the list however the look-up ends.
struct Leave {
    names: InFlight,
    name: String,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
    }
}

fn to_answer(found: io::Result<Vec<IpAddr>>) -> Answer {
    match found {
        Err(error) => Err(ResolveError::Lookup(error.to_string())),
        Ok(addresses) if addresses.is_empty() => Err(ResolveError::NoAddress),
        Ok(addresses) => Ok(addresses.into()),
    }
}

async fn await_answer(mut receiver: watch::Receiver<Option<Answer>>, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, receiver.wait_for(Option::is_some)).await {
        Err(_) => Err(ResolveError::Timeout(timeout)),
        Ok(Err(_)) => Err(ResolveError::Lookup("the look-up broke off".into())),
        Ok(Ok(answer)) => answer.clone().unwrap_or(Err(ResolveError::NoAddress)),
    }
}

impl GuardedResolver {
    /// The addresses of a name, every one of them checked before any is used.
    pub(super) async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, LookupError> {
        let asked = self.ask(name).map_err(LookupError::Resolve)?;
        let addresses = await_answer(asked, self.timeout).await.map_err(LookupError::Resolve)?;
        for address in addresses.iter() {
            self.check(name, *address).map_err(LookupError::Refused)?;
        }
        if addresses.len() > ADDRESSES_MAX {
            return Ok(addresses[..ADDRESSES_MAX].into());
        }
        Ok(addresses)
    }

    /// Whether an address, found under this name or given in its place, may be connected to.
    pub(super) fn check(&self, name: &str, address: IpAddr) -> Result<(), EgressError> {
        self.policy.check_address(name, address).inspect_err(|_| {
            tracing::debug!(host = name, %address, "egress refused: address of a host");
        })
    }
}
