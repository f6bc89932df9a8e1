//! The examples that the providers publish themselves, byte for byte.

use super::{Sent, keys};
use crate::preset;

/// `docs.github.com`, "Validating webhook deliveries", section on testing.
#[test]
fn github_hello_world() {
    let scheme = preset::find("github").unwrap().scheme().unwrap();
    let sent = Sent::new(
        &[("X-Hub-Signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17")],
        "Hello, World!",
    );
    sent.verify(scheme, &keys(scheme, &["It's a Secret to Everybody"]), 0).unwrap();
}

/// The example of the Standard Webhooks libraries' documentation and tests.
#[test]
fn standard_webhooks_example() {
    let scheme = preset::find("standard").unwrap().scheme().unwrap();
    let sent = Sent::new(
        &[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        r#"{"test": 2432232314}"#,
    );
    let keys = keys(scheme, &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    sent.verify(scheme, &keys, 1_614_265_330).unwrap();
}

/// `docs.slack.dev`, "Verifying requests from Slack", step by step.
#[test]
fn slack_walkthrough() {
    let scheme = preset::find("slack").unwrap().scheme().unwrap();
    let sent = Sent::new(
        &[
            ("X-Slack-Request-Timestamp", "1531420618"),
            ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ],
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
         &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
         &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554\
         %2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
    );
    sent.verify(scheme, &keys(scheme, &["8f742231b10e8888abcd99yyyzzz85a5"]), 1_531_420_618).unwrap();
}

/// Stripe's libraries sign test events as hex HMAC-SHA256 of `{t}.{payload}` under the whole
/// `whsec_` text; the value was computed apart from this engine, with `openssl dgst -hmac`.
#[test]
fn stripe_test_header() {
    let scheme = preset::find("stripe").unwrap().scheme().unwrap();
    let sent = Sent::new(
        &[(
            "Stripe-Signature",
            "t=1700000000,v1=86fe4d780f833d53d3b137ea0875f724bb9c98f208f55e3d7eded447624d747c,v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39",
        )],
        r#"{"id":"evt_test_webhook","object":"event"}"#,
    );
    sent.verify(scheme, &keys(scheme, &["whsec_bowline_test_secret"]), 1_700_000_300).unwrap();
}
