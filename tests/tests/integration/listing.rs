//! Lists of what is configured: what they hold, what they leave out, and page by page.

use std::collections::BTreeMap;

use bowline_proto::v1::{self, EndpointState};
use bowline_tests::admin::{self, Admin, reason};
use bowline_tests::{Stack, sign};
use tonic::Code;

async fn ingest_only() -> Stack {
    Stack::builder().dispatchers(0).start().await
}

fn labels(team: &str) -> BTreeMap<String, String> {
    [("team".to_owned(), team.to_owned())].into()
}

async fn endpoints(admin: &Admin, filter: v1::EndpointFilter) -> Vec<v1::Endpoint> {
    let request = v1::ListEndpointsRequest { filter: Some(filter), ..Default::default() };
    let page = admin.endpoints().list_endpoints(request).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "");
    page.endpoints
}

async fn sources(admin: &Admin, filter: v1::SourceFilter) -> Vec<v1::Source> {
    let request = v1::ListSourcesRequest { filter: Some(filter), ..Default::default() };
    let page = admin.sources().list_sources(request).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "");
    page.sources
}

#[tokio::test]
async fn endpoints_are_listed_as_they_are() {
    let stack = Stack::start().await;
    let admin = stack.admin();
    let mut made = Vec::new();
    for (number, format) in ["standard", "rkt", "chimpbase", "standard", "chatblocks"].iter().enumerate() {
        let endpoint = v1::Endpoint {
            name: format!("listed-{number}"),
            display_name: format!("Listed {number}"),
            labels: labels(if number < 2 { "sales" } else { "support" }),
            event_types: vec!["order.*".into()],
            channels: vec![format!("bot-{number}")],
            headers: [("x-team".to_owned(), number.to_string())].into(),
            format: (*format).to_owned(),
            ..admin::endpoint(format!("https://example.com/{number}"))
        };
        made.push(admin.endpoint(endpoint).await.0);
    }
    admin.set_state(&made[3], EndpointState::Paused).await;
    let delete = v1::DeleteEndpointRequest { id: made.remove(4), ..Default::default() };
    admin.endpoints().delete_endpoint(delete).await.unwrap();

    // Each as GetEndpoint shows it, oldest first, at either service.
    let mut expected = Vec::new();
    for id in &made {
        expected.push(admin.get_endpoint(id).await);
    }
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(admin::KEY));
    for admin in [&admin, &by_dispatcher] {
        assert_eq!(endpoints(admin, v1::EndpointFilter::default()).await, expected);
    }
    assert_eq!(expected[1].display_name, "Listed 1");
    assert_eq!((expected[1].url.as_str(), expected[1].format.as_str()), ("https://example.com/1", "rkt"));
    assert_eq!(
        (&expected[1].channels[..], &expected[1].event_types[..]),
        (&["bot-1".to_owned()][..], &["order.*".to_owned()][..])
    );

    let paused = EndpointState::Paused;
    for (filter, wanted) in [
        (v1::EndpointFilter { name: "listed-2".into(), ..Default::default() }, &[2][..]),
        (v1::EndpointFilter { format: "standard".into(), ..Default::default() }, &[0, 3]),
        (v1::EndpointFilter { labels: labels("sales"), ..Default::default() }, &[0, 1]),
        (v1::EndpointFilter { state: paused.into(), ..Default::default() }, &[3]),
        (v1::EndpointFilter { name: "listed-4".into(), ..Default::default() }, &[]),
    ] {
        let wanted: Vec<_> = wanted.iter().map(|number| expected[*number].clone()).collect();
        assert_eq!(endpoints(&admin, filter.clone()).await, wanted, "{filter:?}");
    }
}

