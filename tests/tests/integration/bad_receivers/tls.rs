//! Receivers whose TLS is not to be trusted.

use bowline_core::egress::{Certificates, EgressGuard, EgressPolicy, EgressRequest, SendErrorKind};
use bowline_proto::v1;
use bowline_tests::{Authority, BOUND, Receiver, Stack};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_certificate_that_is_refused_is_a_fault_of_tls_however_soon_that_is_said() {
    // It is said once the handshake is over: before the request is on its way, now and then.
    const TIMES: usize = 400;
    let (authority, strangers) = (Authority::new("bowline test servers"), Authority::new("strangers"));
    let receiver = Receiver::secure(authority.server(Some(&strangers))).await;
    let authorities = authority.pem();
    let trusting = Certificates { authorities: Some(&authorities), client: None };
    let guard = EgressGuard::new(EgressPolicy::loopback(), BOUND).with_certificates(&trusting).unwrap();
    for _ in 0..TIMES {
        let request = EgressRequest {
            method: http::Method::POST,
            url: receiver.url().parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::from_static(b"{}"),
            timeout: BOUND,
        };
        let error = guard.send(request).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Tls, "{error}");
        assert!(error.message.contains("CertificateRequired"), "{error}");
    }
    assert_eq!(receiver.count(), 0);
}
