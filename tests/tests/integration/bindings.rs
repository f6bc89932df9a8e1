//! Bindings, as a caller of the admin API and whoever watches meets them.

mod pages;
mod refused;
mod turns;
mod watches;

use std::time::{Duration, Instant};

use bowline_proto::v1::binding_query::Query;
use bowline_proto::v1::projected_field::Origin;
use bowline_proto::v1::{self, AggregateOp as Op, AggregateWindow as Window, FieldFormat};
use bowline_tests::admin::{Admin, KEY, reason, violations};
use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Stack, eventually, http};
use futures_util::future::join_all;
use prost_types::value::Kind;
use tonic::{Code, Streaming};

async fn source(stack: &Stack) -> String {
    let source = v1::Source { insecure: true, ..Default::default() };
    stack.admin().source_like(source, "").await.id
}

async fn send(url: &str, body: impl Into<String>) {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    http::post(url, &headers, body.into()).await.unwrap().accepted();
}

fn sum_of(field: &str) -> Query {
    Query::Aggregate(v1::AggregateQuery {
        window: Window::AggregateWindow1h.into(),
        op: Op::Sum.into(),
        field: field.into(),
    })
}

fn field(path: &str, format: FieldFormat) -> v1::ProjectedField {
    v1::ProjectedField { origin: Some(Origin::Source(path.into())), format: format.into() }
}

fn literal(text: &str) -> v1::ProjectedField {
    let value = prost_types::Value { kind: Some(Kind::StringValue(text.into())) };
    v1::ProjectedField { origin: Some(Origin::Literal(value)), format: 0 }
}

fn binding(source_id: &str, query: Query, fields: &[(&str, v1::ProjectedField)]) -> v1::Binding {
    let fields = fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect();
    v1::Binding {
        source_id: source_id.to_owned(),
        query: Some(v1::BindingQuery { query: Some(query) }),
        projection: Some(v1::Projection { fields }),
        widget: Some(v1::Widget { template: "metric".into(), data: None }),
        ..Default::default()
    }
}

async fn create(admin: &Admin, binding: v1::Binding) -> v1::Binding {
    let request = v1::CreateBindingRequest { binding: Some(binding), ..Default::default() };
    admin.bindings().create_binding(request).await.unwrap().into_inner().binding.unwrap()
}

async fn get(admin: &Admin, id: &str) -> Result<v1::Binding, tonic::Status> {
    let request = v1::GetBindingRequest { id: id.to_owned() };
    Ok(admin.bindings().get_binding(request).await?.into_inner().binding.unwrap())
}

fn datum<'b>(binding: &'b v1::Binding, name: &str) -> &'b Kind {
    binding.widget.as_ref().unwrap().data.as_ref().unwrap().fields[name].kind.as_ref().unwrap()
}

fn text(binding: &v1::Binding, name: &str) -> String {
    match datum(binding, name) {
        Kind::StringValue(text) => text.clone(),
        other => panic!("{name} is no text: {other:?}"),
    }
}

async fn watch(admin: &Admin, id: &str, cursor: &str) -> Streaming<v1::WatchBindingResponse> {
    let request = v1::WatchBindingRequest { id: id.to_owned(), cursor: cursor.to_owned() };
    admin.bindings().watch_binding(request).await.unwrap().into_inner()
}

/// The next message that shows the binding: where nothing happens for a while there are some that do not.
async fn next(stream: &mut Streaming<v1::WatchBindingResponse>) -> v1::WatchBindingResponse {
    let shown = async {
        loop {
            let message = stream.message().await.unwrap().unwrap();
            if message.binding.is_some() {
                return message;
            }
        }
    };
    tokio::time::timeout(BOUND, shown).await.expect("a message in time")
}