#[tokio::test]
async fn sources_are_listed_as_they_are() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let mut made = Vec::new();
    for (number, preset) in ["github", "stripe", "github", "slack"].iter().enumerate() {
        let source = v1::Source {
            name: format!("listed-{number}"),
            display_name: format!("Listed {number}"),
            labels: labels(if number < 2 { "sales" } else { "support" }),
            preset: (*preset).to_owned(),
            path: format!("/hooks/listed-{number}"),
            enabled: Some(number != 2),
            ..Default::default()
        };
        made.push(admin.source_like(source, &format!("whsec_bowline-test-{preset}-secret")).await);
    }
    let delete = v1::DeleteSourceRequest { id: made.pop().unwrap().id, ..Default::default() };
    admin.sources().delete_source(delete).await.unwrap();

    assert_eq!(sources(&admin, v1::SourceFilter::default()).await, made);
    assert_eq!((made[1].display_name.as_str(), made[1].preset.as_str()), ("Listed 1", "stripe"));
    assert_eq!(made[1].receive_url, "http://ingest.test/hooks/listed-1");
    assert_eq!((made[0].enabled, made[2].enabled), (Some(true), Some(false)));
    for (filter, wanted) in [
        (v1::SourceFilter { name: "listed-1".into(), ..Default::default() }, &[1][..]),
        (v1::SourceFilter { preset: "github".into(), ..Default::default() }, &[0, 2]),
        (v1::SourceFilter { labels: labels("sales"), ..Default::default() }, &[0, 1]),
        (v1::SourceFilter { enabled: Some(false), ..Default::default() }, &[2]),
        (v1::SourceFilter { name: "listed-3".into(), ..Default::default() }, &[]),
    ] {
        let wanted: Vec<_> = wanted.iter().map(|number| made[*number].clone()).collect();
        assert_eq!(sources(&admin, filter.clone()).await, wanted, "{filter:?}");
    }
}

#[tokio::test]
async fn pages_of_endpoints_and_sources_hold_each_once() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let (mut all_endpoints, mut all_sources) = (Vec::new(), Vec::new());
    for number in 0..5 {
        all_endpoints.push(admin.endpoint(admin::endpoint(format!("https://example.com/{number}"))).await.0);
        all_sources.push(admin.source("github", "bowline-test-github-secret").await);
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    for left in [3, 1, 0] {
        let request = v1::ListEndpointsRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = admin.endpoints().list_endpoints(request).await.unwrap().into_inner();
        seen.extend(page.endpoints.into_iter().map(|endpoint| endpoint.id));
        assert_eq!((seen.len(), page.next_page_token.is_empty()), (5 - left, left == 0));
        token = page.next_page_token;
    }
    assert_eq!(seen, all_endpoints);

    let (mut seen, mut token) = (Vec::new(), String::new());
    for left in [3, 1, 0] {
        let request =
            v1::ListSourcesRequest { page_size: 2, page_token: token.clone(), ..Default::default() };
        let page = admin.sources().list_sources(request).await.unwrap().into_inner();
        seen.extend(page.sources.into_iter().map(|source| source.id));
        assert_eq!((seen.len(), page.next_page_token.is_empty()), (5 - left, left == 0));
        if left > 0 {
            token = page.next_page_token;
        }
    }
    assert_eq!(seen, all_sources);
    // A token of one list is none of the other.
    let request = v1::ListEndpointsRequest { page_token: token, ..Default::default() };
    let refused = admin.endpoints().list_endpoints(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "PAGE_TOKEN_INVALID"));
}

#[tokio::test]
async fn a_list_tells_that_there_are_secrets_and_none_of_them() {
    let stack = ingest_only().await;
    let admin = stack.admin();
    let mut secrets = Vec::new();
    for format in ["standard", "rkt", "chimpbase", "chatbase", "connectgain", "chatblocks", "raw"] {
        let given = sign::test_secret(format);
        let request = v1::CreateEndpointRequest {
            endpoint: Some(v1::Endpoint {
                format: format.into(),
                ..admin::endpoint("https://example.com/hook")
            }),
            secret: given.clone(),
            ..Default::default()
        };
        let id = admin.endpoints().create_endpoint(request).await.unwrap().into_inner().endpoint.unwrap().id;
        let overlap = Some(admin::duration(std::time::Duration::from_secs(3600)));
        let rotate = v1::RotateEndpointSecretRequest { id, overlap, ..Default::default() };
        let made = admin.endpoints().rotate_endpoint_secret(rotate).await.unwrap().into_inner().secret;
        secrets.extend([given, made]);
    }
    for preset in ["standard", "github", "stripe", "slack"] {
        let given = sign::test_secret(preset);
        admin.source(preset, &given).await;
        secrets.push(given);
    }
    let endpoints = endpoints(&admin, v1::EndpointFilter::default()).await;
    let sources = sources(&admin, v1::SourceFilter::default()).await;
    assert!(endpoints.iter().all(|endpoint| endpoint.secrets.len() == 2), "{endpoints:?}");
    assert!(sources.iter().all(|source| source.secrets.len() == 1), "{sources:?}");
    assert_eq!((endpoints.len(), sources.len()), (7, 4));
    let told = format!("{endpoints:?} {sources:?}");
    for secret in secrets {
        // Neither as it is written nor without the prefix that says what it is.
        let bare = secret.trim_start_matches("whsec_");
        assert!(bare.len() > 20 && !told.contains(bare), "{secret} is told");
    }
}
