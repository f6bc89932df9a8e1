//! Webhooks a second under each kind of verification, each against the same without any.

mod kinds;

use anyhow::{Context, Result};
use bowline_proto::v1;
use bowline_tests::admin::Admin;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use self::kinds::{Given, Kind, WITHOUT};
use super::{Bench, CONNECTIONS, all_ok};
use crate::child;
use crate::report::Metric;
use crate::rig::Rig;
use crate::wire::{LoadSpec, Pace, Target};

const REQUEST_BYTES_MAX: usize = 4096;

/// A source of one kind, and the request that it accepts.
struct Door {
    name: &'static str,
    target: Target,
    per_s: Vec<f64>,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Metric>> {
    let mut rig = Rig::start_ingest(&bench.stores).await?;
    let keys = PublishedKeys::start().await?;
    let admin = rig.admin()?;
    let mut doors = Vec::new();
    for kind in kinds::all(&keys.url)? {
        doors.push(open(&rig, &admin, kind).await?);
    }
    for door in &doors {
        all_ok(child::load(&load(bench, door, bench.pick(1_000, 100))).await?).context(door.name)?;
    }
    // In turns: what changes on the machine meanwhile changes for all of them.
    for round in 1..=bench.rounds() {
        for door in &mut doors {
            bench.progress.step(format!("{}, round {round}", door.name));
            let report = all_ok(child::load(&load(bench, door, bench.pick(3_000, 250))).await?);
            door.per_s.push(report.context(door.name)?.ok_per_s());
        }
        rig.alive()?;
    }
    rig.end().await?;
    let without = doors.iter().find(|door| door.name == WITHOUT).context("the one without")?.per_s.clone();
    let metric = |door: Door| {
        let metric = Metric::new(door.name, "/s", door.per_s);
        if door.name == WITHOUT { metric } else { metric.against(&without) }
    };
    Ok(doors.into_iter().map(metric).collect())
}

fn load(bench: &Bench, door: &Door, ms: u64) -> LoadSpec {
    LoadSpec {
        target: door.target.clone(),
        connections: CONNECTIONS,
        // The request is given whole.
        body_bytes: 0,
        pace: Pace::ClosedFor { ms },
        run: bench.next_run(),
    }
}

async fn open(rig: &Rig, admin: &Admin, kind: Kind) -> Result<Door> {
    let request = v1::CreateSourceRequest {
        source: Some(kind.source),
        secret: kind.secret,
        basic: kind.basic,
        ..Default::default()
    };
    let created = admin.sources().create_source(request).await.context(kind.name)?.into_inner();
    let url = rig.inbound(&created.source.context("the source in the answer")?.id)?;
    let Given { headers, body } = kind.given;
    Ok(Door { name: kind.name, target: Target::Given { url, headers, body }, per_s: Vec::new() })
}

/// Where a provider would publish its keys.
struct PublishedKeys {
    url: String,
    _serving: AbortOnDropHandle<()>,
}

impl PublishedKeys {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/keys", listener.local_addr()?);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who asked and went asks again.
                let _ = answer(stream).await;
            }
        });
        Ok(Self { url, _serving: AbortOnDropHandle::new(serving) })
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; REQUEST_BYTES_MAX];
    let _ = stream.read(&mut request).await?;
    let set = kinds::KEY_SET;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", set.len());
    stream.write_all(format!("{head}{set}").as_bytes()).await
}
