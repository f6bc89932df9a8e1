//! How an endpoint authenticates to its receiver: what may be said, what of it is sealed, and what is shown.

use bowline_core::egress::{self, EgressPolicy, PEM_BYTES_MAX};
use bowline_core::endpoint_auth::{ClientCredentials, EndpointAuth, EndpointTls};
use bowline_core::secrets::{SECRET_BYTES_MAX, Secret, name};
use bowline_proto::v1;
use bowline_proto::v1::endpoint_auth::Method;

use super::{Violations, url};
use crate::sealing::{Given, SEALED, Sealing};

const NAME_BYTES_MAX: usize = 256;
const SECRET_TEXT_BYTES_MAX: usize = 4096;
const SCOPES_MAX: usize = 32;
const AUDIENCE_BYTES_MAX: usize = 2048;

/// The auth of an endpoint; its secrets go to `sealing`.
pub(super) fn check(
    violations: &mut Violations,
    endpoint: &v1::Endpoint,
    egress: &EgressPolicy,
    sealing: &mut Sealing,
) -> Option<Box<EndpointAuth>> {
    let wire = endpoint.auth.as_ref()?;
    if endpoint.headers.keys().any(|header| header.eq_ignore_ascii_case("authorization")) {
        let problem = "writes the header `authorization`: leave it out of headers, or leave auth out";
        violations.add("endpoint.auth", problem);
    }
    let auth = match &wire.method {
        None => {
            violations.add("endpoint.auth", "must name a method: basic, bearer or client_credentials");
            return None;
        }
        Some(Method::Basic(basic)) => {
            let field = "endpoint.auth.basic";
            text(violations, &format!("{field}.username"), &basic.username, NAME_BYTES_MAX);
            if basic.username.contains(':') {
                violations.add(format!("{field}.username"), "must not have a colon (RFC 7617)");
            }
            secret(violations, sealing, name::PASSWORD, &format!("{field}.password"), &basic.password);
            EndpointAuth::Basic { username: basic.username.clone() }
        }
        Some(Method::Bearer(bearer)) => {
            let field = "endpoint.auth.bearer.token";
            secret(violations, sealing, name::TOKEN, field, &bearer.token);
            if bearer.token.contains(' ') {
                violations.add(field, "must not have spaces (and no `Bearer` before it)");
            }
            EndpointAuth::Bearer
        }
        Some(Method::ClientCredentials(wire)) => {
            EndpointAuth::ClientCredentials(client_credentials(violations, wire, egress, sealing))
        }
    };
    Some(Box::new(auth))
}

fn client_credentials(
    violations: &mut Violations,
    wire: &v1::ClientCredentialsAuth,
    egress: &EgressPolicy,
    sealing: &mut Sealing,
) -> ClientCredentials {
    let field = |name: &str| format!("endpoint.auth.client_credentials.{name}");
    url::check(violations, &field("token_url"), &wire.token_url, egress);
    text(violations, &field("client_id"), &wire.client_id, NAME_BYTES_MAX);
    secret(violations, sealing, name::CLIENT_SECRET, &field("client_secret"), &wire.client_secret);
    if wire.scopes.len() > SCOPES_MAX {
        violations.add(field("scopes"), format!("must hold at most {SCOPES_MAX} entries"));
    }
    for (index, scope) in wire.scopes.iter().take(SCOPES_MAX).enumerate() {
        let visible =
            (1..=NAME_BYTES_MAX).contains(&scope.len()) && scope.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible {
            let problem = format!("must be 1 to {NAME_BYTES_MAX} visible ASCII characters");
            violations.add(field(&format!("scopes[{index}]")), problem);
        }
    }
    if wire.audience.len() > AUDIENCE_BYTES_MAX {
        violations.add(field("audience"), format!("must be at most {AUDIENCE_BYTES_MAX} bytes"));
    }
    ClientCredentials {
        token_url: wire.token_url.clone(),
        client_id: wire.client_id.clone(),
        scopes: wire.scopes.clone(),
        audience: (!wire.audience.is_empty()).then(|| wire.audience.clone()),
        secret_in_body: wire.secret_in_body,
    }
}

/// 1 to `bytes_max` printable ASCII characters.
fn text(violations: &mut Violations, field: &str, text: &str, bytes_max: usize) {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !printable || !(1..=bytes_max).contains(&text.len()) {
        violations.add(field, format!("must be 1 to {bytes_max} printable ASCII characters"));
    }
}

fn secret(violations: &mut Violations, sealing: &mut Sealing, name: &str, field: &str, given: &str) {
    text(violations, field, given, SECRET_TEXT_BYTES_MAX);
    sealing.add(name.to_owned(), field, Given::read(given));
}

