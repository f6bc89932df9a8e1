//! A source as a caller wants it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_core::preset::{self, PresetError};
use bowline_core::scheme::{CompiledScheme, Scheme};
use bowline_core::source::SourceSpec;
use bowline_proto::v1;
use ipnet::IpNet;

use super::{Range, Violations, excerpt, scheme};

const PATH_MAX: usize = 200;
const BODY_LIMIT_BYTES_MAX: i64 = 25 * 1024 * 1024;
const IP_ALLOW_LIST_MAX: usize = 256;
const QUERY_WINDOW_PAYLOADS_MAX: u32 = 10_000;
const STORED_PAYLOADS_MAX: u32 = 100_000;
const DEDUP_TTL: Range =
    Range { min: Duration::from_secs(1), max: Duration::from_secs(30 * 24 * 3600), text: "1 s to 30 days" };

/// A checked source; `name` may still be empty, and is generated then.
#[derive(Debug)]
pub(crate) struct SourceDraft {
    pub(crate) name: String,
    pub(crate) display_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) path: Option<String>,
    pub(crate) spec: SourceSpec,
    pub(crate) enabled: bool,
    /// What verifies; `None` only where the spec says `insecure`.
    pub(crate) scheme: Option<Arc<CompiledScheme>>,
}

/// Checks a source; `field` is where it stands in the request. The draft is of use only if nothing
/// was added to the violations.
pub(crate) fn check(violations: &mut Violations, source: &v1::Source) -> SourceDraft {
    if !source.name.is_empty() {
        super::slug(violations, "source.name", &source.name);
    }
    super::display_name(violations, "source.display_name", &source.display_name);
    super::labels(violations, "source.labels", &source.labels);
    if !source.path.is_empty() {
        check_path(violations, &source.path);
    }
    let (spec, scheme) = check_spec(violations, source);
    SourceDraft {
        name: source.name.clone(),
        display_name: source.display_name.clone(),
        labels: source.labels.clone(),
        path: (!source.path.is_empty()).then(|| source.path.clone()),
        spec,
        enabled: source.enabled.unwrap_or(true),
        scheme,
    }
}

fn check_spec(violations: &mut Violations, source: &v1::Source) -> (SourceSpec, Option<Arc<CompiledScheme>>) {
    let (own, scheme) = check_scheme(violations, source);
    if !source.event_type.is_empty() {
        super::event_type(violations, "source.event_type", &source.event_type);
    }
    if !source.channel.is_empty() {
        super::channel(violations, "source.channel", &source.channel);
    }
    let dedup_ttl = source
        .dedup_ttl
        .as_ref()
        .and_then(|ttl| super::duration(violations, "source.dedup_ttl", ttl, DEDUP_TTL));
    if !(0..=BODY_LIMIT_BYTES_MAX).contains(&source.body_limit_bytes) {
        violations.add(
            "source.body_limit_bytes",
            format!("must be 1 to {BODY_LIMIT_BYTES_MAX} bytes, or 0 for the preset's limit"),
        );
    }
    let expressions = super::expression::of_source(violations, source);
    let spec = SourceSpec {
        preset: preset_name(source).to_string(),
        parameters: source.parameters.clone(),
        scheme: own,
        insecure: source.insecure,
        event_type: (!source.event_type.is_empty()).then(|| source.event_type.clone()),
        channel: (!source.channel.is_empty()).then(|| source.channel.clone()),
        event_type_cel: expressions.event_type,
        channel_cel: expressions.channel,
        dedup_key_cel: expressions.dedup_key,
        verify_cel: expressions.verify,
        dedup_ttl,
        body_limit_bytes: u64::try_from(source.body_limit_bytes).ok().filter(|limit| *limit > 0),
        ip_allow_list: check_ip_allow_list(violations, &source.ip_allow_list),
        rate_per_s: super::rate(violations, "source.rate", "events", source.rate),
        query_window_payloads: check_payloads(
            violations,
            "source.query_window_payloads",
            source.query_window_payloads,
            QUERY_WINDOW_PAYLOADS_MAX,
        )
        .filter(|payloads| *payloads > 0),
        max_stored_payloads: source.max_stored_payloads.and_then(|payloads| {
            check_payloads(violations, "source.max_stored_payloads", payloads, STORED_PAYLOADS_MAX)
        }),
    };
    (spec, scheme)
}

/// Networks without their host bits; a single address is a network of one.
fn check_ip_allow_list(violations: &mut Violations, list: &[String]) -> Vec<IpNet> {
    if list.len() > IP_ALLOW_LIST_MAX {
        violations.add("source.ip_allow_list", format!("must have at most {IP_ALLOW_LIST_MAX} entries"));
        return Vec::new();
    }
    let read = |text: &String| match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>().ok().map(|network| network.trunc()),
    };
    let mut networks = Vec::with_capacity(list.len());
    for (index, text) in list.iter().enumerate() {
        match read(text) {
            Some(network) => networks.push(network),
            None => violations.add(
                format!("source.ip_allow_list[{index}]"),
                format!("`{}` is no network such as 192.0.2.0/24 and no address", excerpt(text)),
            ),
        }
    }
    networks
}

