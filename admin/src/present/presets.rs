//! Presets as the API shows them.

use std::time::Duration;

use bowline_core::preset::{Handshake, Preset};
use bowline_core::scheme::{Source, Tolerance};
use bowline_core::secrets::name::SIGNING;
use bowline_proto::v1;

use crate::convert::{duration, struct_of_json};
use crate::fault::Fault;

/// Parameters have their example values.
pub(crate) fn preset(preset: &Preset) -> Result<v1::Preset, Fault> {
    let known = preset.description();
    let scheme = known.scheme.as_ref().map(serde_json::to_value).transpose();
    let scheme =
        scheme.map_err(|error| Fault::Unreadable(format!("the scheme of preset {}: {error}", known.name)))?;
    let text = |name: &str| scheme.as_ref().and_then(|scheme| scheme.get(name)?.as_str()).unwrap_or_default();
    let window = |tolerance: fn(&bowline_core::scheme::TimestampSpec) -> Tolerance| match tolerance(
        known.scheme.as_ref()?.timestamp.as_ref()?,
    ) {
        Tolerance::Seconds(seconds) => Some(duration(Duration::from_secs(seconds.into()))),
        Tolerance::Unlimited => None,
    };
    Ok(v1::Preset {
        name: known.name.clone(),
        aliases: known.aliases.clone(),
        display_name: known.display_name.clone(),
        docs_url: known.docs_url.clone().unwrap_or_default(),
        algorithm: text("algorithm").to_owned(),
        signature: known.scheme.as_ref().map(|scheme| places(&scheme.signature.sources)).unwrap_or_default(),
        max_age: window(|timestamp| timestamp.tolerance_past_s),
        max_ahead: window(|timestamp| timestamp.tolerance_future_s),
        required_headers: known.require_headers.clone(),
        content_type: known.content_type.clone().unwrap_or_default(),
        json_required: known.json_required,
        event_type: places(&known.event_type),
        channel: places(&known.channel),
        dedup_key: places(&known.dedup.sources),
        dedup_key_with: places(&known.dedup.with),
        dedup_required: known.dedup.required,
        body_limit_bytes: i64::try_from(known.body_limit_bytes).unwrap_or(i64::MAX),
        max_stored_payloads: known.max_stored_payloads.map(|payloads| payloads as i32),
        handshakes: known.handshakes.iter().map(handshake).collect(),
        parameters: known
            .parameters
            .iter()
            .map(|(name, parameter)| v1::PresetParameter {
                name: name.clone(),
                description: parameter.description.clone(),
                required: parameter.default.is_none(),
                default_value: parameter.default.clone().unwrap_or_default(),
                example: parameter.example.clone().unwrap_or_default(),
            })
            .collect(),
        secrets: secrets(preset),
        has_example: known.example.is_some(),
        scheme: scheme.and_then(struct_of_json),
    })
}

fn places(sources: &[Source]) -> Vec<String> {
    sources.iter().map(ToString::to_string).collect()
}

fn handshake(known: &Handshake) -> v1::PresetHandshake {
    v1::PresetHandshake {
        method: known.method.clone().unwrap_or_else(|| "POST".to_owned()),
        when: known.when.iter().map(|(source, value)| (source.to_string(), value.clone())).collect(),
        when_exists: known.when_exists.as_ref().map(ToString::to_string).unwrap_or_default(),
        after_verify: known.after_verify,
    }
}

fn secrets(preset: &Preset) -> Vec<v1::PresetSecret> {
    let own = preset.scheme().map(|scheme| {
        let need = if preset.brings_secret() {
            v1::SecretNeed::Brought
        } else if scheme.needs_no_secret() {
            v1::SecretNeed::Optional
        } else if scheme.issues_secrets() {
            v1::SecretNeed::Made
        } else {
            v1::SecretNeed::Given
        };
        v1::PresetSecret { name: SIGNING.to_owned(), description: String::new(), need: need.into() }
    });
    let named = preset.description().secrets.iter().map(|(name, secret)| v1::PresetSecret {
        name: name.clone(),
        description: secret.description.clone(),
        need: v1::SecretNeed::Optional.into(),
    });
    own.into_iter().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_core::preset::find;

    #[test]
    fn a_preset_is_shown_with_what_it_asks_for() {
        let shown = |name: &str| preset(find(name).unwrap()).unwrap();
        let slack = shown("slack");
        assert_eq!(
            (slack.algorithm.as_str(), &slack.signature[..]),
            ("hmac-sha256", &["header:x-slack-signature".to_owned()][..])
        );
        assert_eq!(slack.max_age, slack.max_ahead);
        assert_eq!(slack.max_age.unwrap().seconds, 300);
        assert_eq!(
            (slack.dedup_key, slack.handshakes[0].when["json:/type"].as_str()),
            (vec!["json:/event_id".into()], "url_verification")
        );
        assert_eq!((shown("stripe").max_ahead, shown("github").max_age), (None, None));
        let required = |name: &str| -> Vec<String> {
            shown(name).parameters.into_iter().filter(|it| it.required).map(|it| it.name).collect()
        };
        assert_eq!(required("google-pubsub"), ["audience", "email"]);
        assert_eq!((required("paypal"), required("hasura")), (vec!["webhook_id".to_owned()], vec![]));
        let needs = |name: &str| -> Vec<(String, v1::SecretNeed)> {
            shown(name).secrets.iter().map(|secret| (secret.name.clone(), secret.need())).collect()
        };
        let own = |need| vec![("default".to_owned(), need)];
        assert_eq!(needs("github"), own(v1::SecretNeed::Made));
        assert_eq!(needs("paypal"), own(v1::SecretNeed::Optional));
        assert_eq!(needs("asana"), own(v1::SecretNeed::Brought));
        assert_eq!(needs("discord"), own(v1::SecretNeed::Given));
        assert_eq!(needs("meta")[1], ("verify_token".into(), v1::SecretNeed::Optional));
        assert!(needs("custom").is_empty() && shown("custom").scheme.is_none());
    }
}
