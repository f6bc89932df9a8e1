use super::*;

#[test]
fn a_query_that_takes_too_much_is_told_from_a_fault() {
    let of = |error: QueryError| to_status(&error.into(), "call-1");
    let unfinished = of(QueryError::Unfinished { read: 3, of: 9, is_kept: true });
    assert_eq!(unfinished.code(), Code::DeadlineExceeded);
    assert!(unfinished.message().contains("3 of 9 payloads"), "{}", unfinished.message());
    assert_eq!(of(QueryError::Busy).code(), Code::ResourceExhausted);
    let away = store::Error::TimedOut(Duration::from_secs(1));
    assert_eq!(of(QueryError::Store(away)).code(), Code::Unavailable);
}

#[test]
fn every_bad_field_is_a_violation() {
    let fault = Fault::Invalid(vec![
        FieldFault { field: "source.name".into(), problem: "is bad".into() },
        FieldFault { field: "source.path".into(), problem: "is worse".into() },
    ]);
    let status = to_status(&fault, "call-1");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "source.name: is bad; source.path: is worse");
    let details = status.get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["source.name", "source.path"]);
    let info = details.error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("bowline", "INVALID_FIELDS"));
    assert_eq!(details.request_info().unwrap().request_id, "call-1");
}

#[test]
fn the_largest_error_fits_into_what_clients_take() {
    let field = |text: &str| FieldFault { field: text.repeat(100), problem: text.repeat(5_000) };
    let faults = [
        Fault::Invalid(vec![field("a")]),
        Fault::Invalid((0..200).map(|_| field("€")).collect()),
        Fault::Invalid((0..200).map(|_| FieldFault { field: "f".into(), problem: "p".into() }).collect()),
        Fault::EventBodyGone { events: vec!["evt_01m809297aezdajybhz6zaxe3k".into(); 100] },
        Fault::RejectionRefused { id: "rej_01m809297aezdajybhz6zaxe3k".into(), why: "w".repeat(100_000) },
        Fault::not_found(Kind::Source, "s".repeat(128)),
    ];
    for fault in faults {
        let mut headers = http::HeaderMap::new();
        to_status(&fault, "call-1").add_header(&mut headers).unwrap();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8_000, "{bytes} bytes: {:.100}", headers["grpc-message"].to_str().unwrap());
    }
    let status = to_status(&Fault::Invalid(vec![field("€")]), "call-1");
    assert!(status.message().ends_with("€..."), "{}", status.message());
}

#[test]
fn codes_and_details() {
    let id = || "src_x".to_string();
    let cases = [
        (Fault::KeyMissing, Code::Unauthenticated, "KEY_MISSING"),
        (Fault::KeyInvalid, Code::Unauthenticated, "KEY_INVALID"),
        (Fault::not_found(Kind::Source, "src_x"), Code::NotFound, "RESOURCE_NOT_FOUND"),
        (Fault::EtagMismatch { kind: Kind::Source, id: id() }, Code::Aborted, "ETAG_MISMATCH"),
        (Fault::PathTaken { path: "/a".into() }, Code::AlreadyExists, "PATH_TAKEN"),
        (Fault::RequestIdReused, Code::AlreadyExists, "REQUEST_ID_REUSED"),
        (Fault::Journal(JournalError::KeyReused), Code::AlreadyExists, "IDEMPOTENCY_KEY_REUSED"),
        (Fault::EventBodyGone { events: vec![id()] }, Code::FailedPrecondition, "EVENT_BODY_GONE"),
        (Fault::PageToken, Code::InvalidArgument, "PAGE_TOKEN_INVALID"),
        (Fault::CursorExpired, Code::OutOfRange, "CURSOR_EXPIRED"),
        (Fault::Timeout(Duration::from_secs(30)), Code::DeadlineExceeded, "TIMEOUT"),
        (Fault::StoreAway, Code::Unavailable, "STORE_UNAVAILABLE"),
    ];
    for (fault, code, reason) in cases {
        let status = to_status(&fault, "call-1");
        assert_eq!(status.code(), code, "{fault:?}");
        assert_eq!(status.get_error_details().error_info().unwrap().reason, reason, "{fault:?}");
    }
}

#[test]
fn what_helps_to_wait_for_says_how_long() {
    let retry_after = Duration::from_secs(3);
    for fault in [JournalError::Overloaded { retry_after }, JournalError::Unavailable { retry_after }] {
        let status = to_status(&Fault::Journal(fault), "call-1");
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(retry_after));
    }
    assert!(to_status(&Fault::StoreAway, "call-1").get_error_details().retry_info().is_some());
}

#[test]
fn the_cause_of_an_internal_error_stays_inside() {
    let status = to_status(&Fault::Unreadable("row 7 of bowline-test".into()), "call-1");
    assert_eq!(status.code(), Code::Internal);
    assert!(!status.message().contains("bowline-test") && status.message().contains("call-1"));
}
