//! The guard over real sockets, and what a URL alone gives away.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

fn guard(policy: EgressPolicy) -> EgressGuard {
    EgressGuard::new(policy, CONNECT_TIMEOUT)
}

/// A guard for which every name has these addresses.
fn guard_resolving_to(policy: EgressPolicy, addresses: &'static [&'static str]) -> EgressGuard {
    let lookup: Lookup = Arc::new(move |_| {
        Box::pin(async move { Ok(addresses.iter().map(|text| text.parse().unwrap()).collect()) })
    });
    EgressGuard::with_lookup(policy, CONNECT_TIMEOUT, lookup, KEPT_MAX)
}

fn request(url: &str) -> EgressRequest {
    EgressRequest {
        method: http::Method::POST,
        url: url.parse().unwrap(),
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(5),
    }
}

/// Serves every connection, and counts them.
async fn receiver_that<S>(serve: impl Fn(TcpStream) -> S + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream));
        }
    });
    (address, accepted)
}

/// Answers once on every connection.
async fn receiver(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    receiver_that(move |mut stream| async move {
        let mut buffer = [0; 2048];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    })
    .await
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[tokio::test]
async fn loopback_is_refused_by_default_and_nothing_connects() {
    let (address, accepted) = receiver(NO_CONTENT).await;
    let guard = guard(EgressPolicy { allow_http: true, ..EgressPolicy::default() });
    let port = address.port();
    for host in
        ["127.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "[::1]", "2130706433", "[::ffff:127.0.0.1]"]
    {
        let error = guard.send(request(&format!("http://{host}:{port}/"))).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::EgressRefused, "{host}: {error}");
        assert!(error.refusal.is_some(), "{host}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn loopback_is_reached_when_allowed_by_address_and_by_name() {
    let (address, _) = receiver(NO_CONTENT).await;
    let guard = guard(EgressPolicy::loopback());
    for host in ["127.0.0.1", "localhost", "0x7f.1"] {
        let url = format!("http://{host}:{}/", address.port());
        assert_eq!(guard.send(request(&url)).await.unwrap().status, 204, "{host}");
    }
}

#[tokio::test]
async fn a_name_with_one_refused_address_is_refused() {
    let policy = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    let guard = guard_resolving_to(policy, &["1.1.1.1", "10.0.0.1"]);
    let error = guard.send(request("http://both.test/")).await.unwrap_err();
    assert_eq!(
        error.refusal,
        Some(EgressError::Address {
            host: "both.test".into(),
            address: "10.0.0.1".parse().unwrap(),
            class: AddressClass::Private,
        })
    );
}

#[tokio::test]
async fn a_name_with_a_hidden_address_is_refused() {
    for (address, class) in [
        ("2001:0:101:101:0:fff8:f5ff:fffe", AddressClass::Private),
        ("2001:0:a00:1:0:fff8:fefe:fefe", AddressClass::Private),
        ("2002:a9fe:a9fe::1", AddressClass::Metadata),
        ("64:ff9b::6440:1", AddressClass::CarrierNat),
        ("64:ff9b:1::a00:1", AddressClass::LocalTranslation),
        ("::ffff:192.168.0.1", AddressClass::Private),
        ("::ffff:0:7f00:1", AddressClass::Loopback),
        ("::7f00:1", AddressClass::Loopback),
    ] {
        let addresses: &'static [&'static str] = Vec::leak(vec!["1.1.1.1", address]);
        let guard = guard_resolving_to(EgressPolicy::loopback(), addresses);
        let error = guard.send(request("http://hidden.test/")).await.unwrap_err();
        let refused =
            matches!(&error.refusal, Some(EgressError::Address { class: found, .. }) if *found == class);
        assert!(refused, "{address}: {error:?}");
    }
}

#[tokio::test]
async fn the_connection_goes_to_the_checked_address() {
    let (address, accepted) = receiver(NO_CONTENT).await;
    let guard = guard_resolving_to(EgressPolicy::loopback(), &["127.0.0.1"]);
    let response = guard.send(request(&format!("http://anything.test:{}/", address.port()))).await.unwrap();
    assert_eq!((response.status.as_u16(), accepted.load(Ordering::SeqCst)), (204, 1));
}

#[tokio::test]
async fn a_redirect_is_an_answer_not_an_instruction() {
    let (address, accepted) =
        receiver("HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")
            .await;
    let response =
        guard(EgressPolicy::loopback()).send(request(&format!("http://{address}/"))).await.unwrap();
    assert_eq!((response.status.as_u16(), accepted.load(Ordering::SeqCst)), (307, 1));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let (not_http, _) = receiver("this is not HTTP\r\n\r\n").await;
    let (cut, _) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort").await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let guard = guard(EgressPolicy::loopback());

    let table = [
        (format!("http://{closed}/"), SendErrorKind::Connect),
        (format!("http://{not_http}/"), SendErrorKind::Protocol),
        (format!("https://{not_http}/"), SendErrorKind::Tls),
        (format!("https://{}/", silent.local_addr().unwrap()), SendErrorKind::Timeout),
    ];
    for (url, kind) in table {
        let error = guard.send(request(&url)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{url}: {error}");
        assert!(!error.message.contains("127.0.0.1:"), "the URL is not in the message: {error}");
    }

    let mut response = guard.send(request(&format!("http://{cut}/"))).await.unwrap();
    let error = loop {
        match response.chunk().await {
            Ok(bytes) => assert!(bytes.is_some(), "it does not end as it should"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, SendErrorKind::Body, "{error}");
}

#[tokio::test]
async fn a_slow_receiver_times_out() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = request(&format!("http://{}/", silent.local_addr().unwrap()));
    request.timeout = Duration::from_millis(50);
    let error = guard(EgressPolicy::loopback()).send(request).await.unwrap_err();
    assert_eq!(error.kind, SendErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn names_that_fail_hang_or_are_empty_are_dns_errors() {
    let lookup: Lookup = Arc::new(|name| {
        Box::pin(async move {
            match name.as_str() {
                "hangs.test" => std::future::pending().await,
                "empty.test" => Ok(Vec::new()),
                _ => Err(io::Error::other("no such name")),
            }
        })
    });
    let policy = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    let guard = EgressGuard::with_lookup(policy, Duration::from_millis(100), lookup, KEPT_MAX);
    for host in ["hangs.test", "empty.test", "missing.test"] {
        let error = guard.send(request(&format!("http://{host}/"))).await.unwrap_err();
        assert_eq!(error.kind, SendErrorKind::Dns, "{host}: {error}");
    }
}

#[tokio::test]
async fn look_ups_of_one_name_are_shared() {
    let asked = Arc::new(AtomicUsize::new(0));
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let (counter, gate) = (Arc::clone(&asked), Arc::clone(&release));
    let lookup: Lookup = Arc::new(move |_| {
        counter.fetch_add(1, Ordering::SeqCst);
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            let _permit = gate.acquire().await;
            Ok::<Vec<IpAddr>, io::Error>(vec!["1.1.1.1".parse().unwrap()])
        })
    });
    let resolver = GuardedResolver::new(Arc::default(), lookup, CONNECT_TIMEOUT);
    // None is let go before all have asked.
    let all = (0..8).map(|_| resolver.addresses("one.test"));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(all), async { release.add_permits(1) });
    for answer in answers {
        assert_eq!(answer.unwrap().len(), 1);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Answers every request on every connection.
async fn lasting_receiver() -> (SocketAddr, Arc<AtomicUsize>) {
    receiver_that(|mut stream| async move {
        let mut buffer = [0; 2048];
        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
            let _ = stream.write_all(NO_CONTENT.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_is_timed_once_and_used_again() {
    let (address, _) = lasting_receiver().await;
    let guard = guard_resolving_to(EgressPolicy::loopback(), &["127.0.0.1"]);
    let url = format!("http://anything.test:{}/", address.port());
    let first = guard.send(request(&url)).await.unwrap().timings;
    assert!(first.dns.is_some() && first.connect.is_some() && first.tls.is_none(), "{first:?}");
    assert_eq!(guard.send(request(&url)).await.unwrap().timings, Timings::default(), "no such steps");
    let refused = guard.send(request("http://10.0.0.1/")).await.unwrap_err();
    assert_eq!(*refused.timings, Timings::default(), "refused before any step");
}

#[tokio::test]
async fn connections_beyond_those_that_are_kept_serve_one_request() {
    for (kept_max, connections) in [(KEPT_MAX, 1), (0, 3)] {
        let (address, accepted) = lasting_receiver().await;
        let guard = EgressGuard::with_lookup(
            EgressPolicy::loopback(),
            CONNECT_TIMEOUT,
            resolve::system_lookup(),
            kept_max,
        );
        for _ in 0..3 {
            assert_eq!(guard.send(request(&format!("http://{address}/"))).await.unwrap().status, 204);
        }
        assert_eq!(accepted.load(Ordering::SeqCst), connections);
    }
}

#[tokio::test]
async fn an_address_in_the_url_is_checked_where_the_connection_is_made_too() {
    let resolver = GuardedResolver::new(Arc::default(), resolve::system_lookup(), CONNECT_TIMEOUT);
    assert!(resolver.check("10.0.0.1", "10.0.0.1".parse().unwrap()).is_err());
    assert!(resolver.check("1.1.1.1", "1.1.1.1".parse().unwrap()).is_ok());
}

#[test]
fn what_a_url_alone_gives_away() {
    let open = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    let ports = EgressPolicy { allow_ports: vec![443, 8443], ..EgressPolicy::default() };
    let verdict = |policy: &EgressPolicy, url: &str| policy.check_url(&url.parse().unwrap());

    for fine in [
        "https://example.com/hook?x=1",
        "https://example.com:8443/",
        "https://1.1.1.1/",
        "https://[2606:4700::1]/",
    ] {
        assert_eq!(verdict(&ports, fine), Ok(()), "{fine}");
    }
    assert_eq!(verdict(&open, "http://example.com/"), Ok(()));
    assert_eq!(verdict(&ports, "http://example.com/"), Err(EgressError::PlainHttp));
    assert_eq!(verdict(&ports, "https://example.com:22/"), Err(EgressError::Port { port: 22 }));
    assert_eq!(verdict(&open, "https://example.com:0/"), Err(EgressError::Port { port: 0 }));
    assert_eq!(verdict(&open, "ftp://example.com/"), Err(EgressError::Scheme { scheme: "ftp".into() }));
    assert_eq!(verdict(&open, "https://me@example.com/"), Err(EgressError::Credentials));
    assert_eq!(verdict(&open, "https://:pw@example.com/"), Err(EgressError::Credentials));
    let long = format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX));
    assert_eq!(verdict(&open, &long), Err(EgressError::TooLong { limit_bytes: URL_BYTES_MAX }));
    assert!(matches!(verdict(&open, "http://printer.localhost/"), Err(EgressError::LocalName { .. })));

    // One address, however it is spelled.
    for spelling in [
        "http://10.0.0.1/",
        "http://167772161/",
        "http://0xa000001/",
        "http://0xa.0.0.1/",
        "http://012.0.0.1/",
        "http://10.1/",
        "http://10.0.0.1./",
        "http://%31%30.0.0.1/",
        "http://１０.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::ffff:a00:1]/",
        "http://[64:ff9b::a00:1]/",
        "http://[2002:a00:1::]/",
    ] {
        let refused = verdict(&open, spelling);
        assert!(
            matches!(refused, Err(EgressError::Address { class: AddressClass::Private, .. })),
            "{spelling}: {refused:?}"
        );
    }
}
