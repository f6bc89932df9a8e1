//! The operator: gRPC clients with the key, and shorthands for what most tests do.

use bowline_proto::v1;
use prost_types::Duration as ProtoDuration;
use std::time::Duration;
use tonic::codegen::InterceptedService;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint as Peer};
use tonic::{Request, Status};
use tonic_types::StatusExt;
use v1::api_key_service_client::ApiKeyServiceClient;
use v1::audit_service_client::AuditServiceClient;
use v1::binding_service_client::BindingServiceClient;
use v1::dead_letter_service_client::DeadLetterServiceClient;
use v1::delivery_service_client::DeliveryServiceClient;
use v1::endpoint_service_client::EndpointServiceClient;
use v1::event_service_client::EventServiceClient;
use v1::event_type_service_client::EventTypeServiceClient;
use v1::operation_service_client::OperationServiceClient;
use v1::payload_service_client::PayloadServiceClient;
use v1::source_service_client::SourceServiceClient;
use v1::tenant_service_client::TenantServiceClient;

use crate::eventually::{BOUND, eventually, holds};

/// The bootstrap key of every stack.
pub const KEY: &str = "bowline-test-bootstrap-key-0123456789";

/// Puts the key on each call.
#[derive(Debug, Clone)]
pub struct Bearer(Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            let value =
                format!("Bearer {key}").parse().map_err(|_| Status::internal("not a header value"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// A channel with the key on each call.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// One operator.
#[derive(Debug, Clone)]
pub struct Admin {
    channel: Channel,
    key: Bearer,
}

impl Admin {
    /// Connects at the first call.
    ///
    /// # Panics
    /// When `url` is none.
    pub fn new(url: &str, key: Option<&str>) -> Self {
        let peer = Peer::from_shared(url.to_owned()).expect("a URL").timeout(BOUND);
        Self { channel: peer.connect_lazy(), key: Bearer(key.map(str::to_owned)) }
    }

    /// One that asks and takes no byte of any answer's message.
    ///
    /// # Panics
    /// When `url` is none.
    pub fn deaf(url: &str) -> Self {
        let peer = Peer::from_shared(url.to_owned()).expect("a URL").initial_stream_window_size(0);
        Self { channel: peer.connect_lazy(), key: Bearer(Some(KEY.to_owned())) }
    }

    pub fn channel(&self) -> Authorized {
        InterceptedService::new(self.channel.clone(), self.key.clone())
    }

    pub fn sources(&self) -> SourceServiceClient<Authorized> {
        SourceServiceClient::new(self.channel())
    }

    pub fn endpoints(&self) -> EndpointServiceClient<Authorized> {
        EndpointServiceClient::new(self.channel())
    }

    pub fn events(&self) -> EventServiceClient<Authorized> {
        EventServiceClient::new(self.channel())
    }

    pub fn event_types(&self) -> EventTypeServiceClient<Authorized> {
        EventTypeServiceClient::new(self.channel())
    }

    pub fn bindings(&self) -> BindingServiceClient<Authorized> {
        BindingServiceClient::new(self.channel())
    }

    pub fn payloads(&self) -> PayloadServiceClient<Authorized> {
        // A body may be larger than tonic's default.
        PayloadServiceClient::new(self.channel()).max_decoding_message_size(64 * 1024 * 1024)
    }

    pub fn deliveries(&self) -> DeliveryServiceClient<Authorized> {
        DeliveryServiceClient::new(self.channel())
    }

    pub fn dead_letters(&self) -> DeadLetterServiceClient<Authorized> {
        DeadLetterServiceClient::new(self.channel())
    }

    pub fn tenants(&self) -> TenantServiceClient<Authorized> {
        TenantServiceClient::new(self.channel())
    }

    pub fn api_keys(&self) -> ApiKeyServiceClient<Authorized> {
        ApiKeyServiceClient::new(self.channel())
    }

    pub fn audit(&self) -> AuditServiceClient<Authorized> {
        AuditServiceClient::new(self.channel())
    }

    pub fn operations(&self) -> OperationServiceClient<Authorized> {
        OperationServiceClient::new(self.channel())
    }

    /// A source of that preset; its id. Its secret is `secret`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn source(&self, preset: &str, secret: &str) -> String {
        self.source_like(v1::Source { preset: preset.to_owned(), ..Default::default() }, secret).await.id
    }

    /// # Panics
    /// When it is refused.
    pub async fn source_like(&self, source: v1::Source, secret: &str) -> v1::Source {
        let request =
            v1::CreateSourceRequest { source: Some(source), secret: secret.to_owned(), ..Default::default() };
        let created = self.sources().create_source(request).await.expect("a source");
        created.into_inner().source.expect("the source in the answer")
    }

    /// An endpoint; its id and its secret.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn endpoint(&self, endpoint: v1::Endpoint) -> (String, String) {
        let request = v1::CreateEndpointRequest { endpoint: Some(endpoint), ..Default::default() };
        let created = self.endpoints().create_endpoint(request).await.expect("an endpoint").into_inner();
        (created.endpoint.expect("the endpoint in the answer").id, created.secret)
    }

    /// # Panics
    /// When it is refused.
    pub async fn set_state(&self, id: &str, state: v1::EndpointState) {
        let request =
            v1::SetEndpointStateRequest { id: id.to_owned(), state: state.into(), ..Default::default() };
        self.endpoints().set_endpoint_state(request).await.expect("a new state");
    }

    /// # Panics
    /// When there is none.
    pub async fn get_endpoint(&self, id: &str) -> v1::Endpoint {
        let request = v1::GetEndpointRequest { id: id.to_owned() };
        let got = self.endpoints().get_endpoint(request).await.expect("the endpoint");
        got.into_inner().endpoint.expect("the endpoint in the answer")
    }

    /// Publishes a small JSON event; its id.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn publish(&self, event_type: &str) -> String {
        let request = v1::PublishEventRequest {
            event_type: event_type.to_owned(),
            body: br#"{"hello":"world"}"#.as_slice().into(),
            ..Default::default()
        };
        self.events().publish_event(request).await.expect("a published event").into_inner().event_id
    }

    /// Publishes `count` of them; their ids, sorted.
    ///
    /// # Panics
    /// When one is refused.
    pub async fn publish_many(&self, event_type: &str, count: usize) -> Vec<String> {
        let mut ids = futures_util::future::join_all((0..count).map(|_| self.publish(event_type))).await;
        ids.sort();
        ids
    }

    /// # Errors
    /// As the RPC.
    pub async fn delivery(&self, event_id: &str, endpoint_id: &str) -> Result<v1::Delivery, Status> {
        let request = v1::GetDeliveryRequest { id: format!("{event_id}.{endpoint_id}.0") };
        let got = self.deliveries().get_delivery(request).await?.into_inner();
        got.delivery.ok_or_else(|| Status::internal("no delivery in the answer"))
    }

    /// The delivery, once it is in `state`. One whose request takes long waits in the queue meanwhile: that it has
    /// failed, and waits for the next, is known by [`await_attempts`](Self::await_attempts).
    ///
    /// # Panics
    /// When it is not after [`BOUND`].
    #[track_caller]
    pub fn await_delivery<'a>(
        &'a self,
        event_id: &'a str,
        endpoint_id: &'a str,
        state: v1::DeliveryState,
    ) -> impl Future<Output = v1::Delivery> + 'a {
        eventually(BOUND, async move || {
            let delivery = self.delivery(event_id, endpoint_id).await.map_err(|status| status.to_string())?;
            holds(delivery.state() == state, delivery.clone()).map_err(|seen| format!("{seen:?}"))
        })
    }
}

