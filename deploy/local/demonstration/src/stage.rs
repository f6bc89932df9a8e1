//! The stage: the deployment, what was created in it for this run, and how requests are sent to it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use bowline_cli::client::Admin;
use bowline_cli::dev::Ready;
use bowline_proto::v1;
use http::StatusCode;
use serde_json::Value;

use crate::payload;
use crate::receiver::{Answer, Receiver};
use crate::signature::{self, Headers, Receives};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// After a crash another replica takes over within 10 s; the machine may be slow and busy.
pub(crate) const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
pub(crate) const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// Everything a step needs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) ready_file: PathBuf,
    pub(crate) ready: Ready,
    pub(crate) admin: Admin,
    /// Tells this run's names from those of another in the same data.
    pub(crate) run: String,
    client: reqwest::Client,
    sent: AtomicUsize,
}

/// A source and its secret.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) id: String,
    pub(crate) name: String,
}

/// An endpoint whose receiver is ours.
#[derive(Debug)]
pub(crate) struct Customer {
    pub(crate) endpoint_id: String,
    pub(crate) receiver: Receiver,
}

/// A customer to be.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) name: &'a str,
    /// `standard` or `chimpbase`: what the receiver can check.
    pub(crate) format: &'a str,
    /// None: all.
    pub(crate) event_types: &'a [&'a str],
    /// A failed attempt is repeated after each of these.
    pub(crate) waits: &'a [Duration],
    pub(crate) answer: Answer,
}

/// What a source answered.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) text: String,
}

impl Answered {
    /// The event's id and whether it was a duplicate, of an answer 200.
    pub(crate) fn accepted(&self) -> anyhow::Result<(String, bool)> {
        if self.status != StatusCode::OK {
            bail!("answered {} {}, not 200", self.status.as_u16(), self.text);
        }
        let body: Value = serde_json::from_str(&self.text).context("the answer is JSON")?;
        let id = body["id"].as_str().context("the answer has an id")?.to_owned();
        Ok((id, body["duplicate"].as_bool().context("the answer says whether it is a duplicate")?))
    }
}

impl Stage {
    pub(crate) fn new(ready_file: PathBuf) -> anyhow::Result<Self> {
        let ready = Ready::read(&ready_file)?;
        let url = ready.admin_urls.first().context("the deployment has an admin URL")?;
        let admin = Admin::connect(url, &ready.admin_key)?;
        // There is one TLS provider; that it was installed before is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        let run = hex::encode(rand::random::<[u8; 4]>());
        Ok(Self { ready_file, ready, admin, run, client, sent: AtomicUsize::new(0) })
    }

    /// The processes as they are now.
    pub(crate) fn ready_now(&self) -> anyhow::Result<Ready> {
        Ready::read(&self.ready_file)
    }

    /// A source with this preset, named `name` and the run.
    pub(crate) async fn source(&self, name: &str, preset: &str) -> anyhow::Result<Source> {
        let request = v1::CreateSourceRequest {
            source: Some(v1::Source {
                name: format!("{name}-{}", self.run),
                preset: preset.to_owned(),
                ..v1::Source::default()
            }),
            ..v1::CreateSourceRequest::default()
        };
        let response = self.admin.sources().create_source(request).await.map_err(failure)?.into_inner();
        let source = response.source.context("the answer holds the source")?;
        Ok(Source { url: source.receive_url, secret: response.secret, id: source.id, name: source.name })
    }

    /// An endpoint, and a receiver behind it.
    pub(crate) async fn customer(&self, wanted: Wanted<'_>) -> anyhow::Result<Customer> {
        let Wanted { name, format, event_types, waits, answer } = wanted;
        let receiver = Receiver::start(answer).await?;
        let waits: Vec<prost_types::Duration> =
            waits.iter().map(|wait| (*wait).try_into()).collect::<Result<_, _>>()?;
        let schedule = v1::ScheduleBackoff { waits, jitter: Some(0.0) };
        let request = v1::CreateEndpointRequest {
            endpoint: Some(v1::Endpoint {
                name: format!("{name}-{}", self.run),
                url: receiver.url.clone(),
                format: format.to_owned(),
                event_types: event_types.iter().map(ToString::to_string).collect(),
                retry: Some(v1::RetryPolicy {
                    backoff: Some(v1::retry_policy::Backoff::Schedule(schedule)),
                    ..v1::RetryPolicy::default()
                }),
                ..v1::Endpoint::default()
            }),
            ..v1::CreateEndpointRequest::default()
        };
        let response = self.admin.endpoints().create_endpoint(request).await.map_err(failure)?.into_inner();
        let endpoint = response.endpoint.context("the answer holds the endpoint")?;
        let secret = response.secret;
        receiver.expect(match format {
            "chimpbase" => Receives::Chimpbase { secret },
            _ => Receives::Standard { secret },
        });
        Ok(Customer { endpoint_id: endpoint.id, receiver })
    }

    pub(crate) async fn post(&self, url: &str, headers: Headers, body: Vec<u8>) -> anyhow::Result<Answered> {
        let mut request = self.client.post(url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await.context("the source did not answer")?;
        let status = response.status();
        Ok(Answered { status, text: response.text().await.context("the answer broke off")? })
    }

    /// Sends an event of this type to a `standard` source; its id.
    pub(crate) async fn send(&self, source: &Source, event_type: &str) -> anyhow::Result<String> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let body = payload::order(event_type, number);
        let id = format!("msg_{}_{number}", self.run);
        let headers = signature::standard(&source.secret, &id, signature::unix_now(), &body)?;
        self.post(&source.url, headers, body).await?.accepted().map(|(id, _)| id)
    }

    /// Sends many, one after the other.
    pub(crate) async fn send_many(
        &self,
        source: &Source,
        event_type: &str,
        count: usize,
    ) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            ids.push(self.send(source, event_type).await?);
        }
        Ok(ids)
    }

    pub(crate) fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}{}", self.run, hex::encode(rand::random::<[u8; 8]>()))
    }
}

/// What the admin API refused, with every detail.
pub(crate) fn failure(status: impl Into<bowline_cli::failure::Failure>) -> anyhow::Error {
    anyhow::Error::new(status.into())
}

/// Waits until `look` finds something, looking again every little while.
pub(crate) async fn eventually<T, F>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let search = async {
        loop {
            match look().await {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => return Err(error),
            }
        }
    };
    tokio::time::timeout(within, search)
        .await
        .unwrap_or_else(|_| bail!("{what}: not within {} s", within.as_secs()))
}
