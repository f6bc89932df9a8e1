use bowline_core::defaults::{LANE_CAPACITY, PROMPT_LANE_CAPACITY};
use bowline_core::delivery::DeliveryKey;
use bowline_core::id::{ChunkId, EventId, ReplicaId};

use super::*;
use crate::job::{Chunk, NewJob};

const PROMPT: Option<Answered> = Some(Answered { success: true, promptly: true });
const TIMED_OUT: Option<Answered> = Some(Answered { success: false, promptly: false });

/// Of the queue.
fn job(tenant: TenantId, endpoint: EndpointId) -> Arc<Job> {
    job_of(None, tenant, endpoint)
}

fn job_of(chunk: Option<&Arc<Chunk>>, tenant: TenantId, endpoint: EndpointId) -> Arc<Job> {
    Job::new(NewJob {
        key: DeliveryKey { event_id: EventId::new(), endpoint_id: endpoint, run: 0 },
        tenant_id: tenant,
        load: None,
        chunk: chunk.map(Arc::clone),
        life: ReplicaId::new(),
        attempt: 0,
        used: 0,
        age: crate::job::Age::OfEvent,
        test: false,
    })
}

struct Site {
    turns: Turns,
    now: Instant,
}

impl Site {
    fn new(max: usize) -> Self {
        Self { turns: Turns::new(max), now: Instant::now() }
    }

    fn place(&mut self, tenant: TenantId, endpoint: EndpointId, count: usize) {
        for _ in 0..count {
            assert_eq!(self.turns.place(&job(tenant, endpoint), 16, self.now), Placed::InLane);
        }
    }

    fn start_all(&mut self) -> Vec<Turn> {
        std::iter::from_fn(|| self.turns.next(self.now)).collect()
    }

    fn end(&mut self, turns: Vec<Turn>, answered: Option<Answered>) {
        for turn in turns {
            self.turns.end(turn.number, answered, self.now);
        }
    }

    /// An endpoint that has answered promptly before.
    fn prove(&mut self, tenant: TenantId, endpoint: EndpointId) {
        self.place(tenant, endpoint, 1);
        let started = self.start_all();
        assert_eq!(started.len(), 1);
        self.end(started, PROMPT);
    }
}

#[test]
fn an_endpoint_has_no_more_out_than_its_concurrency() {
    let mut site = Site::new(1000);
    let (tenant, endpoint) = (TenantId::new(), EndpointId::new());
    site.place(tenant, endpoint, 40);
    let started = site.start_all();
    assert_eq!(started.len(), 16);
    site.end(started, PROMPT);
    assert_eq!(site.start_all().len(), 16);
}

#[test]
fn a_thousand_hanging_endpoints_leave_a_prompt_one_its_requests() {
    let mut site = Site::new(2048);
    let (healthy, hanging) = (TenantId::new(), TenantId::new());
    let (other, same) = (EndpointId::new(), EndpointId::new());
    site.prove(healthy, other);
    site.prove(hanging, same);
    for _ in 0..1000 {
        site.place(hanging, EndpointId::new(), 40);
    }
    let hung = site.start_all();
    assert!((512..=1024).contains(&hung.len()), "{}", hung.len());
    site.now += SLOW_AFTER;
    site.turns.stall(site.now);
    for (tenant, endpoint) in [(healthy, other), (hanging, same)] {
        site.place(tenant, endpoint, 16);
        let started = site.start_all();
        assert_eq!(started.len(), 16);
        site.end(started, PROMPT);
    }
    // Even one that nobody knows yet, of the other tenant.
    site.place(healthy, EndpointId::new(), 1);
    assert_eq!(site.start_all().len(), 1);
}

#[test]
fn prompt_endpoints_that_begin_to_hang_leave_other_tenants_room() {
    let mut site = Site::new(1000);
    let (bad, good) = (TenantId::new(), TenantId::new());
    let endpoints: Vec<EndpointId> = (0..100).map(|_| EndpointId::new()).collect();
    for endpoint in &endpoints {
        site.prove(bad, *endpoint);
    }
    for endpoint in &endpoints {
        site.place(bad, *endpoint, 16);
    }
    let hung = site.start_all();
    assert!((700..=800).contains(&hung.len()), "{}", hung.len());
    site.now += SLOW_AFTER;
    site.turns.stall(site.now);
    // Even one that nobody knows yet, though more than the slow half is taken.
    site.place(good, EndpointId::new(), 1);
    assert_eq!(site.start_all().len(), 1);
    let known = EndpointId::new();
    site.end(hung, TIMED_OUT);
    site.prove(good, known);
}

#[test]
fn tenants_and_endpoints_take_turns() {
    let mut site = Site::new(4);
    let (one, two) = (TenantId::new(), TenantId::new());
    let endpoints: Vec<(TenantId, EndpointId)> =
        [one, one, two].iter().map(|tenant| (*tenant, EndpointId::new())).collect();
    for (tenant, endpoint) in &endpoints {
        site.prove(*tenant, *endpoint);
    }
    for (tenant, endpoint) in &endpoints {
        site.place(*tenant, *endpoint, 100);
    }
    let mut served: HashMap<EndpointId, usize> = HashMap::new();
    for _ in 0..100 {
        let turn = site.turns.next(site.now).unwrap();
        *served.entry(turn.job.key.endpoint_id).or_default() += 1;
        site.end(vec![turn], PROMPT);
    }
    let counts: Vec<usize> = endpoints.iter().map(|(_, endpoint)| served[endpoint]).collect();
    assert!(counts[2].abs_diff(50) <= 4, "{counts:?}");
    assert!(counts[0].abs_diff(25) <= 4, "{counts:?}");
}

