//! The layer every call passes: an id, a deadline, a caller, a count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bowline_core::apart::Lines;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use uuid::Uuid;

use crate::AdminContext;
use crate::auth::Gate;
use crate::call::{Call, trace_of};
use crate::change::{Act, record_failure};
use crate::fault::{Fault, to_status};
use crate::method::Method;

/// For the whole call, the reading of the request included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call waits in its tenant's line: as long as for a connection.
const LINE_WAIT: Duration = Duration::from_secs(5);
const TEST_TIMEOUT: Duration = Duration::from_secs(90);
/// The id of the call in the answer's headers, as it is in the log.
const CALL_ID_HEADER: &str = "bowline-call-id";

#[derive(Clone)]
pub(crate) struct GateLayer {
    context: Arc<AdminContext>,
    gate: Arc<Gate>,
    /// Of half the connections to Postgres each, so that no tenant has them all.
    lines: Arc<Lines>,
}

impl GateLayer {
    pub(crate) fn new(context: &Arc<AdminContext>) -> Self {
        let gate = Gate::new(context.pool.clone(), context.bootstrap_key.as_ref(), context.open_reflection);
        let lines = Lines::new(context.pool.status().max_size / 2);
        Self { context: Arc::clone(context), gate: Arc::new(gate), lines: Arc::new(lines) }
    }

    /// Who checks keys.
    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, layer: self.clone() }
    }
}

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    inner: S,
    layer: GateLayer,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone may not be ready: the one that is goes with the call.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        let layer = self.layer.clone();
        Box::pin(async move {
            let call_id: Arc<str> = Uuid::now_v7().to_string().into();
            let method = Method::of(request.uri().path());
            let begun = Instant::now();
            let passed = layer.pass(inner, request, method, &call_id);
            let bound = if method.is_test() { TEST_TIMEOUT } else { CALL_TIMEOUT };
            let mut response = match tokio::time::timeout(bound, passed).await {
                Ok(response) => response?,
                Err(_) => to_status(&Fault::Timeout(bound), &call_id).into_http(),
            };
            blame_the_caller(&mut response);
            if let Ok(value) = HeaderValue::from_str(&call_id) {
                response.headers_mut().insert(CALL_ID_HEADER, value);
            }
            count(method, begun, &response);
            Ok(response)
        })
    }
}

impl GateLayer {
    async fn pass<S>(
        &self,
        mut inner: S,
        mut request: Request<Body>,
        method: Method,
        call_id: &Arc<str>,
    ) -> Result<Response<Body>, S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>>,
    {
        let tenant = match self.gate.admit(method, request.headers().get(AUTHORIZATION)).await {
            Ok(None) => return inner.call(request).await,
            Ok(Some(caller)) => {
                let (tenant, trace) = (caller.tenant, trace_of(request.headers()));
                request.extensions_mut().insert(Call { id: Arc::clone(call_id), method, caller, trace });
                tenant
            }
            Err(denied) => {
                if let (Some(caller), Some(name)) = (denied.caller, method.name) {
                    let call = Call { id: Arc::clone(call_id), method, caller, trace: Bytes::new() };
                    record_failure(&self.context, &call, Act::denied(name), &denied.fault).await;
                }
                return Ok(to_status(&denied.fault, call_id).into_http());
            }
        };
        let Some(tenant) = tenant.filter(|_| method.waits_in_line()) else {
            return inner.call(request).await;
        };
        let turn = tokio::time::timeout(LINE_WAIT, self.lines.turn(tenant)).await;
        match turn.map_or(Err(Fault::LineFull), |turn| turn.map_err(Fault::from)) {
            Ok(_turn) => inner.call(request).await,
            Err(fault) => Ok(to_status(&fault, call_id).into_http()),
        }
    }
}

/// A message that is no Protobuf of its method is the caller's mistake; tonic calls it its own.
fn blame_the_caller(response: &mut Response<Body>) {
    const INTERNAL: &str = "13";
    const INVALID_ARGUMENT: HeaderValue = HeaderValue::from_static("3");
    const UNDECODABLE: &[u8] = b"failed%20to%20decode%20Protobuf%20message";
    let headers = response.headers_mut();
    let of_tonic =
        headers.get(Status::GRPC_MESSAGE).is_some_and(|text| text.as_bytes().starts_with(UNDECODABLE));
    if of_tonic && headers.get(Status::GRPC_STATUS).is_some_and(|code| code == INTERNAL) {
        headers.insert(Status::GRPC_STATUS, INVALID_ARGUMENT);
    }
}

/// Only methods of the API are labels: a path of the caller's making would have no bound.
fn count(method: Method, begun: Instant, response: &Response<Body>) {
    let Some(method) = method.name else { return };
    let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
    metrics::counter!("bowline_admin_calls_total", "method" => method, "code" => format!("{code:?}"))
        .increment(1);
    metrics::histogram!("bowline_admin_call_seconds", "method" => method)
        .record(begun.elapsed().as_secs_f64());
}
