use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value(body: &str) -> serde_json::Value {
    read(body.as_bytes()).unwrap().root.into()
}

#[test]
fn half_of_a_pair_is_read_and_remembered() {
    for (body, text, is_altered) in [
        (r#""\ud83d""#, "\u{fffd}", true),
        (r#""\udd25""#, "\u{fffd}", true),
        (r#""a\ud83db""#, "a\u{fffd}b", true),
        (r#""\ud83d\ud83d\udd25""#, "\u{fffd}\u{1f525}", true),
        (r#""\ud83d\u0041""#, "\u{fffd}A", true),
        (r#""\ud83d\n""#, "\u{fffd}\n", true),
        (r#""\ud83d\udd25""#, "\u{1f525}", false),
        (r#""\uFFFD""#, "\u{fffd}", false),
        (r#""\\ud83d""#, r"\ud83d", false),
    ] {
        let document = read(body.as_bytes()).unwrap();
        assert_eq!(matches!(document.root, Json::Altered(..)), is_altered, "{body}");
        assert_eq!(serde_json::Value::from(document.root), text, "{body}");
        assert!(!document.has_altered_names, "{body}");
    }
    let document = read(br#"{"\ud83d": 1, "\ud83e": 2}"#).unwrap();
    assert!(document.has_altered_names);
    assert_eq!(serde_json::Value::from(document.root), json!({"\u{fffd}": 2}));
}

#[test]
fn a_number_beyond_a_double_is_infinite() {
    for (body, number, text) in
        [("1e400", f64::INFINITY, "Infinity"), ("-1e400", f64::NEG_INFINITY, "-Infinity")]
    {
        let read = read(body.as_bytes()).unwrap().root;
        let Json::Altered(read, _) = read else { panic!("{body} is not remembered") };
        assert_eq!(*read, Json::Double(number));
        assert_eq!(value(body), text);
    }
    assert_eq!(read(b"-0").unwrap().root, Json::Double(-0.0));
    assert_eq!(read(b"1e-400").unwrap().root, Json::Double(0.0));
    assert_eq!(read(b"18446744073709551615").unwrap().root, Json::Uint(u64::MAX));
    assert_eq!(read(b"18446744073709551616").unwrap().root, Json::Double(18_446_744_073_709_551_616.0));
}

#[test]
fn depth_is_bounded_and_its_fault_is_said_truly() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(DEPTH_MAX).as_bytes()).is_ok());
    for depth in [DEPTH_MAX + 1, 500_000] {
        assert_eq!(read(nested(depth).as_bytes()).unwrap_err(), JsonFault::Depth);
    }
    assert_eq!(JsonFault::Depth.to_string(), "is nested deeper than 127 levels");
}

#[test]
fn what_is_no_json_has_its_place() {
    for (body, line, column) in [("", 1, 0), ("{\"a\": 1,}", 1, 9), ("[1]\n x", 2, 2), ("[\"\\ud83\"]", 1, 8)]
    {
        assert_eq!(read(body.as_bytes()).unwrap_err(), JsonFault::Form { line, column }, "{body}");
    }
    assert_eq!(read(b"[\"\xff\"]").unwrap_err(), JsonFault::Utf8(2));
    assert_eq!(read(b"\"\xed\xa0\xbd\"").unwrap_err(), JsonFault::Utf8(1), "a surrogate has no UTF-8");
}

#[test]
fn one_noticed_alteration_is_the_documents() {
    let document = read(br#"{"a": "\ud83d", "b": [1e999]}"#).unwrap();
    let Json::Object(members) = &document.root else { panic!("an object") };
    let Json::Altered(_, within) = &members["a"] else { panic!("altered") };
    assert!(!document.alteration.was_noticed());
    within.notice();
    assert!(document.alteration.was_noticed());
    document.alteration.forget();
    assert!(!within.was_noticed());
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_filter("JSON", |number| number.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever `serde_json` reads is read as the same.
    #[test]
    fn it_reads_what_others_read(json in any_json(), pretty in any::<bool>()) {
        let body = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) };
        let body = body.unwrap();
        prop_assert_eq!(value(&body), serde_json::from_str::<serde_json::Value>(&body).unwrap());
    }

    #[test]
    fn it_reads_no_more_and_hardly_less(body in "[\\[\\]{}\",:0-9.eE+\\-truefalsn \\\\ud8]{0,24}") {
        let ours = read(body.as_bytes());
        if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&body) {
            prop_assert_eq!(serde_json::Value::from(ours.unwrap().root), theirs);
        } else {
            prop_assert_eq!(ours.is_ok(), serde_json::from_str::<IgnoredAny>(&body).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_it_fail(body in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = read(&body);
    }
}
