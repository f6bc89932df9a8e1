//! The names that blocks hold as one byte.

/// No header's name begins with a byte from here on.
const FIRST_CODE: u8 = 0x80;

/// In the order of their codes: names are only ever added, at the end.
const NAMES: &[&str] = &[
    "host",
    "user-agent",
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "connection",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "forwarded",
    "via",
    "date",
    "server",
    "cache-control",
    "vary",
    "etag",
    "set-cookie",
    "transfer-encoding",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-request-id",
    "cf-ray",
    "alt-svc",
    "retry-after",
    "location",
    "authorization",
    "idempotency-key",
    "traceparent",
    "tracestate",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "bowline-attempt",
    "x-chimpbase-signature",
    "x-chimpbase-timestamp",
    "x-chimpbase-delivery-id",
    "x-chimpbase-event",
    "x-rkt-signature",
    "x-chatbase-signature",
    "x-webhook-event",
    "x-webhook-timestamp",
    "x-webhook-signature",
    "x-chatblocks-signature",
    "ce-id",
    "ce-source",
    "ce-specversion",
    "ce-time",
    "ce-type",
    "svix-id",
    "svix-timestamp",
    "svix-signature",
    "stripe-signature",
    "x-github-event",
    "x-github-delivery",
    "x-github-hook-id",
    "x-github-hook-installation-target-id",
    "x-github-hook-installation-target-type",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-slack-signature",
    "x-slack-request-timestamp",
    "x-shopify-topic",
    "x-shopify-hmac-sha256",
    "x-shopify-shop-domain",
    "x-shopify-api-version",
    "x-shopify-webhook-id",
    "x-shopify-triggered-at",
    "x-shopify-event-id",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "x-gitlab-instance",
    "x-gitlab-webhook-uuid",
    "paypal-transmission-id",
    "paypal-transmission-time",
    "paypal-transmission-sig",
    "paypal-auth-algo",
    "paypal-auth-version",
    "paypal-cert-url",
    "x-twilio-signature",
    "x-amz-sns-message-type",
    "x-amz-sns-message-id",
    "x-amz-sns-topic-arn",
    "x-amz-sns-subscription-arn",
];

pub(super) fn code_of(name: &str) -> Option<u8> {
    let at = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(at).ok()?.checked_add(FIRST_CODE)
}

pub(super) fn of_code(code: u8) -> Option<&'static str> {
    NAMES.get(usize::from(code.checked_sub(FIRST_CODE)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_code_of_its_own() {
        for name in NAMES {
            let parsed: http::HeaderName = name.parse().unwrap();
            assert_eq!(parsed.as_str(), *name, "as they are on the wire");
            assert_eq!(code_of(name).and_then(of_code), Some(*name));
        }
        assert_eq!(code_of("x-of-nobody"), None);
        assert_eq!(of_code(b'h'), None);
    }
}