#[test]
fn an_open_breaker_gives_back_what_waits_and_probes_one_by_one() {
    let mut site = Site::new(100);
    let (tenant, endpoint) = (TenantId::new(), EndpointId::new());
    site.place(tenant, endpoint, 40);
    let mut given_back = 0;
    let mut pause = Duration::ZERO;
    for turn in site.start_all() {
        let (back, left) = site.turns.end(turn.number, TIMED_OUT, site.now);
        given_back += back.len();
        pause = pause.max(left);
    }
    assert_eq!(given_back, 24);
    assert!(matches!(site.turns.place(&job(tenant, endpoint), 16, site.now), Placed::Refused(_)));
    site.now += pause;
    site.place(tenant, endpoint, 3);
    let probe = site.start_all();
    assert_eq!(probe.len(), 1);
    site.end(probe, PROMPT);
    assert_eq!(site.start_all().len(), 2);
}

#[test]
fn a_change_of_the_endpoint_closes_its_breaker() {
    let mut site = Site::new(100);
    let (tenant, endpoint) = (TenantId::new(), EndpointId::new());
    let changed_by = |config_version| Limits { config_version, ..Limits::from(16) };
    let open = |site: &mut Site| {
        site.place(tenant, endpoint, 16);
        let out = site.start_all();
        site.end(out, TIMED_OUT);
        assert_eq!(site.turns.room_for_due(endpoint, 0, site.now), Some(0));
    };
    open(&mut site);
    assert!(site.turns.room_for_due(endpoint, 1, site.now) > Some(0), "what waits is claimed");
    open(&mut site);
    assert!(matches!(site.turns.place(&job(tenant, endpoint), changed_by(1), site.now), Placed::Refused(_)));
    assert_eq!(site.turns.place(&job(tenant, endpoint), changed_by(2), site.now), Placed::InLane);
}

#[test]
fn slow_endpoints_are_not_starved_by_prompt_ones() {
    let mut site = Site::new(1);
    let (one, two) = (TenantId::new(), TenantId::new());
    let (prompt, unknown) = (EndpointId::new(), EndpointId::new());
    site.prove(one, prompt);
    site.place(one, prompt, 100);
    site.place(two, unknown, 1);
    let mut served = false;
    for _ in 0..5 {
        let turn = site.turns.next(site.now).unwrap();
        served |= turn.job.key.endpoint_id == unknown;
        site.end(vec![turn], PROMPT);
    }
    assert!(served);
}

#[test]
fn a_rated_endpoint_starts_as_many_as_it_has_tokens_and_asks_once() {
    let mut site = Site::new(100);
    let (tenant, endpoint) = (TenantId::new(), EndpointId::new());
    let limits = Limits { rate: Some(10.0), ..Limits::from(4) };
    for _ in 0..6 {
        assert_eq!(site.turns.place(&job(tenant, endpoint), limits, site.now), Placed::InLane);
    }
    assert!(site.start_all().is_empty());
    assert_eq!(site.turns.thirsty(), [endpoint], "however many wait");
    assert_eq!(
        site.turns.wants(endpoint, Some(10.0), site.now),
        Some((10.0, 4)),
        "no more than its concurrency"
    );
    site.turns.grant(endpoint, 2, site.now);
    let out = site.start_all();
    assert_eq!(out.len(), 2);
    assert_eq!(site.turns.wants(endpoint, Some(10.0), site.now), Some((10.0, 2)));
    site.turns.grant(endpoint, 2, site.now);
    let more = site.start_all();
    assert_eq!(site.turns.wants(endpoint, Some(10.0), site.now), None, "nothing could go: nobody asks");
    site.end(out, PROMPT);
    assert_eq!(site.turns.thirsty(), [endpoint], "now something could");
    // Without a rate the rest goes.
    assert_eq!(site.turns.wants(endpoint, None, site.now), None);
    assert_eq!(site.start_all().len() + more.len(), 4);
    assert!(site.turns.thirsty().is_empty());
}

#[test]
fn what_a_rate_keeps_waiting_stays_in_postgres() {
    let mut site = Site::new(100);
    let (tenant, endpoint) = (TenantId::new(), EndpointId::new());
    let limits = Limits { rate: Some(10.0), ..Limits::from(4) };
    assert_eq!(site.turns.place(&job(tenant, endpoint), limits, site.now), Placed::InLane);
    assert_eq!(site.turns.room_for_due(endpoint, 0, site.now), Some(19), "what goes in two seconds");
}

#[test]
fn a_prompt_endpoint_may_be_further_behind_before_it_parks() {
    let mut site = Site::new(100);
    let tenant = TenantId::new();
    let (unknown, prompt) = (EndpointId::new(), EndpointId::new());
    site.prove(tenant, prompt);
    let chunk = Arc::new(Chunk::new(ChunkId::new(), ReplicaId::new(), usize::MAX));
    let mut taken = |endpoint| {
        let fresh = || job_of(Some(&chunk), tenant, endpoint);
        (0..2 * PROMPT_LANE_CAPACITY)
            .take_while(|_| site.turns.place(&fresh(), 16, site.now) == Placed::InLane)
            .count()
    };
    assert_eq!((taken(unknown), taken(prompt)), (LANE_CAPACITY, PROMPT_LANE_CAPACITY));
    // What was parked comes back beside what is fresh.
    site.place(tenant, prompt, 1);
    assert!(matches!(
        site.turns.place(&job_of(Some(&chunk), tenant, prompt), 16, site.now),
        Placed::Refused(Duration::ZERO)
    ));
}
