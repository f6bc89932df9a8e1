//! Receivers whose TLS is not to be trusted.

use bowline_proto::v1;
use bowline_tests::{Authority, Receiver, Stack};

use super::{Case, attempted};

#[tokio::test]
async fn tls_that_is_not_to_be_trusted_gets_no_request() {
    let stack = Stack::start().await;
    let authority = Authority::new("bowline test servers");
    let strangers = Authority::new("strangers");
    let expired = Receiver::secure(authority.expired_server()).await;
    let elsewhere = Receiver::secure(authority.server_elsewhere()).await;
    let stranger = Receiver::secure(strangers.server(None)).await;
    let wants_mine = Receiver::secure(authority.server(Some(&strangers))).await;
    let plain = Receiver::start().await;
    let good = Receiver::secure(authority.server(None)).await;
    let trusting = |case: Case| {
        let tls = v1::EndpointTls { ca_certificates: authority.pem(), ..Default::default() };
        Case { tls: Some(tls), ..case }
    };
    let over_tls = |receiver: &Receiver| receiver.url().replace("http:", "https:");
    let cases = [
        trusting(Case::failed("expired", expired.url(), "tls", "expired")),
        trusting(Case::failed("of another host", elsewhere.url(), "tls", "not valid for name")),
        trusting(Case::failed("signed by a stranger", stranger.url(), "tls", "tls.ca_certificates")),
        Case::failed("signed by nobody known", good.url(), "tls", "tls.ca_certificates"),
        trusting(Case::failed("wants a certificate", wants_mine.url(), "tls", "certificate")),
        Case::failed("speaks no TLS", over_tls(&plain), "tls", "does not speak tls"),
        trusting(Case::delivered("as it should be", good.url())),
    ];
    attempted(&stack, &cases).await;
    for receiver in [&expired, &elsewhere, &stranger, &wants_mine] {
        assert_eq!(receiver.count(), 0);
    }
    assert_eq!((good.count(), plain.count()), (1, 0));
}