/// The certificates of an endpoint; the key goes to `sealing`.
pub(super) fn check_tls(
    violations: &mut Violations,
    endpoint: &v1::Endpoint,
    sealing: &mut Sealing,
) -> Option<Box<EndpointTls>> {
    let wire = endpoint.tls.as_ref()?;
    if !endpoint.url.starts_with("https:") {
        violations.add("endpoint.tls", "is of use only with an `https:` URL");
    }
    let (chain, key, authorities) = (&wire.client_certificate, &wire.client_key, &wire.ca_certificates);
    if chain.is_empty() && key.is_empty() && authorities.is_empty() {
        violations
            .add("endpoint.tls", "must hold a client certificate with its key, or authorities to trust");
    }
    let authorities_field = "endpoint.tls.ca_certificates";
    if within(violations, authorities_field, authorities, PEM_BYTES_MAX)
        && let Err(fault) = egress::check_authorities(authorities)
    {
        violations.add(authorities_field, fault);
    }
    let (chain_field, key_field) = ("endpoint.tls.client_certificate", "endpoint.tls.client_key");
    if chain.is_empty() != key.is_empty() {
        let (missing, other) =
            if chain.is_empty() { (chain_field, "client_key") } else { (key_field, "client_certificate") };
        violations.add(missing, format!("is required beside {other}"));
    }
    if within(violations, chain_field, chain, PEM_BYTES_MAX) {
        match egress::check_chain(chain) {
            Err(fault) => violations.add(chain_field, fault),
            Ok(()) if within(violations, key_field, key, SECRET_BYTES_MAX) && key != SEALED => {
                check_key(violations, chain, &Secret::from(key.as_str()));
            }
            Ok(()) => {}
        }
    }
    if !key.is_empty() {
        sealing.add(name::CLIENT_KEY.to_owned(), key_field, Given::read(key));
    }
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    Some(Box::new(EndpointTls { client_certificate: some(chain), ca_certificates: some(authorities) }))
}

/// Whether the key is that of the certificate.
pub(crate) fn check_key(violations: &mut Violations, chain: &str, key: &Secret) {
    if let Err(fault) = egress::check_key(chain, key) {
        violations.add("endpoint.tls.client_key", fault);
    }
}

/// Whether a PEM is there to be looked at.
fn within(violations: &mut Violations, field: &str, pem: &str, bytes_max: usize) -> bool {
    if pem.len() > bytes_max {
        violations.add(field, format!("must be at most {bytes_max} bytes"));
    }
    (1..=bytes_max).contains(&pem.len())
}

/// As the API shows it.
pub(crate) fn shown(auth: &EndpointAuth) -> v1::EndpointAuth {
    let sealed = || SEALED.to_owned();
    let method = match auth {
        EndpointAuth::Basic { username } => {
            Method::Basic(v1::BasicAuth { username: username.clone(), password: sealed() })
        }
        EndpointAuth::Bearer => Method::Bearer(v1::BearerAuth { token: sealed() }),
        EndpointAuth::ClientCredentials(wanted) => Method::ClientCredentials(v1::ClientCredentialsAuth {
            token_url: wanted.token_url.clone(),
            client_id: wanted.client_id.clone(),
            client_secret: sealed(),
            scopes: wanted.scopes.clone(),
            audience: wanted.audience.clone().unwrap_or_default(),
            secret_in_body: wanted.secret_in_body,
        }),
    };
    v1::EndpointAuth { method: Some(method) }
}

pub(crate) fn shown_tls(tls: &EndpointTls) -> v1::EndpointTls {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let client_key = if tls.client_certificate.is_some() { SEALED.to_owned() } else { String::new() };
    v1::EndpointTls {
        client_certificate: text(&tls.client_certificate),
        client_key,
        ca_certificates: text(&tls.ca_certificates),
    }
}

/// The mark in place of each secret.
pub(crate) fn without_secrets(mut auth: v1::EndpointAuth) -> v1::EndpointAuth {
    let secret = match &mut auth.method {
        None => return auth,
        Some(Method::Basic(basic)) => &mut basic.password,
        Some(Method::Bearer(bearer)) => &mut bearer.token,
        Some(Method::ClientCredentials(wanted)) => &mut wanted.client_secret,
    };
    SEALED.clone_into(secret);
    auth
}

pub(crate) fn without_key(tls: v1::EndpointTls) -> v1::EndpointTls {
    let client_key = if tls.client_key.is_empty() { String::new() } else { SEALED.to_owned() };
    v1::EndpointTls { client_key, ..tls }
}
