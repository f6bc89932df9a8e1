//! By which flag a field of the admin API was given: whoever reads "--until" should not have to know
//! that the API calls it `filter.end_time`.

/// Fields whose flag is called otherwise; an index or a deeper field behind them stays part of them.
const RENAMED: &[(&str, &str)] = &[
    ("filter.start_time", "--since"),
    ("filter.end_time", "--until"),
    ("start_time", "--since"),
    ("filter.source_id", "--source"),
    ("filter.endpoint_id", "--endpoint"),
    ("filter.event_id", "--event"),
    ("filter.labels", "--label"),
    ("page_size", "--limit"),
    ("tenant_id", "--tenant"),
    ("body", "--data"),
    ("secret", "the secret"),
    ("basic.username", "--username"),
    ("basic.password", "the secret"),
    ("named_secrets", "--named-secret-env or --named-secret-file"),
    ("id", "the id"),
    ("source.id", "the id"),
    ("endpoint.id", "the id"),
    ("source.name", "the name"),
    ("endpoint.name", "the name"),
    ("source.labels", "--label"),
    ("source.parameters", "--parameter"),
    ("source.ip_allow_list", "--allow-ip"),
    ("event_type.name", "the name"),
    ("event_type.id", "the id"),
    ("event_type.json_schema", "--schema-file"),
    ("event_type.labels", "--label"),
    ("binding.id", "the id"),
    ("binding.source_id", "--source"),
    ("binding.widget", "--template"),
    ("binding.widget.template", "--template"),
    ("binding.projection", "--field"),
    ("binding.projection.fields", "--field"),
    ("binding.query", "the query"),
    ("binding.query.aggregate.window", "--window"),
    ("binding.query.aggregate.op", "--op"),
    ("binding.query.aggregate.field", "--field"),
    ("binding.query.list.limit", "--limit"),
    ("binding.query.list.sort_by", "--sort-by"),
    ("binding.query.list.order", "--order"),
    ("endpoint.labels", "--label"),
    ("endpoint.event_types", "--event-type"),
    ("endpoint.channels", "--channel"),
    ("endpoint.headers", "--header"),
    ("endpoint.retry.schedule.waits", "--retry-schedule"),
    ("endpoint.retry.schedule.jitter", "--retry-jitter"),
    ("endpoint.retry.exponential.initial", "--retry-initial"),
    ("endpoint.retry.exponential.factor", "--retry-factor"),
    ("endpoint.retry.exponential.max", "--retry-max"),
    ("endpoint.retry.max_attempts", "--max-attempts"),
    ("endpoint.retry.max_age", "--retry-max-age"),
    ("endpoint.retry.fixed.wait", "--retry-fixed"),
    ("endpoint.retry.fixed.jitter", "--retry-jitter"),
    ("endpoint.retry.overrides", "--on-status"),
    ("endpoint.custom_format", "--custom-scheme"),
    ("endpoint.custom_format.scheme", "--custom-scheme"),
    ("endpoint.custom_format.headers", "--custom-header"),
    ("endpoint.tls.client_certificate", "--client-certificate"),
    ("endpoint.tls.client_key", "--client-key"),
    ("endpoint.tls.ca_certificates", "--ca-certificates"),
    ("endpoint.disable.after_failures", "--disable-after-failures"),
    ("endpoint.disable.after", "--disable-after"),
    ("endpoint.retry", "the retry policy"),
    ("endpoint.retry.schedule", "--retry-schedule"),
    ("endpoint.retry.exponential", "--retry-exponential"),
    ("endpoint.retry.fixed", "--retry-fixed"),
    ("endpoint.disable", "--disable-after-failures"),
    ("endpoint.auth", "the authentication"),
    ("endpoint.auth.basic.username", "--basic-user"),
    ("endpoint.auth.basic.password", AUTH_SECRET),
    ("endpoint.auth.bearer.token", AUTH_SECRET),
    ("endpoint.auth.client_credentials.token_url", "--oauth2-token-url"),
    ("endpoint.auth.client_credentials.client_id", "--oauth2-client-id"),
    ("endpoint.auth.client_credentials.client_secret", AUTH_SECRET),
    ("endpoint.auth.client_credentials.scopes", "--oauth2-scope"),
    ("endpoint.auth.client_credentials.audience", "--oauth2-audience"),
    ("endpoint.tls", "--client-certificate or --ca-certificates"),
    ("tenant.id", "the id"),
    ("tenant.name", "the name"),
    ("tenant.labels", "--label"),
    ("api_key.expire_time", "--expires-in"),
    ("delivery_ids", "DELIVERY"),
    ("endpoint_ids", "--to"),
    ("rate_per_second", "--rate"),
];
/// Beneath these a field and its flag have the same name, but for the dashes.
const SAME: &[&str] =
    &["filter.", "source.", "endpoint.", "binding.", "query.", "event_type.", "tenant.", "api_key.", ""];