#[tokio::test]
async fn a_binding_projects_its_query_and_follows_its_source() {
    let stack = Stack::start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let url = stack.inbound(&source_id);
    send(&url, "{\"errors\": 2, \"at\": 1700000000, \"share\": 0.256, \"note\": [1]}").await;
    let fields = [("value", field("value", FieldFormat::Number)), ("label", literal("Errors (1h)"))];
    let sum = create(&admin, binding(&source_id, sum_of("errors"), &fields)).await;
    assert_eq!((text(&sum, "value"), text(&sum, "label")), ("2".into(), "Errors (1h)".into()));
    assert_eq!(
        (sum.source_id.as_str(), sum.stale, sum.refresh_error.as_str()),
        (source_id.as_str(), false, "")
    );
    assert_eq!(sum.widget.as_ref().unwrap().template, "metric");
    let fields = [
        ("at", field("at", FieldFormat::Datetime)),
        ("share", field("$.share", FieldFormat::Percent)),
        ("whole", field("share", FieldFormat::Integer)),
        ("note", field("note", FieldFormat::Text)),
        ("none", field("nothing", FieldFormat::Text)),
        ("plain", field("errors", FieldFormat::Unspecified)),
    ];
    let latest = create(&admin, binding(&source_id, Query::Latest(v1::LatestQuery {}), &fields)).await;
    let texts = ["at", "share", "whole", "note", "none"].map(|name| text(&latest, name));
    assert_eq!(texts, ["2023-11-14T22:13:20Z", "25.6%", "0", "[1]", ""]);
    assert_eq!(datum(&latest, "plain"), &Kind::NumberValue(2.0));
    let list = Query::List(v1::ListQuery { limit: 2, ..Default::default() });
    let fields = [
        ("first", field("[0].errors", FieldFormat::Integer)),
        ("second", field("$[1].errors", FieldFormat::Text)),
    ];
    let list = create(&admin, binding(&source_id, list, &fields)).await;
    assert_eq!((text(&list, "first"), text(&list, "second")), ("2".into(), String::new()));

    // Every accepted payload refreshes all three; either service shows it.
    send(&url, "{\"errors\": 40}").await;
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    for admin in [&admin, &by_dispatcher] {
        eventually(BOUND, async || {
            let sum = get(admin, &sum.id).await.map_err(|status| status.to_string())?;
            let list = get(admin, &list.id).await.map_err(|status| status.to_string())?;
            let latest = get(admin, &latest.id).await.map_err(|status| status.to_string())?;
            let seen = (text(&sum, "value"), text(&list, "second"), text(&latest, "share"));
            holds(seen == ("42".into(), "2".into(), String::new()), format!("{seen:?}"))
        })
        .await;
    }
}

