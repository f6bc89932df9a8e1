//! Receivers that are slow, broken or hostile, over real sockets: what the log says of each, and what is
//! decided.

mod http1;
mod http2;
mod tls;

use std::time::Duration;

use bowline_proto::v1::{self, AttemptDecision};
use bowline_tests::Stack;
use bowline_tests::admin::{self, Admin};

const FOREVER: Duration = Duration::from_secs(3600);
/// For those that never finish, and still long enough for what comes before that; the others have the ten seconds of
/// the default.
const SHORT: Duration = Duration::from_secs(3);

/// What the first attempt at a receiver comes to.
struct Case {
    what: &'static str,
    url: String,
    timeout: Option<Duration>,
    tls: Option<v1::EndpointTls>,
    status: i32,
    /// Empty: delivered.
    error_kind: &'static str,
    /// A part of the error's own words.
    says: &'static str,
}

impl Case {
    fn delivered(what: &'static str, url: String) -> Self {
        Self { what, url, timeout: None, tls: None, status: 200, error_kind: "", says: "" }
    }

    fn failed(what: &'static str, url: String, error_kind: &'static str, says: &'static str) -> Self {
        Self { status: 0, error_kind, says, ..Self::delivered(what, url) }
    }

    fn endpoint(&self) -> v1::Endpoint {
        v1::Endpoint {
            timeout: self.timeout.map(admin::duration),
            tls: self.tls.clone(),
            ..admin::with_waits(self.url.clone(), &[FOREVER])
        }
    }

    fn check(&self, delivery: &v1::Delivery) {
        let attempt = &delivery.attempts[0];
        let what = self.what;
        assert_eq!(delivery.attempts.len(), 1, "{what}: {delivery:?}");
        assert_eq!(
            (attempt.status_code, attempt.error_kind.as_str()),
            (self.status, self.error_kind),
            "{what}: {attempt:?}"
        );
        let decision =
            if self.error_kind.is_empty() { AttemptDecision::Delivered } else { AttemptDecision::Retry };
        assert_eq!(attempt.decision(), decision, "{what}: {attempt:?}");
        let words = attempt.error_message.to_lowercase();
        assert!(words.contains(self.says), "{what}: `{}` in `{}`", self.says, attempt.error_message);
    }
}

/// One event for all of them; gives what was logged of each.
async fn attempted(stack: &Stack, cases: &[Case]) -> Vec<v1::Delivery> {
    let admin: Admin = stack.admin();
    let mut ids = Vec::new();
    for case in cases {
        ids.push(admin.endpoint(case.endpoint()).await.0);
    }
    let event = admin.publish("order.created").await;
    let mut logged = Vec::new();
    for (case, id) in cases.iter().zip(&ids) {
        let delivery = admin.await_attempts(&event, id, 1).await;
        case.check(&delivery);
        logged.push(delivery);
    }
    logged
}
