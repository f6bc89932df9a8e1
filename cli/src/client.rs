//! The connection to the admin API: one channel, the key on every call.

use std::path::PathBuf;
use std::time::Duration;

use bowline_proto::v1;
use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::failure::Failure;
use crate::secret_input;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Rotations wait up to 10 s for replicas; nothing else comes near.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// An event of 1 MiB with its headers, or a page of 1000 small resources.
const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Where the admin API is.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// Admin API of any ingest or dispatcher replica
    #[arg(
        long,
        global = true,
        env = "BOWLINE_ADMIN_URL",
        default_value = "http://127.0.0.1:8081",
        value_name = "URL",
        help_heading = "Admin API"
    )]
    pub admin_url: String,
    /// File that holds the API key; default: the environment's `BOWLINE_ADMIN_KEY` (the key itself), then
    /// `BOWLINE_ADMIN_KEY_FILE`
    #[arg(long, global = true, value_name = "PATH", help_heading = "Admin API")]
    pub admin_key_file: Option<PathBuf>,
    /// Tenant to work in: its name or id; default: that of the key, or the tenant `default`
    #[arg(
        long,
        global = true,
        env = "BOWLINE_TENANT",
        default_value = "",
        hide_default_value = true,
        value_name = "NAME",
        help_heading = "Admin API"
    )]
    pub tenant: String,
}

impl AdminArguments {
    /// The API key: never an argument, which everyone on the machine could read.
    fn key(&self) -> Result<String, Failure> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = match &self.admin_key_file {
            Some(path) => path.clone(),
            None => match (set("BOWLINE_ADMIN_KEY"), set("BOWLINE_ADMIN_KEY_FILE")) {
                (Some(key), _) => {
                    return key.into_string().map_err(|_| {
                        Failure::Configuration("BOWLINE_ADMIN_KEY holds bytes that are no text".to_owned())
                    });
                }
                (None, Some(path)) => path.into(),
                (None, None) => {
                    return Err(Failure::Configuration(
                        "no API key: set BOWLINE_ADMIN_KEY, or BOWLINE_ADMIN_KEY_FILE or --admin-key-file \
                         (`bowline dev` says where its key is)"
                            .to_owned(),
                    ));
                }
            },
        };
        secret_input::from_file("the file of the API key,", &file)
    }
}

/// Puts the key on every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearer(redacted)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Transport = InterceptedService<Channel, Bearer>;

/// The services of the admin API.
#[derive(Debug, Clone)]
pub struct Admin {
    transport: Transport,
}

macro_rules! clients {
    ($($method:ident: $module:ident :: $client:ident),* $(,)?) => {$(
        pub fn $method(&self) -> v1::$module::$client<Transport> {
            v1::$module::$client::new(self.transport.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
        }
    )*};
}

impl Admin {
    /// Connects with the first call, not here: the call's failure says more.
    ///
    /// # Errors
    /// When the URL or the key cannot be one.
    pub fn new(arguments: &AdminArguments) -> Result<Self, Failure> {
        Self::connect(&arguments.admin_url, &arguments.key()?)
    }

    /// As [`Admin::new`], from the two texts.
    ///
    /// # Errors
    /// When the URL or the key cannot be one.
    pub fn connect(url: &str, key: &str) -> Result<Self, Failure> {
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {key}").parse().map_err(|_| {
            Failure::Configuration("the API key holds characters a header cannot carry".into())
        })?;
        bearer.set_sensitive(true);
        let wrong = |error: tonic::transport::Error| {
            Failure::Configuration(format!(
                "--admin-url {url:?} is not a URL such as http://host:8081: {error}"
            ))
        };
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT);
        match endpoint.uri().scheme_str() {
            Some("http") => {}
            Some("https") => {
                endpoint = endpoint.tls_config(ClientTlsConfig::new().with_native_roots()).map_err(wrong)?;
            }
            _ => {
                return Err(Failure::Configuration(format!(
                    "--admin-url {url:?} must start with http:// or https://"
                )));
            }
        }
        let transport = InterceptedService::new(endpoint.connect_lazy(), Bearer(bearer));
        Ok(Self { transport })
    }

    clients! {
        sources: source_service_client::SourceServiceClient,
        endpoints: endpoint_service_client::EndpointServiceClient,
        events: event_service_client::EventServiceClient,
        event_types: event_type_service_client::EventTypeServiceClient,
        deliveries: delivery_service_client::DeliveryServiceClient,
        payloads: payload_service_client::PayloadServiceClient,
        bindings: binding_service_client::BindingServiceClient,
        dead_letters: dead_letter_service_client::DeadLetterServiceClient,
        operations: operation_service_client::OperationServiceClient,
        tenants: tenant_service_client::TenantServiceClient,
        api_keys: api_key_service_client::ApiKeyServiceClient,
        audit: audit_service_client::AuditServiceClient,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_url_or_key_is_named_and_the_key_stays_hidden() {
        for url in ["127.0.0.1:8081", "ftp://127.0.0.1", "http://"] {
            let failure = Admin::connect(url, "bwl_test").unwrap_err();
            assert!(failure.to_string().contains("--admin-url"), "{failure}");
        }
        assert!(Admin::connect("http://127.0.0.1:1", "with\nline").is_err());
        let admin = Admin::connect("http://127.0.0.1:1", "bwl_visible").unwrap();
        assert!(!format!("{admin:?}").contains("visible"));
    }
}
