//! The servers of the bench, each a process of its own: the sink, and the bare limits.

pub(crate) mod bare;
pub(crate) mod sink;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use clap::ValueEnum;
use tokio::net::TcpListener;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Counts and times deliveries.
    Sink,
    /// hyper that answers 200 OK.
    Http,
    /// tonic that answers `PublishEvent`.
    Grpc,
}

/// Serves until it is killed.
pub(crate) fn serve(kind: Kind) -> Result<()> {
    match kind {
        // One thread: a sink is a bystander and should take as little of the machine as it can.
        Kind::Sink => runtime(&mut tokio::runtime::Builder::new_current_thread(), sink::serve),
        // As the services run, on all cores.
        Kind::Http => runtime(&mut tokio::runtime::Builder::new_multi_thread(), bare::serve_http),
        Kind::Grpc => runtime(&mut tokio::runtime::Builder::new_multi_thread(), bare::serve_grpc),
    }
}

fn runtime(
    builder: &mut tokio::runtime::Builder,
    serve: impl AsyncFnOnce(TcpListener) -> Result<()>,
) -> Result<()> {
    builder.enable_all().build()?.block_on(async {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).await.context("a port for a server of the bench")?;
        // The one line that says where it listens.
        println!("http://{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        serve(listener).await
    })
}
