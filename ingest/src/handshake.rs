//! What must be done before a handshake is answered.

use bowline_core::fetched_keys::FetchedKeys;
use bowline_core::preset::HandshakeAnswer;
use bowline_core::scheme::VerifyError;
use bowline_core::secrets::name::SIGNING;
use bowline_core::secrets::{NewSecret, Secret, StoredSecret, Vault};
use bowline_core::snapshot::{LiveSource, Snapshot};
use bowline_core::store::{self, Pool, config_writes, sources, stored_secrets};

use bowline_core::inbound::{RETRY_LATER, Refusal};

/// What has to happen before an answer is given, if anything.
pub(crate) struct Deeds<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) vault: &'a Vault,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) keys: &'a FetchedKeys,
}

impl Deeds<'_> {
    /// The answer is good once this is done.
    pub(crate) async fn done(&self, live: &LiveSource, answer: &HandshakeAnswer) -> Result<(), Refusal> {
        if let Some(url) = &answer.visit {
            let trusted = live.scheme.as_deref().and_then(|scheme| scheme.trusted_url(url));
            let url = trusted.ok_or_else(|| {
                Refusal::new(
                    http::StatusCode::BAD_REQUEST,
                    "untrusted_url",
                    "the URL to confirm by is not one of this provider",
                )
            })?;
            self.keys.visit(url).await.map_err(|error| not_done(&error))?;
        }
        if let Some(secret) = &answer.store_secret {
            self.store(live, secret).await?;
        }
        Ok(())
    }

    async fn store(&self, live: &LiveSource, secret: &Secret) -> Result<(), Refusal> {
        let fits = live.scheme.as_deref().is_some_and(|scheme| scheme.key(secret).is_ok());
        if !fits {
            return Err(Refusal::new(
                http::StatusCode::BAD_REQUEST,
                "unusable_secret",
                "the secret of the handshake is none that this source can verify with",
            ));
        }
        let stored = self.write(live, secret).await.map_err(|error| {
            tracing::error!(source_id = %live.source.id, %error, "the secret of a handshake was not stored");
            Refusal::unavailable("not_stored", "the secret could not be stored; send it again", RETRY_LATER)
        })?;
        if !stored {
            return Err(Refusal::new(
                http::StatusCode::CONFLICT,
                "secret_exists",
                "this source has a secret: rotate it over the admin API",
            ));
        }
        self.snapshot.refresh().await.map(drop).map_err(|error| {
            Refusal::unavailable("not_stored", format!("the secret is not in use yet: {error}"), RETRY_LATER)
        })
    }

    /// False where somebody else was faster.
    async fn write(&self, live: &LiveSource, secret: &Secret) -> Result<bool, store::Error> {
        let source = &live.source;
        let Ok(sealed) = self.vault.seal(NewSecret {
            tenant_id: source.tenant_id,
            owner: source.id.0,
            name: SIGNING.to_owned(),
            value: secret.clone(),
            expires_at: None,
        }) else {
            return Ok(false);
        };
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        let version = config_writes::begin(&transaction).await?;
        // The lock is taken: nobody adds one between this look and the insert.
        let stored = stored_secrets::of_owner(&transaction, source.id.0).await?;
        if stored.iter().any(StoredSecret::is_signing) {
            return Ok(false);
        }
        stored_secrets::insert(&transaction, &sealed, version).await?;
        sources::touch(&transaction, source.id, version, false).await?;
        transaction.commit().await?;
        tracing::info!(source_id = %source.id, "a provider gave the source its secret by a handshake");
        Ok(true)
    }
}

fn not_done(error: &VerifyError) -> Refusal {
    Refusal::unavailable(
        "not_confirmed",
        format!("the subscription could not be confirmed: {error}"),
        RETRY_LATER,
    )
}
