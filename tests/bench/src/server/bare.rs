//! The limits: what the machine does with the same requests when a server does nothing with them.

use std::convert::Infallible;

use anyhow::Result;
use bowline_proto::v1;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::transport::Server;
use v1::event_service_server::{EventService, EventServiceServer};

/// Reads the whole body and answers 200.
pub(crate) async fn serve_http(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer)),
        );
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(Full::new(Bytes::from_static(b"OK"))))
}

/// Answers `PublishEvent` with a constant.
pub(crate) async fn serve_grpc(listener: TcpListener) -> Result<()> {
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder().add_service(EventServiceServer::new(Constant)).serve_with_incoming(incoming).await?;
    Ok(())
}

#[derive(Debug)]
struct Constant;

#[tonic::async_trait]
impl EventService for Constant {
    type WatchEventsStream = futures_util::stream::Empty<Result<v1::WatchEventsResponse, Status>>;

    async fn publish_event(
        &self,
        _: tonic::Request<v1::PublishEventRequest>,
    ) -> Result<tonic::Response<v1::PublishEventResponse>, Status> {
        let event_id = "evt_00000000000000000000000000".to_owned();
        Ok(tonic::Response::new(v1::PublishEventResponse { event_id, duplicate: false }))
    }

    async fn publish_event_batch(
        &self,
        _: tonic::Request<v1::PublishEventBatchRequest>,
    ) -> Result<tonic::Response<v1::PublishEventBatchResponse>, Status> {
        Err(Status::unimplemented("only PublishEvent is measured"))
    }

    async fn replay_events(
        &self,
        _: tonic::Request<v1::ReplayEventsRequest>,
    ) -> Result<tonic::Response<v1::ReplayEventsResponse>, Status> {
        Err(Status::unimplemented("only PublishEvent is measured"))
    }

    async fn get_event(
        &self,
        _: tonic::Request<v1::GetEventRequest>,
    ) -> Result<tonic::Response<v1::GetEventResponse>, Status> {
        Err(Status::unimplemented("only PublishEvent is measured"))
    }

    async fn list_events(
        &self,
        _: tonic::Request<v1::ListEventsRequest>,
    ) -> Result<tonic::Response<v1::ListEventsResponse>, Status> {
        Err(Status::unimplemented("only PublishEvent is measured"))
    }

    async fn watch_events(
        &self,
        _: tonic::Request<v1::WatchEventsRequest>,
    ) -> Result<tonic::Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("only PublishEvent is measured"))
    }
}
