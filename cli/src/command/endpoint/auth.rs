//! How an endpoint authenticates to its receiver. Secrets come from files, the environment or standard
//! input, never from arguments, which everyone on the machine can read.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bowline_proto::v1;
use bowline_proto::v1::endpoint_auth::Method;
use clap::Args;

use crate::failure::Failure;
use crate::secret_input;

/// Stands for what the server keeps sealed.
const SEALED: &str = "(sealed)";
const PEM_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Args)]
#[command(next_help_heading = "Authentication to the receiver")]
pub(super) struct AuthFlags {
    /// Send Basic authentication with this user name; the password is the auth secret
    #[arg(long, value_name = "USER", conflicts_with_all = ["bearer", "oauth2_token_url"])]
    basic_user: Option<String>,
    /// Send a bearer token, the auth secret
    #[arg(long, conflicts_with = "oauth2_token_url")]
    bearer: bool,
    /// Fetch access tokens here (OAuth 2 client credentials); the client secret is the auth secret
    #[arg(long, value_name = "URL", requires = "oauth2_client_id")]
    oauth2_token_url: Option<String>,
    /// As which client to ask for them
    #[arg(long, value_name = "ID", requires = "oauth2_token_url")]
    oauth2_client_id: Option<String>,
    /// A scope to ask for; may be repeated
    #[arg(long = "oauth2-scope", value_name = "SCOPE", requires = "oauth2_token_url")]
    oauth2_scopes: Vec<String>,
    /// The audience to ask for, where the server wants one
    #[arg(long, value_name = "TEXT", requires = "oauth2_token_url")]
    oauth2_audience: Option<String>,
    /// Send client id and secret in the body of the token request
    #[arg(long, requires = "oauth2_token_url")]
    oauth2_secret_in_body: bool,
    /// File that holds the auth secret
    #[arg(long, value_name = "PATH", conflicts_with_all = ["auth_secret_env", "auth_secret_stdin"])]
    auth_secret_file: Option<PathBuf>,
    /// Environment variable that holds the auth secret
    #[arg(long, value_name = "VARIABLE", conflicts_with = "auth_secret_stdin")]
    auth_secret_env: Option<String>,
    /// Read the auth secret from standard input
    #[arg(long)]
    auth_secret_stdin: bool,
    /// PEM file with the certificate to show, leaf first (mTLS)
    #[arg(long, value_name = "PATH", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// PEM file with its private key, unencrypted
    #[arg(long, value_name = "PATH", requires = "client_certificate")]
    client_key: Option<PathBuf>,
    /// PEM file with authorities to trust beside the usual ones
    #[arg(long, value_name = "PATH")]
    ca_certificates: Option<PathBuf>,
}

impl AuthFlags {
    pub(super) fn reads_stdin(&self) -> bool {
        self.auth_secret_stdin
    }

    /// The auth, if anything of it was given; a new secret alone goes into `current`.
    ///
    /// # Errors
    /// When the secret cannot be read, or there is nothing it could be for.
    pub(super) fn auth(
        &self,
        current: Option<&v1::EndpointAuth>,
    ) -> Result<Option<v1::EndpointAuth>, Failure> {
        let secret = secret_input::from_one_of(
            "auth-secret",
            self.auth_secret_env.as_deref(),
            self.auth_secret_file.as_deref(),
            self.auth_secret_stdin,
        )?;
        let Some(mut method) = self.method() else {
            let Some(secret) = secret else { return Ok(None) };
            let mut method = current.and_then(|auth| auth.method.clone()).ok_or_else(|| {
                Failure::Usage(
                    "an auth secret needs --basic-user, --bearer or --oauth2-token-url beside it".to_owned(),
                )
            })?;
            set_secret(&mut method, secret);
            return Ok(Some(v1::EndpointAuth { method: Some(method) }));
        };
        // Without a new one, the server keeps the one that it has for this way to authenticate.
        let kind = std::mem::discriminant(&method);
        let kept = current.and_then(|auth| auth.method.as_ref()).map(std::mem::discriminant) == Some(kind);
        let secret = secret.or_else(|| kept.then(|| SEALED.to_owned())).ok_or_else(|| {
            Failure::Usage(format!(
                "{} needs its secret: give --auth-secret-file, --auth-secret-env or --auth-secret-stdin",
                flag_of(&method)
            ))
        })?;
        set_secret(&mut method, secret);
        Ok(Some(v1::EndpointAuth { method: Some(method) }))
    }

    fn method(&self) -> Option<Method> {
        if let Some(username) = &self.basic_user {
            return Some(Method::Basic(v1::BasicAuth {
                username: username.clone(),
                password: String::new(),
            }));
        }
        if self.bearer {
            return Some(Method::Bearer(v1::BearerAuth::default()));
        }
        let token_url = self.oauth2_token_url.clone()?;
        Some(Method::ClientCredentials(v1::ClientCredentialsAuth {
            token_url,
            client_id: self.oauth2_client_id.clone().unwrap_or_default(),
            client_secret: String::new(),
            scopes: self.oauth2_scopes.clone(),
            audience: self.oauth2_audience.clone().unwrap_or_default(),
            secret_in_body: self.oauth2_secret_in_body,
        }))
    }

    /// The certificates, if any were given, over those of `current`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn tls(&self, current: Option<&v1::EndpointTls>) -> Result<Option<v1::EndpointTls>, Failure> {
        if self.client_certificate.is_none() && self.ca_certificates.is_none() {
            return Ok(None);
        }
        let mut tls = current.cloned().unwrap_or_default();
        if let Some(path) = &self.client_certificate {
            tls.client_certificate = pem("--client-certificate", path)?;
        }
        if let Some(path) = &self.client_key {
            tls.client_key = pem("--client-key", path)?;
        }
        if let Some(path) = &self.ca_certificates {
            tls.ca_certificates = pem("--ca-certificates", path)?;
        }
        Ok(Some(tls))
    }
}

fn flag_of(method: &Method) -> &'static str {
    match method {
        Method::Basic(_) => "--basic-user",
        Method::Bearer(_) => "--bearer",
        Method::ClientCredentials(_) => "--oauth2-token-url",
    }
}

fn set_secret(method: &mut Method, secret: String) {
    match method {
        Method::Basic(basic) => basic.password = secret,
        Method::Bearer(bearer) => bearer.token = secret,
        Method::ClientCredentials(wanted) => wanted.client_secret = secret,
    }
}

fn pem(flag: &str, path: &Path) -> Result<String, Failure> {
    let wrong = |problem: String| Failure::Configuration(format!("{flag} {}: {problem}", path.display()));
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(PEM_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > PEM_BYTES_MAX {
        return Err(wrong(format!("is larger than {PEM_BYTES_MAX} bytes")));
    }
    Ok(text)
}
