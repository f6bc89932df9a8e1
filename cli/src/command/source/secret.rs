//! The secrets of a source: a new one, or one that was issued elsewhere.

use bowline_proto::v1;
use bowline_proto::v1::set_source_secret_request::Value;
use clap::Args;

use super::{OneSource, WithSecret, detail, with_secret};
use crate::client::Admin;
use crate::command::{duration, name, there};
use crate::failure::Failure;
use crate::output::Form;
use crate::secret_input::SecretInput;

#[derive(Debug, Args)]
pub struct RotateSecret {
    #[command(flatten)]
    source: OneSource,
    /// How long the old secret stays valid beside the new one, such as 24h; default: not at all
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap: Option<prost_types::Duration>,
    #[command(flatten)]
    secret: SecretInput,
}

#[derive(Debug, Args)]
pub struct SetSecret {
    #[command(flatten)]
    source: OneSource,
    /// Its name, where an expression or a handshake asks for it by that; default: the one that verifies
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// How long the old one stays valid beside it, such as 24h; default: not at all
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    overlap: Option<prost_types::Duration>,
    /// With HTTP Basic: the user name; the secret is the password
    #[arg(long, value_name = "USER", help_heading = "Secret")]
    username: Option<String>,
    #[command(flatten)]
    secret: SecretInput,
}

pub(super) async fn rotate(
    rotate: RotateSecret,
    admin: &Admin,
    tenant: &str,
    form: Form,
) -> Result<(), Failure> {
    let id = name::source_id(admin, tenant, &rotate.source.which).await?;
    let secret = rotate.secret.read()?.unwrap_or_default();
    let request = v1::RotateSourceSecretRequest { id, secret, overlap: rotate.overlap };
    let response = admin.sources().rotate_source_secret(request).await?.into_inner();
    warn(&response.unconfirmed_replicas);
    let rotated = WithSecret {
        source: there(response.source, "source")?.into(),
        secret: response.secret,
        unconfirmed_replicas: response.unconfirmed_replicas,
    };
    with_secret(&rotated, form)
}

pub(super) async fn set(set: SetSecret, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let id = name::source_id(admin, tenant, &set.source.which).await?;
    let value = match given(set.username, set.secret.read()?)? {
        (_, Some(basic)) => Value::Basic(basic),
        (secret, None) if secret.is_empty() => {
            return Err(Failure::Usage(
                "the secret is needed: --secret-env, --secret-file or --secret-stdin".to_owned(),
            ));
        }
        (secret, None) => Value::Secret(secret),
    };
    let request = v1::SetSourceSecretRequest { id, name: set.name, value: Some(value), overlap: set.overlap };
    let response = admin.sources().set_source_secret(request).await?.into_inner();
    warn(&response.unconfirmed_replicas);
    detail(there(response.source, "source")?, form)
}

/// The secret, or with a user name both of them.
pub(super) fn given(
    username: Option<String>,
    secret: Option<String>,
) -> Result<(String, Option<v1::BasicCredentials>), Failure> {
    match (username, secret) {
        (None, secret) => Ok((secret.unwrap_or_default(), None)),
        (Some(username), Some(password)) => {
            Ok((String::new(), Some(v1::BasicCredentials { username, password })))
        }
        (Some(_), None) => Err(Failure::Usage(
            "--username needs the password: --secret-env, --secret-file or --secret-stdin".to_owned(),
        )),
    }
}

fn warn(unconfirmed_replicas: &[String]) {
    if !unconfirmed_replicas.is_empty() {
        eprintln!(
            "warning: these replicas have not confirmed yet: {}; nothing verified with the old secret is \
             committed all the same",
            unconfirmed_replicas.join(", ")
        );
    }
}
