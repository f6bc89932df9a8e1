//! Rows in bulk, by SQL: what would take hours to come about is made in seconds.

use anyhow::Result;
use bowline_core::id::EndpointId;

use crate::rig::Rig;

/// A version 7 id of now: milliseconds, the version, the variant, and `g` as the rest.
const ID: &str = "(lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7' || \
                  lpad(to_hex(g & 4095), 3, '0') || '8' || lpad(to_hex(g), 15, '0'))::uuid";

/// So many events of the default tenant, and for each a delivery to that endpoint that is due.
pub(super) async fn waiting(rig: &Rig, endpoint_id: &str, count: u64) -> Result<()> {
    let endpoint: EndpointId = endpoint_id.parse()?;
    let published = rig.admin()?.publish("rows.template").await;
    let template: bowline_core::id::EventId = published.parse()?;
    rig.execute(&format!(
        "INSERT INTO events (id, tenant_id, source_id, event_type, channel, content_type, headers, body, create_time)
         SELECT {ID}, t.tenant_id, t.source_id, t.event_type, t.channel, t.content_type, t.headers, t.body, now()
           FROM generate_series(1::bigint, {count}) AS g CROSS JOIN events AS t WHERE t.id = '{template}';
         INSERT INTO queue (endpoint_id, event_id, run, tenant_id, due_at, attempt, priority)
         SELECT '{endpoint}', e.id, 0, e.tenant_id, now() - interval '1 minute', 0, 0
           FROM events AS e WHERE e.event_type = 'rows.template' AND e.id <> '{template}';
         ANALYZE queue; ANALYZE events;",
        template = template.0,
        endpoint = endpoint.0,
    ))
    .await
}

/// So many endpoints like the one given, each with an event type of its own that nobody sends: half of
/// them name it, half a prefix. Their secrets are copies: nothing is ever signed with them.
pub(super) async fn endpoints(rig: &Rig, like: &str, count: u64) -> Result<()> {
    let like = like.parse::<EndpointId>()?.0;
    rig.execute(&format!(
        "BEGIN;
         UPDATE config_state SET version = version + 1;
         CREATE TEMP TABLE made ON COMMIT DROP AS
         SELECT g, gen_random_uuid() AS id, gen_random_uuid() AS secret_id
           FROM generate_series(1::bigint, {count}) AS g;
         INSERT INTO endpoints (id, tenant_id, name, display_name, labels, spec, state, disabled_reason,
                                config_version, created_version, create_time, update_time)
         SELECT made.id, e.tenant_id, 'bulk-' || g, e.display_name, e.labels,
                jsonb_set(e.spec, '{{event_types}}', jsonb_build_array(
                    CASE WHEN g % 2 = 0 THEN 'bulk.' || g ELSE 'bulk' || g || '.*' END)),
                e.state, '', c.version, c.version, now(), now()
           FROM made CROSS JOIN endpoints AS e CROSS JOIN config_state AS c WHERE e.id = '{like}';
         INSERT INTO secrets (id, tenant_id, owner_id, name, key_id, sealed, create_time, config_version)
         SELECT made.secret_id, s.tenant_id, made.id, s.name, s.key_id, s.sealed, now(), c.version
           FROM made CROSS JOIN secrets AS s CROSS JOIN config_state AS c WHERE s.owner_id = '{like}';
         COMMIT;
         ANALYZE endpoints; ANALYZE secrets;"
    ))
    .await
}

/// So many deduplication keys of a source, spread over a day's expiry: as many run out each second.
/// The indexes are made afterwards: that takes minutes where inserting into them would take hours.
pub(super) async fn keys(rig: &Rig, scope_id: uuid::Uuid, first: u64, last: u64) -> Result<()> {
    rig.execute(&format!(
        "SET maintenance_work_mem = '1GB';
         SET statement_timeout = '20min';
         ALTER TABLE dedup_keys DROP CONSTRAINT dedup_keys_pkey;
         INSERT INTO dedup_keys (scope_id, key_hash, event_id, fingerprint, expires_at)
         SELECT '{scope_id}', md5(g::text)::uuid, {ID}, NULL, now() + g % 86400 * interval '1 second'
           FROM generate_series({first}::bigint, {last}) AS g;
         ALTER TABLE dedup_keys ADD PRIMARY KEY (scope_id, key_hash);
         ANALYZE dedup_keys;
         CHECKPOINT;"
    ))
    .await
}
