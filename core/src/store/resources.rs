//! What the tables of a tenant's resources have alike: a row has an id, a tenant, a name that no other
//! one has, and a configuration version; its deletion leaves a tombstone, by which every replica learns of it.

use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::Error;
use crate::id::TenantId;

/// Why a resource was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("another one has this name")]
    NameTaken,
    #[error(transparent)]
    Store(#[from] Error),
}

impl WriteError {
    /// `name_index` is the unique index over the names.
    pub(super) fn of(error: tokio_postgres::Error, name_index: &str) -> Self {
        if violated(&error) == Some(name_index) { Self::NameTaken } else { Self::Store(error.into()) }
    }
}

/// The constraint or unique index a write ran into.
pub(super) fn violated(error: &tokio_postgres::Error) -> Option<&str> {
    error.as_db_error().and_then(tokio_postgres::error::DbError::constraint)
}

/// One of the tables.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What is read of a row.
    pub(super) columns: &'static str,
}

impl Table {
    /// The row that is there; with a scope, only one of that tenant.
    pub(super) async fn find(
        &self,
        client: &impl GenericClient,
        scope: Option<TenantId>,
        id: Uuid,
    ) -> Result<Option<Row>, Error> {
        let Self { name, columns } = self;
        let sql = format!(
            "SELECT {columns} FROM {name}
              WHERE id = $1 AND deleted_at IS NULL AND ($2::uuid IS NULL OR tenant_id = $2)"
        );
        Ok(client.query_opt(&sql, &[&id, &scope.map(|tenant| tenant.0)]).await?)
    }

    /// How many a tenant has.
    pub(super) async fn count(&self, client: &impl GenericClient, tenant: TenantId) -> Result<i64, Error> {
        let sql = format!("SELECT count(*) FROM {} WHERE tenant_id = $1 AND deleted_at IS NULL", self.name);
        Ok(client.query_one(&sql, &[&tenant.0]).await?.try_get(0)?)
    }

    /// Leaves a tombstone.
    pub(super) async fn mark_deleted(
        &self,
        client: &impl GenericClient,
        id: Uuid,
        config_version: i64,
    ) -> Result<(), Error> {
        let sql = format!(
            "UPDATE {} SET deleted_at = now(), config_version = $2, update_time = now()
              WHERE id = $1 AND deleted_at IS NULL",
            self.name
        );
        client.execute(&sql, &[&id, &config_version]).await?;
        Ok(())
    }
}