const AUTH_SECRET: &str = "the auth secret (--auth-secret-file, --auth-secret-env or --auth-secret-stdin)";

/// `--until`; `--retry-schedule [1]`; `--scheme key.decode`; the field itself where no flag gives it.
pub(crate) fn of(field: &str) -> String {
    let known = RENAMED.iter().filter_map(|(name, flag)| Some((*flag, rest(field, name)?)));
    if let Some((flag, rest)) = known.max_by_key(|(_, rest)| std::cmp::Reverse(rest.len())) {
        return joined(flag, rest);
    }
    let same = SAME.iter().find_map(|prefix| field.strip_prefix(prefix)).unwrap_or(field);
    let (name, rest) = same.split_at(same.find(['.', '[']).unwrap_or(same.len()));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
        return field.to_owned();
    }
    joined(&format!("--{}", name.replace('_', "-")), rest)
}

/// What follows `name` in `field`, if that is where it begins.
fn rest<'a>(field: &'a str, name: &str) -> Option<&'a str> {
    field.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn joined(flag: &str, rest: &str) -> String {
    match rest.strip_prefix('.').unwrap_or(rest) {
        "" => flag.to_owned(),
        rest => format!("{flag} {rest}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use bowline_proto::FILE_DESCRIPTOR_SET;
    use clap::CommandFactory;
    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;
    use crate::arguments::Arguments;

    #[test]
    fn fields_have_the_name_of_their_flag() {
        for (field, flag) in [
            // Of the table, with what stands behind it.
            ("filter.end_time", "--until"),
            ("secret", "the secret"),
            ("endpoint.retry.schedule.waits[1]", "--retry-schedule [1]"),
            ("endpoint.headers[Host]", "--header [Host]"),
            ("endpoint.retry.overrides[0].statuses", "--on-status [0].statuses"),
            ("endpoint.custom_format.scheme.signature.encoding", "--custom-scheme signature.encoding"),
            // The longer name, wherever it stands; and no word that only begins alike.
            ("endpoint.disable.after", "--disable-after"),
            ("endpoint.retry.fixed.wait", "--retry-fixed"),
            ("idempotency_key", "--idempotency-key"),
            // Of the same name.
            ("filter.status_code", "--status-code"),
            ("query.sort_by", "--sort-by"),
            ("source.scheme.signature.encoding", "--scheme signature.encoding"),
            ("page_token", "--page-token"),
            // Of none.
            ("Weird Field", "Weird Field"),
        ] {
            assert_eq!(of(field), flag, "{field}");
        }
    }

    #[test]
    fn a_renamed_field_is_one_that_a_request_has() {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let named = |message: DescriptorProto| (message.name().to_owned(), message);
        let files = set.file.into_iter().filter(|file| file.package() == "bowline.v1");
        let messages: HashMap<_, _> = files.flat_map(|file| file.message_type).map(named).collect();
        let requests: Vec<&DescriptorProto> =
            messages.values().filter(|message| message.name().ends_with("Request")).collect();
        let mut seen = BTreeSet::new();
        for (field, _) in RENAMED {
            let known = requests.iter().any(|request| has(&messages, request, field));
            assert!(known, "no request has `{field}`");
            assert!(seen.insert(field), "`{field}` stands twice");
        }
    }

    fn has(messages: &HashMap<String, DescriptorProto>, message: &DescriptorProto, path: &str) -> bool {
        let (name, behind) = path.split_once('.').map_or((path, None), |(name, behind)| (name, Some(behind)));
        let Some(field) = message.field.iter().find(|field| field.name() == name) else { return false };
        let Some(behind) = behind else { return true };
        // `.bowline.v1.Endpoint`
        let inner = field.type_name().rsplit('.').next().and_then(|name| messages.get(name));
        inner.is_some_and(|inner| has(messages, inner, behind))
    }

    #[test]
    fn a_flag_that_is_named_can_be_given() {
        let mut flags = BTreeSet::new();
        let mut commands = vec![Arguments::command()];
        while let Some(command) = commands.pop() {
            flags.extend(command.get_arguments().filter_map(|flag| flag.get_long()).map(str::to_owned));
            commands.extend(command.get_subcommands().cloned());
        }
        for (field, text) in RENAMED {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
            for flag in words.filter_map(|word| word.strip_prefix("--")) {
                assert!(flags.contains(flag), "`{field}`: no command takes --{flag}");
            }
        }
    }
}
