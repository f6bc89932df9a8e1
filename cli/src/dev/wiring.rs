//! Who listens where, and what each service is told by its environment.

use std::path::{Path, PathBuf};

use super::addresses::{Addresses, Listen, url};
use super::ready::Ready;
use super::service::Plan;
use crate::failure::Failure;
use crate::local::binaries;

/// The environment variables of the services that may be set outside and are handed on.
const HANDED_ON: &[&str] = &["BOWLINE_LOG_", "BOWLINE_INGEST_", "BOWLINE_DISPATCHER_", "BOWLINE_EGRESS_"];
const LOOPBACK: &str = "127.0.0.0/8,::1/128";

/// Everything the services' environments are made of that the ready file does not say.
pub(super) struct Wiring {
    pub(super) addresses: Addresses,
    pub(super) keyring: String,
    /// Where the services' own ready files go, and nothing else.
    pub(super) scratch: PathBuf,
    pub(super) restart: bool,
}

impl Wiring {
    pub(super) fn ingest(&self, ready: &Ready, program: &Path) -> Vec<Plan> {
        let set_pid = |ready: &mut Ready, index: usize, pid| ready.pids.ingest[index] = pid;
        let place = Place { service: "ingest", program, ready, set_pid };
        let plan = |(index, listen): (usize, &Listen)| {
            let mut plan = self.plan(&place, index, listen);
            plan.environment.push(("BOWLINE_INGEST_LISTEN".to_owned(), listen.http.to_string()));
            plan
        };
        self.addresses.ingest.iter().enumerate().map(plan).collect()
    }

    pub(super) fn dispatchers(&self, ready: &Ready, program: &Path) -> Vec<Plan> {
        let set_pid = |ready: &mut Ready, index: usize, pid| ready.pids.dispatcher[index] = pid;
        let place = Place { service: "dispatcher", program, ready, set_pid };
        let plan = |(index, listen)| self.plan(&place, index, listen);
        self.addresses.dispatchers.iter().enumerate().map(plan).collect()
    }

    fn plan(&self, place: &Place<'_>, index: usize, listen: &Listen) -> Plan {
        let mut environment = self.environment(place.ready);
        environment.extend(owned([
            ("BOWLINE_ADMIN_LISTEN", listen.admin.to_string()),
            ("BOWLINE_OPS_LISTEN", listen.ops.to_string()),
        ]));
        Plan {
            name: format!("{}-{}", place.service, index + 1),
            program: place.program.to_path_buf(),
            environment,
            ready_file: self.scratch.join(format!("{}-{index}.json", place.service)),
            restart: self.restart,
            set_pid: place.set_pid,
            index,
        }
    }

    fn environment(&self, ready: &Ready) -> Vec<(String, String)> {
        let public_url = self.addresses.ingest.first().map(|listen| url(listen.http));
        // Development sends to receivers on this machine; what is set outside goes before.
        let mut environment = owned([
            ("BOWLINE_EGRESS_ALLOW_CIDRS", LOOPBACK.to_owned()),
            ("BOWLINE_EGRESS_ALLOW_HTTP", "true".to_owned()),
        ]);
        let outside = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        environment
            .extend(outside.filter(|(name, _)| HANDED_ON.iter().any(|prefix| name.starts_with(prefix))));
        environment.extend(owned([
            ("BOWLINE_POSTGRES_URL", ready.postgres_url.clone()),
            ("BOWLINE_REDIS_URL", ready.redis_url.clone()),
            ("BOWLINE_SECRETS_KEYRING", self.keyring.clone()),
            ("BOWLINE_ADMIN_BOOTSTRAP_KEY", ready.admin_key.clone()),
            ("BOWLINE_ADMIN_OPEN_REFLECTION", "true".to_owned()),
            ("BOWLINE_INGEST_PUBLIC_URL", public_url.unwrap_or_default()),
        ]));
        environment
    }
}

/// What all processes of one service share.
struct Place<'a> {
    service: &'static str,
    program: &'a Path,
    ready: &'a Ready,
    set_pid: fn(&mut Ready, usize, u32),
}

fn owned<const N: usize>(variables: [(&str, String); N]) -> Vec<(String, String)> {
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Where one of our service programs is.
pub(super) fn program(name: &'static str) -> Result<PathBuf, Failure> {
    binaries::sibling(name).ok_or_else(|| {
        Failure::Configuration(format!(
            "{name} is neither beside this program nor on PATH: build it with `cargo build --release`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::addresses::Wanted;
    use super::*;

    #[test]
    fn every_process_has_addresses_of_its_own_and_all_share_the_stores() {
        let wanted = Wanted { ingest: 2, dispatchers: 3, http: None, admin: None };
        let wiring = Wiring {
            addresses: Addresses::choose(wanted, None).unwrap(),
            keyring: "dev:bowline-test".to_owned(),
            scratch: PathBuf::from("/tmp"),
            restart: true,
        };
        let mut ready = Ready { postgres_url: "postgres://x".to_owned(), ..Ready::default() };
        wiring.addresses.tell(&mut ready);
        assert_eq!((ready.ingest_urls.len(), ready.admin_urls.len(), ready.ops_urls.len()), (2, 5, 5));
        let mut plans = wiring.ingest(&ready, Path::new("/i"));
        plans.extend(wiring.dispatchers(&ready, Path::new("/d")));
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["ingest-1", "ingest-2", "dispatcher-1", "dispatcher-2", "dispatcher-3"]);
        let value = |plan: &Plan, name: &str| {
            plan.environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let mut admin: Vec<_> = plans.iter().filter_map(|plan| value(plan, "BOWLINE_ADMIN_LISTEN")).collect();
        admin.sort();
        admin.dedup();
        assert_eq!(admin.len(), 5);
        for plan in &plans {
            assert_eq!(value(plan, "BOWLINE_POSTGRES_URL").as_deref(), Some("postgres://x"));
            assert_eq!(value(plan, "BOWLINE_INGEST_PUBLIC_URL").as_ref(), Some(&ready.ingest_url));
        }
        assert_eq!(value(&plans[4], "BOWLINE_INGEST_LISTEN"), None);
    }
}
