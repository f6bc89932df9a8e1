//! What is sent: the providers' own published examples. Each file's source is named in the
//! `preset.toml` beside it.

use anyhow::Context;
use serde_json::Value;

const GITHUB_PUSH: &str = include_str!("../../../../core/presets/github/example.json");
const STRIPE_EVENT: &str = include_str!("../../../../core/presets/stripe/example.json");

/// A push, as GitHub publishes it.
pub(crate) fn github_push() -> Vec<u8> {
    GITHUB_PUSH.as_bytes().to_vec()
}

/// An event, as Stripe publishes it, with an id of its own and its type.
pub(crate) fn stripe_event(id: &str) -> anyhow::Result<(Vec<u8>, String)> {
    let mut event: Value = serde_json::from_str(STRIPE_EVENT).context("Stripe's example")?;
    event["id"] = Value::from(id);
    let event_type = event["type"].as_str().context("Stripe's example has a type")?.to_owned();
    Ok((serde_json::to_vec_pretty(&event)?, event_type))
}

/// An event of an app of ours.
pub(crate) fn order(event_type: &str, number: usize) -> Vec<u8> {
    serde_json::json!({
        "type": event_type,
        "timestamp": chrono::Utc::now().to_rfc3339(),
        "data": {"order": number, "currency": "EUR", "total": "19.90"},
    })
    .to_string()
    .into_bytes()
}
