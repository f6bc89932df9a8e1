//! `bowline api-key`: who may call the admin API.

use bowline_proto::v1;
use clap::{Args, Subcommand, ValueEnum};
use prost_types::Timestamp;
use serde::Serialize;

use super::paging::{self, Paging};
use super::{shown_once, there};
use crate::client::Admin;
use crate::failure::Failure;
use crate::output::{self, Form, Row};
use crate::view::{time, word};

#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key; prints, once, its token
    #[command(after_help = "Examples:
  bowline api-key create --role publisher --display-name 'the shop'
  bowline api-key create --role viewer --expires-in 30days")]
    Create(CreateKey),
    /// List keys, newest first, those that are revoked or expired too
    List(ListKeys),
    /// End a key: it is refused within a second or two
    Revoke {
        /// Id of the key: `key_...`
        id: String,
    },
}

#[derive(Debug, Args)]
pub struct CreateKey {
    /// What it may do
    #[arg(long, value_enum)]
    role: Role,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    display_name: String,
    /// For every tenant
    #[arg(long)]
    all_tenants: bool,
    /// Refused after this time, such as 30days; default: until it is revoked
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    expires_in: Option<std::time::Duration>,
}

#[derive(Debug, Args)]
pub struct ListKeys {
    /// Of all tenants, and those that are for all
    #[arg(long)]
    all_tenants: bool,
    #[command(flatten)]
    paging: Paging,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Everything
    Admin,
    /// All but keys, tenants and secrets
    Operator,
    /// Publish events
    Publisher,
    /// Read
    Viewer,
}

impl From<Role> for v1::ApiKeyRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Operator => Self::Operator,
            Role::Publisher => Self::Publisher,
            Role::Viewer => Self::Viewer,
        }
    }
}

#[derive(Debug, Serialize)]
struct KeyView {
    id: String,
    /// Empty: for every tenant.
    tenant_id: String,
    display_name: String,
    role: String,
    create_time: String,
    expire_time: String,
    last_use_time: String,
    revoke_time: String,
}

impl From<v1::ApiKey> for KeyView {
    fn from(key: v1::ApiKey) -> Self {
        Self {
            role: word(key.role().as_str_name(), "API_KEY_ROLE_"),
            create_time: time(key.create_time.as_ref()),
            expire_time: time(key.expire_time.as_ref()),
            last_use_time: time(key.last_use_time.as_ref()),
            revoke_time: time(key.revoke_time.as_ref()),
            id: key.id,
            tenant_id: key.tenant_id,
            display_name: key.display_name,
        }
    }
}

impl Row for KeyView {
    const HEADINGS: &'static [&'static str] =
        &["ID", "ROLE", "TENANT", "LAST USE", "REVOKED", "DISPLAY NAME"];

    fn cells(&self) -> Vec<String> {
        let tenant = if self.tenant_id.is_empty() { "all" } else { &self.tenant_id };
        vec![
            self.id.clone(),
            self.role.clone(),
            tenant.to_owned(),
            self.last_use_time.clone(),
            self.revoke_time.clone(),
            self.display_name.clone(),
        ]
    }
}

#[derive(Debug, Serialize)]
struct WithToken {
    api_key: KeyView,
    /// Shown this once.
    token: String,
}

/// # Errors
/// What the admin API refuses.
pub async fn run(command: ApiKeyCommand, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    match command {
        ApiKeyCommand::Create(create) => make(create, admin, tenant, form).await,
        ApiKeyCommand::List(list) => show(&list, admin, tenant, form).await,
        ApiKeyCommand::Revoke { id } => {
            let request = v1::RevokeApiKeyRequest { id };
            let response = admin.api_keys().revoke_api_key(request).await?.into_inner();
            let key: KeyView = there(response.api_key, "key")?.into();
            output::one(form, &key, &[("revoked", key.id.clone()), ("since", key.revoke_time.clone())])
        }
    }
}

async fn make(create: CreateKey, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let expire_time = create.expires_in.map(|wait| Timestamp::from(std::time::SystemTime::now() + wait));
    let request = v1::CreateApiKeyRequest {
        tenant_id: if create.all_tenants { String::new() } else { tenant.to_owned() },
        api_key: Some(v1::ApiKey {
            display_name: create.display_name,
            role: v1::ApiKeyRole::from(create.role).into(),
            expire_time,
            ..v1::ApiKey::default()
        }),
        all_tenants: create.all_tenants,
    };
    let response = admin.api_keys().create_api_key(request).await?.into_inner();
    let made = WithToken { api_key: there(response.api_key, "key")?.into(), token: response.token };
    let lines = [
        ("id", made.api_key.id.clone()),
        ("role", made.api_key.role.clone()),
        ("token", made.token.clone()),
        ("", shown_once(&made.token)),
    ];
    output::one(form, &made, &lines)
}

async fn show(list: &ListKeys, admin: &Admin, tenant: &str, form: Form) -> Result<(), Failure> {
    let listed = paging::collect(&list.paging, |page_size, page_token| {
        let request = v1::ListApiKeysRequest {
            tenant_id: if list.all_tenants { String::new() } else { tenant.to_owned() },
            page_size,
            page_token,
            all_tenants: list.all_tenants,
        };
        async move {
            let page = admin.api_keys().list_api_keys(request).await?.into_inner();
            let keys: Vec<KeyView> = page.api_keys.into_iter().map(Into::into).collect();
            Ok((keys, page.next_page_token))
        }
    })
    .await?;
    paging::show(form, "api_keys", &listed, None)
}