impl Admin {
    /// The delivery, once it has `count` attempts in its log.
    ///
    /// # Panics
    /// When it has not after [`BOUND`].
    #[track_caller]
    pub fn await_attempts<'a>(
        &'a self,
        event_id: &'a str,
        endpoint_id: &'a str,
        count: usize,
    ) -> impl Future<Output = v1::Delivery> + 'a {
        eventually(BOUND, async move || {
            let delivery = self.delivery(event_id, endpoint_id).await.map_err(|status| status.to_string())?;
            let seen = delivery.attempts.len();
            if seen >= count { Ok(delivery) } else { Err(format!("{seen} of {count} in the log")) }
        })
    }
}

/// An endpoint in `standard` format that tries again at once, three times in all.
pub fn endpoint(url: impl Into<String>) -> v1::Endpoint {
    with_waits(url, &[Duration::ZERO, Duration::ZERO])
}

/// The endpoint with the longest timeout there is: a request that is held does not end by itself.
pub fn patient(endpoint: v1::Endpoint) -> v1::Endpoint {
    v1::Endpoint { timeout: Some(duration(Duration::from_secs(60))), ..endpoint }
}

/// An endpoint that waits exactly so between attempts.
pub fn with_waits(url: impl Into<String>, waits: &[Duration]) -> v1::Endpoint {
    let waits = waits.iter().map(|wait| duration(*wait)).collect();
    v1::Endpoint {
        url: url.into(),
        retry: Some(v1::RetryPolicy {
            backoff: Some(v1::retry_policy::Backoff::Schedule(v1::ScheduleBackoff {
                waits,
                jitter: Some(0.0),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn duration(duration: Duration) -> ProtoDuration {
    ProtoDuration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

/// The reason that an error carries, such as `ETAG_MISMATCH`.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// The fields that an error names, in its order.
pub fn violations(status: &Status) -> Vec<String> {
    let named = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
    named.into_iter().map(|violation| violation.field).collect()
}