fn check_payloads(violations: &mut Violations, field: &str, payloads: i32, max: u32) -> Option<u32> {
    let checked = u32::try_from(payloads).ok().filter(|payloads| *payloads <= max);
    if checked.is_none() {
        violations.add(field, format!("must be 0 to {max}"));
    }
    checked
}

fn preset_name(source: &v1::Source) -> &str {
    if source.preset.is_empty() { preset::CUSTOM } else { &source.preset }
}

/// The source's own scheme, and the one that verifies: its own or the preset's.
fn check_scheme(
    violations: &mut Violations,
    source: &v1::Source,
) -> (Option<Scheme>, Option<Arc<CompiledScheme>>) {
    let known = preset::find(preset_name(source));
    if known.is_none() {
        let known: Vec<&str> = preset::all().map(preset::Preset::name).collect();
        violations.add(
            "source.preset",
            format!("`{}` is not one of {}", excerpt(&source.preset), known.join(", ")),
        );
    }
    let preset = known.and_then(|known| check_parameters(violations, known, &source.parameters));
    let own = source.scheme.as_ref().and_then(|wire| scheme::read(violations, "source.scheme", wire));
    let compiled = match &own {
        Some((_, compiled)) => Some(Arc::clone(compiled)),
        None => preset.and_then(|preset| preset.shared_scheme()),
    };
    if source.insecure && source.scheme.is_some() {
        violations.add("source.insecure", "must not be set beside a scheme: nothing would verify by it");
    }
    let nothing_verifies = known.is_some_and(|known| known.scheme().is_none()) && source.scheme.is_none();
    if nothing_verifies && source.verify.is_empty() && !source.insecure {
        violations.add(
            "source.insecure",
            "must be true for a source with neither a scheme nor a preset that has one: it accepts \
             requests from anyone",
        );
    }
    let verifies = if source.insecure { None } else { compiled };
    (own.map(|(scheme, _)| scheme), verifies)
}

/// The preset with the source's parameters; `None` where they do not fit it.
fn check_parameters(
    violations: &mut Violations,
    known: &preset::Preset,
    given: &BTreeMap<String, String>,
) -> Option<Arc<preset::Preset>> {
    match preset::configured(known.name(), given)? {
        Ok(preset) => return Some(preset),
        Err(PresetError::Parameters { faults, .. }) => {
            for fault in faults {
                violations.add(format!("source.parameters[{}]", excerpt(fault.name())), fault);
            }
        }
        Err(fault) => violations.add("source.parameters", fault),
    }
    None
}

