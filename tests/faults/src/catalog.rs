//! What is sent and who should have it, said once more by hand: the checker knows nothing of the
//! services' own matching.

/// How an event comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A webhook to the source of that index in [`SOURCES`].
    Webhook(usize),
    Publish,
}

/// A kind of event.
#[derive(Debug)]
pub struct Kind {
    pub way: Way,
    pub event_type: &'static str,
    pub channel: &'static str,
}

/// A source: preset, and the constants in place of what the preset would read.
#[derive(Debug)]
pub struct SourceKind {
    pub preset: &'static str,
    pub event_type: &'static str,
    pub channel: &'static str,
}

pub const SOURCES: &[SourceKind] = &[
    // The type is read from a header.
    SourceKind { preset: "github", event_type: "", channel: "" },
    SourceKind { preset: "github", event_type: "order.created", channel: "red" },
    // Signs a time: a sender's clock matters.
    SourceKind { preset: "standard", event_type: "order.shipped", channel: "blue" },
];

pub const KINDS: &[Kind] = &[
    Kind { way: Way::Webhook(0), event_type: "push", channel: "" },
    Kind { way: Way::Webhook(1), event_type: "order.created", channel: "red" },
    Kind { way: Way::Webhook(2), event_type: "order.shipped", channel: "blue" },
    Kind { way: Way::Publish, event_type: "order.paid", channel: "blue" },
    Kind { way: Way::Publish, event_type: "invoice.paid", channel: "" },
    Kind { way: Way::Publish, event_type: "user.created", channel: "green" },
    Kind { way: Way::Publish, event_type: "nobody.asked", channel: "grey" },
];

/// An endpoint, and what it is for.
#[derive(Debug)]
pub struct EndpointKind {
    pub name: &'static str,
    /// Empty: all. `prefix.*` or a whole type.
    pub event_types: &'static [&'static str],
    /// Empty: all.
    pub channels: &'static [&'static str],
    /// Of a hundred requests so many are answered 500.
    pub refuses_percent: u32,
    /// Attempts in all.
    pub attempts: u32,
    /// One at a time in each channel, in order.
    pub ordered: bool,
    /// How long it thinks before it answers: so that requests are out when something happens.
    pub thinks_ms: u64,
}

const PATIENT: u32 = 100;

pub const ENDPOINTS: &[EndpointKind] = &[
    endpoint("orders", &["order.*"], &[], 0),
    endpoint("created", &["order.created"], &[], 100),
    endpoint("red", &[], &["red"], 20),
    endpoint("blue-green", &["order.*", "user.created"], &["blue", "green"], 300),
    endpoint("invoices", &["invoice.paid"], &[], 0),
    endpoint("push", &["push"], &[], 600),
    EndpointKind { refuses_percent: 10, ..endpoint("flaky", &["order.*", "user.*", "push"], &[], 50) },
    EndpointKind { attempts: 3, ..endpoint("few-tries", &["order.*"], &[], 0) },
    EndpointKind {
        refuses_percent: 5,
        ordered: true,
        ..endpoint("in-turn", &["order.created", "user.*"], &[], 5)
    },
    // No event is for it.
    endpoint("never", &["never.sent"], &["red"], 0),
];

const fn endpoint(
    name: &'static str,
    event_types: &'static [&'static str],
    channels: &'static [&'static str],
    thinks_ms: u64,
) -> EndpointKind {
    EndpointKind {
        name,
        event_types,
        channels,
        refuses_percent: 0,
        attempts: PATIENT,
        ordered: false,
        thinks_ms,
    }
}

impl EndpointKind {
    pub fn wants(&self, kind: &Kind) -> bool {
        let of_type = |wanted: &&str| match wanted.strip_suffix(".*") {
            Some(stem) => kind.event_type.strip_prefix(stem).is_some_and(|rest| rest.starts_with('.')),
            None => kind.event_type == *wanted,
        };
        (self.event_types.is_empty() || self.event_types.iter().any(of_type))
            && (self.channels.is_empty() || self.channels.contains(&kind.channel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fan_out_is_partial_everywhere() {
        let table: Vec<String> = KINDS
            .iter()
            .map(|kind| {
                let names: Vec<_> =
                    ENDPOINTS.iter().filter(|e| e.wants(kind)).map(|endpoint| endpoint.name).collect();
                format!("{} {}: {}", kind.event_type, kind.channel, names.join(" "))
            })
            .collect();
        assert_eq!(
            table,
            [
                "push : push flaky",
                "order.created red: orders created red flaky few-tries in-turn",
                "order.shipped blue: orders blue-green flaky few-tries",
                "order.paid blue: orders blue-green flaky few-tries",
                "invoice.paid : invoices",
                "user.created green: blue-green flaky in-turn",
                "nobody.asked grey: ",
            ]
        );
    }
}