#[tokio::test]
async fn who_watches_hears_within_moments_at_either_service() {
    let stack = Stack::start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let url = stack.inbound(&source_id);
    let made =
        create(&admin, binding(&source_id, sum_of("n"), &[("sum", field("value", FieldFormat::Number))]))
            .await;
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let mut here = watch(&admin, &made.id, "").await;
    let mut there = watch(&by_dispatcher, &made.id, "").await;
    let first = next(&mut here).await;
    assert_eq!(text(first.binding.as_ref().unwrap(), "sum"), "0");
    assert_eq!(next(&mut there).await.binding, first.binding);
    // The first one may come before every replica knows of the binding.
    send(&url, "{\"n\": 1}").await;
    assert_eq!(text(&next(&mut here).await.binding.unwrap(), "sum"), "1");
    assert_eq!(text(&next(&mut there).await.binding.unwrap(), "sum"), "1");
    let (mut waits, mut calls) = (Vec::new(), Vec::new());
    for n in 2..12 {
        // Idle: the pace would allow a refresh at once.
        eventually(BOUND, async || {
            let idle =
                "SELECT count(*) FROM binding_results WHERE begun_at < clock_timestamp() - interval '300 ms'";
            holds(stack.database.count(idle).await == 1, "refreshed just now")
        })
        .await;
        let asked = Instant::now();
        get(&admin, &made.id).await.unwrap();
        calls.push(asked.elapsed());
        send(&url, "{\"n\": 1}").await;
        let committed = Instant::now();
        let (here, there) = tokio::join!(next(&mut here), next(&mut there));
        waits.push(committed.elapsed());
        for told in [here, there] {
            assert_eq!(text(&told.binding.unwrap(), "sum"), n.to_string());
        }
    }
    waits.sort();
    calls.sort();
    // The rule is for an idle machine: on a busy one, where a plain call is slow, this is slower too.
    let (usual, call) = (Duration::from_millis(5), calls[calls.len() / 2]);
    let most = Duration::from_millis(100) + if call > usual { call * 10 } else { Duration::ZERO };
    assert!(waits[2] < most, "{waits:?}, calls {calls:?}");

    // A known cursor brings nothing that is known, and what comes then.
    let last = watch(&admin, &made.id, "").await.message().await.unwrap().unwrap();
    let mut again = watch(&admin, &made.id, &last.cursor).await;
    send(&url, "{\"n\": 100}").await;
    assert_eq!(text(&next(&mut again).await.binding.unwrap(), "sum"), "111");
    let mut behind = watch(&admin, &made.id, &first.cursor).await;
    assert_eq!(text(&next(&mut behind).await.binding.unwrap(), "sum"), "111");
    let refused = admin
        .bindings()
        .watch_binding(v1::WatchBindingRequest { id: made.id.clone(), cursor: "x".into() })
        .await;
    assert_eq!(violations(&refused.unwrap_err()), ["cursor"]);

    let request = v1::DeleteBindingRequest { id: made.id, ..Default::default() };
    admin.bindings().delete_binding(request).await.unwrap();
    for stream in [&mut here, &mut there] {
        let ended = tokio::time::timeout(BOUND, async {
            while stream.message().await?.is_some() {}
            Ok::<(), tonic::Status>(())
        });
        assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn a_burst_is_coalesced_and_its_end_is_never_missed() {
    let mut stack = Stack::builder().ingests(2).dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let made =
        create(&admin, binding(&source_id, sum_of("n"), &[("sum", field("value", FieldFormat::Number))]))
            .await;
    let urls: Vec<_> =
        stack.ingests.iter().map(|ingest| format!("{}/in/{source_id}", ingest.http_url())).collect();
    let begun = Instant::now();
    for round in 0..10 {
        join_all((0..30).map(|at| send(&urls[(round + at) % 2], "{\"n\": 1}"))).await;
    }
    let shown = eventually(BOUND, async || {
        let shown = get(&admin, &made.id).await.map_err(|status| status.to_string())?;
        holds(text(&shown, "sum") == "300", shown.clone()).map_err(|seen| text(&seen, "sum"))
    })
    .await;
    // The first revision is of the creation.
    let refreshes = shown.revision - 1;
    let most = begun.elapsed().as_millis() / 250 + 1;
    assert!(
        refreshes >= 1 && u128::from(refreshes.unsigned_abs()) <= most,
        "{refreshes} refreshes, {most} at most"
    );

    // Whoever commits and dies leaves it to the others.
    for round in 0..5 {
        let body = format!("{{\"n\": {}}}", 1000 + round);
        let _ = http::post(&urls[1], &Vec::new(), body).await;
    }
    stack.ingests[1].kill().await;
    eventually(BOUND, async || {
        let shown = get(&admin, &made.id).await.map_err(|status| status.to_string())?;
        holds(text(&shown, "sum") == "5310", text(&shown, "sum"))
    })
    .await;
}

#[tokio::test]
async fn without_redis_it_takes_a_little_longer() {
    let stack = Stack::builder().set("BOWLINE_REDIS_URL", "redis://127.0.0.1:1/0").start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let made =
        create(&admin, binding(&source_id, sum_of("n"), &[("sum", field("value", FieldFormat::Number))]))
            .await;
    let by_dispatcher = Admin::new(&stack.dispatchers[0].admin_url(), Some(KEY));
    let mut there = watch(&by_dispatcher, &made.id, "").await;
    assert_eq!(text(&next(&mut there).await.binding.unwrap(), "sum"), "0");
    send(&stack.inbound(&source_id), "{\"n\": 7}").await;
    assert_eq!(text(&next(&mut there).await.binding.unwrap(), "sum"), "7");
}

#[tokio::test]
async fn a_binding_outlives_its_source_and_says_so() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    send(&stack.inbound(&source_id), "{\"n\": 7}").await;
    let made =
        create(&admin, binding(&source_id, sum_of("n"), &[("sum", field("value", FieldFormat::Number))]))
            .await;
    let mut watched = watch(&admin, &made.id, "").await;
    assert!(!next(&mut watched).await.binding.unwrap().stale);
    let delete = v1::DeleteSourceRequest { id: source_id, ..Default::default() };
    admin.sources().delete_source(delete).await.unwrap();
    let told = next(&mut watched).await.binding.unwrap();
    assert_eq!((told.stale, text(&told, "sum")), (true, "7".into()));
    let evaluate = v1::EvaluateBindingRequest { id: made.id.clone() };
    let evaluated = admin.bindings().evaluate_binding(evaluate).await.unwrap().into_inner().binding.unwrap();
    assert_eq!(evaluated, get(&admin, &made.id).await.unwrap());
    assert_eq!((evaluated.stale, text(&evaluated, "sum")), (true, "7".into()));
}

#[tokio::test]
async fn bindings_are_made_listed_changed_and_deleted() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    let other = source(&stack).await;
    send(&stack.inbound(&source_id), "{\"a\": 1, \"b\": 20}").await;
    let wanted = v1::Binding {
        name: "errors".into(),
        display_name: "Errors".into(),
        labels: [("team".to_owned(), "x".to_owned())].into(),
        ..binding(&source_id, sum_of("a"), &[("sum", field("value", FieldFormat::Number))])
    };
    let request = v1::CreateBindingRequest {
        binding: Some(wanted.clone()),
        request_id: "once".into(),
        ..Default::default()
    };
    let made = admin.bindings().create_binding(request.clone()).await.unwrap().into_inner().binding.unwrap();
    let again = admin.bindings().create_binding(request).await.unwrap().into_inner().binding.unwrap();
    assert_eq!((again.id.as_str(), again.etag.as_str()), (made.id.as_str(), made.etag.as_str()));
    let request = v1::CreateBindingRequest { binding: Some(wanted), ..Default::default() };
    assert_eq!(reason(&admin.bindings().create_binding(request).await.unwrap_err()), "NAME_TAKEN");
    let second = create(&admin, binding(&other, Query::Latest(v1::LatestQuery {}), &[])).await;

    for (filter, ids) in [
        (v1::BindingFilter::default(), vec![&made.id, &second.id]),
        (v1::BindingFilter { name: "errors".into(), ..Default::default() }, vec![&made.id]),
        (v1::BindingFilter { source_id: other.clone(), ..Default::default() }, vec![&second.id]),
        (v1::BindingFilter { labels: made.labels.clone(), ..Default::default() }, vec![&made.id]),
    ] {
        let request = v1::ListBindingsRequest { filter: Some(filter), ..Default::default() };
        let page = admin.bindings().list_bindings(request).await.unwrap().into_inner();
        assert_eq!(page.bindings.iter().map(|binding| &binding.id).collect::<Vec<_>>(), ids);
    }

    let update = |etag: &str| v1::UpdateBindingRequest {
        binding: Some(v1::Binding {
            id: made.id.clone(),
            etag: etag.to_owned(),
            query: Some(v1::BindingQuery { query: Some(sum_of("b")) }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let changed =
        admin.bindings().update_binding(update(&made.etag)).await.unwrap().into_inner().binding.unwrap();
    assert_eq!((text(&changed, "sum"), changed.name.as_str()), ("20".into(), "errors"));
    let refused = admin.bindings().update_binding(update(&made.etag)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));

    let nowhere = binding("src_01h2xcejqtf2nbrexx3vqjhp41", Query::Latest(v1::LatestQuery {}), &[]);
    let request = v1::CreateBindingRequest { binding: Some(nowhere), ..Default::default() };
    assert_eq!(admin.bindings().create_binding(request).await.unwrap_err().code(), Code::NotFound);
    let request = v1::CreateBindingRequest::default();
    let refused = admin.bindings().create_binding(request).await.unwrap_err();
    assert_eq!(violations(&refused), ["binding.source_id", "binding.query"]);

    let request = v1::DeleteBindingRequest { id: made.id.clone(), ..Default::default() };
    admin.bindings().delete_binding(request.clone()).await.unwrap();
    assert_eq!(admin.bindings().delete_binding(request).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(get(&admin, &made.id).await.unwrap_err().code(), Code::NotFound);
    let audited = "SELECT count(*) FROM audit_log WHERE action LIKE '%Binding' AND outcome = 'OK'";
    assert_eq!(stack.database.count(audited).await, 4);
}