/// `/webhooks/stripe`: no empty segment, no dots that walk, not under `/in/` or `/endpoints/`.
fn check_path(violations: &mut Violations, path: &str) {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.~-".contains(&byte);
    let well_formed = path.len() <= PATH_MAX
        && path.bytes().all(known)
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != "..")
        });
    if !well_formed {
        violations.add(
            "source.path",
            format!(
                "must begin with / and hold non-empty segments of letters, digits, `_`, `.`, `~` and `-`, at \
                 most {PATH_MAX} characters"
            ),
        );
    }
    if path == "/endpoints" || path.starts_with("/endpoints/") {
        violations
            .add("source.path", "must not be under /endpoints/: the public keys of endpoints are there");
    }
    if path == "/in" || path.starts_with("/in/") {
        violations.add("source.path", "must not be under /in/: those are the paths of source ids");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert;
    use serde_json::json;

    fn faults(source: &v1::Source) -> Vec<String> {
        super::super::faults(|it| check(it, source))
    }

    fn with_path(path: &str) -> v1::Source {
        v1::Source { preset: "github".into(), path: path.into(), ..v1::Source::default() }
    }

    #[test]
    fn paths() {
        for good in ["", "/a", "/webhooks/stripe", "/a.b/c~d-_", "/inbound", "/in.x"] {
            assert_eq!(faults(&with_path(good)), [""; 0], "{good}");
        }
        let long = format!("/{}", "a".repeat(200));
        for bad in [
            "a",
            "/",
            "/a/",
            "//a",
            "/a//b",
            "/../a",
            "/a/.",
            "/a?b",
            "/a%20",
            "/é",
            "/in",
            "/in/x",
            "/endpoints/x",
            &long,
        ] {
            assert_eq!(faults(&with_path(bad)), ["source.path"], "{bad}");
        }
    }

    #[test]
    fn an_unverified_source_is_said_out_loud() {
        let custom = v1::Source::default();
        assert_eq!(faults(&custom), ["source.insecure"]);
        assert_eq!(faults(&v1::Source { insecure: true, ..custom.clone() }), [""; 0]);
        assert_eq!(faults(&v1::Source { preset: "github".into(), ..custom.clone() }), [""; 0]);
        assert_eq!(faults(&v1::Source { preset: "nobody".into(), ..custom }), ["source.preset"]);
    }

    #[test]
    fn schemes_compile_or_name_their_faults() {
        let scheme = |value| convert::struct_of_json(value);
        let good = json!({
            "algorithm": "hmac-sha256", "content": "{timestamp}.{body}",
            "signature": {"sources": ["header:x-signature"]},
            "timestamp": {"sources": ["header:x-timestamp"], "unit": "s", "tolerance_past_s": 300}
        });
        let source = |value| v1::Source { scheme: scheme(value), ..v1::Source::default() };
        assert_eq!(faults(&source(good.clone())), [""; 0]);
        assert_eq!(faults(&v1::Source { insecure: true, ..source(good.clone()) }), ["source.insecure"]);
        let rot13 = faults(&source(json!({"algorithm": "rot13"})));
        assert!(rot13.contains(&"source.scheme.algorithm".to_string()), "{rot13:?}");
        let mut unknown_part = good;
        unknown_part["content"] = json!("{timestamp}.{nothing}");
        assert!(faults(&source(unknown_part)).contains(&"source.scheme.content".to_string()));
    }

    #[test]
    fn networks_and_addresses_of_senders() {
        let of = |list: &[&str]| v1::Source {
            preset: "github".into(),
            ip_allow_list: list.iter().map(|text| (*text).to_owned()).collect(),
            ..v1::Source::default()
        };
        let networks = |list| {
            let draft = check(&mut Violations::default(), &of(list));
            draft.spec.ip_allow_list.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(networks(&["192.0.2.7/24", "2001:db8::1"]), ["192.0.2.0/24", "2001:db8::1/128"]);
        assert_eq!(
            faults(&of(&["192.0.2.0/24", "10.0.0.0/33", ""])),
            ["source.ip_allow_list[1]", "source.ip_allow_list[2]"]
        );
        assert_eq!(faults(&of(&["192.0.2.1"; IP_ALLOW_LIST_MAX + 1])), ["source.ip_allow_list"]);
    }

    #[test]
    fn rates() {
        let of = |rate| v1::Source { preset: "github".into(), rate, ..v1::Source::default() };
        for (rate, known) in [(0.0, None), (0.01, Some(0.01)), (100_000.0, Some(100_000.0))] {
            assert_eq!(faults(&of(rate)), [""; 0], "{rate}");
            assert_eq!(check(&mut Violations::default(), &of(rate)).spec.rate_per_s, known);
        }
        for rate in [-1.0, 0.001, 100_001.0, f64::NAN, f64::INFINITY] {
            assert_eq!(faults(&of(rate)), ["source.rate"], "{rate}");
        }
    }

    #[test]
    fn parameters_are_those_of_the_preset() {
        let of = |preset: &str, list: &[(&str, &str)]| v1::Source {
            preset: preset.into(),
            parameters: list.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            ..v1::Source::default()
        };
        let both = [("audience", "https://hooks.example.com"), ("email", "push@example.com")];
        let drafted = check(&mut Violations::default(), &of("google-pubsub", &both));
        assert_eq!(drafted.spec.parameters.len(), 2);
        assert!(drafted.scheme.is_some());
        for (preset, given, expected) in [
            ("google-pubsub", &both[..], &[][..]),
            ("google-pubsub", &both[..1], &["source.parameters[email]"]),
            ("google-pubsub", &[], &["source.parameters[audience]", "source.parameters[email]"]),
            ("github", &[("webhook_id", "1")], &["source.parameters[webhook_id]"]),
            ("hasura", &[], &[]),
            ("hasura", &[("header", "x-mine")], &[]),
            ("hasura", &[("header", "no header")], &["source.parameters"]),
            ("hasura", &[("header", "{body}")], &["source.parameters[header]"]),
        ] {
            assert_eq!(faults(&of(preset, given)), expected, "{preset} {given:?}");
        }
    }

    #[test]
    fn every_fault_at_once() {
        let source = v1::Source {
            name: "Not A Slug".into(),
            preset: "nobody".into(),
            path: "x".into(),
            event_type: "bowline.mine".into(),
            channel: "a\0".into(),
            dedup_ttl: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
            body_limit_bytes: -1,
            ..v1::Source::default()
        };
        assert_eq!(
            faults(&source),
            [
                "source.name",
                "source.path",
                "source.preset",
                "source.event_type",
                "source.channel",
                "source.dedup_ttl",
                "source.body_limit_bytes"
            ]
        );
    }
}
