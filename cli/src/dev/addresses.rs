//! Where each process listens: as told, else where it did in this data folder before, else anywhere.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::ready::{Ready, write_private};
use crate::failure::Failure;
use crate::local::port;

/// In the data folder.
const FILE: &str = "ports.json";

/// Where each process listens. Chosen at the start and kept over the restarts of a process: URLs that
/// were handed out stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Addresses {
    pub(super) ingest: Vec<Listen>,
    pub(super) dispatchers: Vec<Listen>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listen {
    pub(super) http: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) ops: SocketAddr,
}

/// What is wanted of the addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) ingest: u16,
    pub(super) dispatchers: u16,
    /// Of the first ingest.
    pub(super) http: Option<SocketAddr>,
    /// Of the first ingest.
    pub(super) admin: Option<SocketAddr>,
}

impl Addresses {
    /// Chooses them, and notes them in the data folder for the next time.
    ///
    /// # Errors
    /// When a wanted address is taken, no port is free, or the folder cannot be used.
    pub(super) fn choose(wanted: Wanted, data: Option<&Path>) -> Result<Self, Failure> {
        let before = data.map(Self::before).transpose()?.unwrap_or_default();
        let mut choice = Choice::default();
        for (flag, address) in [("--ingest-listen", wanted.http), ("--admin-listen", wanted.admin)] {
            if let Some(address) = address {
                choice.pin(flag, address)?;
            }
        }
        let mut tier = |count: u16, before: &[Listen], pins: [Option<SocketAddr>; 2]| {
            let mut chosen: Vec<Listen> = Vec::new();
            for index in 0..usize::from(count) {
                let kept = before.get(index);
                let [http, admin] = if index == 0 { pins } else { [None; 2] };
                chosen.push(Listen {
                    http: choice.take(http, kept.map(|listen| listen.http))?,
                    admin: choice.take(admin, kept.map(|listen| listen.admin))?,
                    ops: choice.take(None, kept.map(|listen| listen.ops))?,
                });
            }
            Ok::<_, Failure>(chosen)
        };
        let chosen = Self {
            ingest: tier(wanted.ingest, &before.ingest, [wanted.http, wanted.admin])?,
            dispatchers: tier(wanted.dispatchers, &before.dispatchers, [None; 2])?,
        };
        if let Some(folder) = data {
            chosen.keep(folder, &before)?;
        }
        Ok(chosen)
    }

    fn before(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // One that another version wrote costs no more than new ports.
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Those of processes that do not run this time are kept too.
    fn keep(&self, folder: &Path, before: &Self) -> anyhow::Result<()> {
        let mut kept = self.clone();
        kept.ingest.extend(before.ingest.iter().skip(self.ingest.len()).cloned());
        kept.dispatchers.extend(before.dispatchers.iter().skip(self.dispatchers.len()).cloned());
        let path = folder.join(FILE);
        write_private(&path, &serde_json::to_string_pretty(&kept)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub(super) fn tell(&self, ready: &mut Ready) {
        ready.ingest_urls = self.ingest.iter().map(|listen| url(listen.http)).collect();
        ready.ingest_url = ready.ingest_urls.first().cloned().unwrap_or_default();
        let all = || self.ingest.iter().chain(&self.dispatchers);
        ready.admin_urls = all().map(|listen| url(listen.admin)).collect();
        ready.ops_urls = all().map(|listen| url(listen.ops)).collect();
        ready.pids.ingest = vec![0; self.ingest.len()];
        ready.pids.dispatcher = vec![0; self.dispatchers.len()];
    }
}

/// The URL by which this machine reaches the address.
pub(super) fn url(address: SocketAddr) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    format!("http://{address}")
}

/// Addresses that were given out, none of them twice.
#[derive(Debug, Default)]
struct Choice {
    ports: Vec<u16>,
}

impl Choice {
    fn pin(&mut self, flag: &str, address: SocketAddr) -> Result<(), Failure> {
        if self.ports.contains(&address.port()) {
            return Err(Failure::Usage(format!("{flag} {address}: this port is asked for twice")));
        }
        TcpListener::bind(address)
            .map_err(|error| Failure::Configuration(format!("{flag} {address}: {error}")))?;
        self.ports.push(address.port());
        Ok(())
    }

    fn take(&mut self, pinned: Option<SocketAddr>, kept: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
        if let Some(pinned) = pinned {
            return Ok(pinned);
        }
        let free = |address: &SocketAddr| {
            !self.ports.contains(&address.port()) && TcpListener::bind(address).is_ok()
        };
        let address = match kept.filter(free) {
            Some(kept) => kept,
            None => self.any()?,
        };
        self.ports.push(address.port());
        Ok(address)
    }

    fn any(&self) -> Result<SocketAddr, Failure> {
        loop {
            let port = port::free()?;
            if !self.ports.contains(&port) {
                return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Wanted = Wanted { ingest: 1, dispatchers: 1, http: None, admin: None };

    fn folder() -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("bowline-ports-{:x}", rand::random::<u64>()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn they_are_the_same_again_where_they_are_free() {
        let folder = folder();
        let first = Addresses::choose(Wanted { dispatchers: 2, ..TWO }, Some(&folder)).unwrap();
        let fewer = Addresses::choose(TWO, Some(&folder)).unwrap();
        assert_eq!((&fewer.ingest, &fewer.dispatchers[..]), (&first.ingest, &first.dispatchers[..1]));
        let taken = TcpListener::bind(first.ingest[0].http).unwrap();
        let other = Addresses::choose(Wanted { dispatchers: 2, ..TWO }, Some(&folder)).unwrap();
        assert_ne!(other.ingest[0].http, first.ingest[0].http);
        assert_eq!((other.ingest[0].admin, &other.dispatchers), (first.ingest[0].admin, &first.dispatchers));
        drop(taken);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_wanted_one_is_taken_or_named() {
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free().unwrap()));
        let wanted = Wanted { http: Some(at), ..TWO };
        assert_eq!(Addresses::choose(wanted, None).unwrap().ingest[0].http, at);
        let twice = Addresses::choose(Wanted { admin: Some(at), ..wanted }, None).unwrap_err();
        assert!(twice.to_string().contains("--admin-listen"), "{twice}");
        let _taken = TcpListener::bind(at).unwrap();
        let refused = Addresses::choose(wanted, None).unwrap_err().to_string();
        assert!(refused.contains("--ingest-listen") && refused.contains(&at.to_string()), "{refused}");
    }

    #[test]
    fn the_url_of_every_address_is_loopback() {
        assert_eq!(url(([0, 0, 0, 0], 80).into()), "http://127.0.0.1:80");
        assert_eq!(url(([127, 0, 0, 2], 80).into()), "http://127.0.0.2:80");
    }
}
