//! Schemas that are good, and those by which somebody would do harm.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// Far above what any of it takes, far below what it would take without its limits.
const BOUND: Duration = Duration::from_secs(60);

fn schema(schema: &Value) -> Schema {
    Schema::compile(schema).unwrap()
}

fn refused(schema: &Value) -> String {
    Schema::compile(schema).expect_err("it must be refused")
}

/// Whatever comes of it, it comes in time, and on a thread like those that check payloads.
fn in_time<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let began = Instant::now();
    let done = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    });
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    done
}

fn nested(depth: usize, wrap: impl Fn(Value) -> Value, inner: Value) -> Value {
    (0..depth).fold(inner, |inner, _| wrap(inner))
}

#[test]
fn it_says_what_does_not_fit_and_where() {
    let order = schema(&json!({
        "type": "object", "required": ["total"],
        "properties": {"total": {"type": "number"}, "lines": {"items": {"required": ["sku"]}}},
    }));
    assert_eq!(order.check(&json!({"total": 5, "lines": [{"sku": "a"}]})), Ok(()));
    let faults = order.check(&json!({"total": "hidden", "lines": [{"sku": 1}, {}]})).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("/total: ")), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.starts_with("/lines/1: ")), "{faults:?}");
    assert!(!faults.iter().any(|fault| fault.contains("hidden")), "{faults:?}");
    let many = order.check(&json!({"total": 1, "lines": vec![json!({}); 500]})).unwrap_err();
    assert_eq!(many.len(), FAULTS_MAX);
}

#[test]
fn every_kind_of_value_is_seen_as_it_is() {
    let kinds = schema(&json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {
            "null": {"type": "null"}, "flag": {"const": true}, "int": {"type": "integer", "multipleOf": 2},
            "text": {"minLength": 2, "maxLength": 3, "pattern": "^h"}, "unique": {"uniqueItems": true},
            "one": {"enum": [1, "a", [1]]}, "tuple": {"prefixItems": [{"type": "string"}], "items": false},
        },
        "propertyNames": {"maxLength": 6},
        "dependentRequired": {"int": ["flag"]},
        "unevaluatedProperties": {"type": "number"},
    }));
    let good = json!({
        "null": null, "flag": true, "int": 4.0, "text": "hé", "unique": [1, 2], "one": [1.0],
        "tuple": ["a"], "other": 5,
    });
    assert_eq!(kinds.check(&good), Ok(()));
    let bad = [
        json!({"null": 0}),
        json!({"flag": 1}),
        json!({"flag": true, "int": 3}),
        json!({"int": 4}),
        json!({"text": "h"}),
        json!({"text": "eh"}),
        json!({"unique": [1, 1.0]}),
        json!({"one": [2]}),
        json!({"tuple": ["a", "b"]}),
        json!({"tooolong": 1}),
        json!({"other": "text"}),
    ];
    for bad in bad {
        assert!(kinds.check(&bad).is_err(), "{bad}");
    }
}

#[test]
fn it_refers_to_nothing_elsewhere() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/schema.json", listener.local_addr().unwrap());
    for elsewhere in [url.as_str(), "https://example.com/a.json", "file:///etc/passwd", "other.json", "//x/y"] {
        for refers in [
            json!({"$ref": elsewhere}),
            json!({"properties": {"a": {"$dynamicRef": elsewhere}}}),
            json!({"$id": elsewhere, "items": {"$ref": "b.json"}}),
            json!({"$schema": elsewhere}),
        ] {
            refused(&refers);
        }
    }
    assert!(listener.accept().is_err(), "somebody came to fetch it");
    for within in [
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}),
        json!({"$ref": "#name", "$defs": {"a": {"$anchor": "name"}}}),
        json!({"$id": "https://example.com/a", "$ref": "b", "$defs": {"b": {"$id": "b", "type": "string"}}}),
    ] {
        schema(&within);
    }
}

#[test]
fn what_is_no_schema_is_refused() {
    for bad in [
        json!(5),
        json!({"type": "nothing"}),
        json!({"minimum": "a"}),
        json!({"$ref": "#/nowhere"}),
        json!({"pattern": "(a+)+$("}),
        json!({"pattern": "^(?=a)(?!b).*\\1$"}),
        json!({"$schema": "http://json-schema.org/draft-99/schema#"}),
    ] {
        refused(&bad);
    }
    for good in [json!(true), json!({}), json!({"pattern": "\\\\u0000"})] {
        schema(&good);
    }
}

#[test]
fn a_huge_schema_is_refused_by_what_it_holds() {
    assert!(refused(&json!({"enum": vec![0; 10_001]})).contains("10003 values; at most 10000"));
    let patterns: serde_json::Map<_, _> = (0..65).map(|n| (format!("^{n}$"), json!(true))).collect();
    assert!(refused(&json!({"patternProperties": patterns})).contains("65 patterns; at most 64"));
    let references = vec![json!({"$ref": "#/$defs/a"}); 501];
    assert!(refused(&json!({"anyOf": references, "$defs": {"a": {}}})).contains("501 references"));
    assert!(refused(&json!({"const": "\0"})).contains("NUL"));
    assert!(refused(&json!({"properties": {"\0": true}})).contains("NUL"));
    in_time(|| refused(&json!({"pattern": "(((\\p{L}{100}){100}){100}){100}"})));
}

#[test]
fn patterns_do_not_backtrack() {
    let text = Value::String(format!("{}b", "a".repeat(500_000)));
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$"] {
        let pattern = schema(&json!({"pattern": pattern}));
        assert!(in_time(|| pattern.check(&text)).is_err());
    }
    let counts = schema(&json!({"pattern": "[ab]*a[ab]{1000}c"}));
    let ours = Value::String("ab".repeat(500_000));
    assert!(in_time(|| counts.check(&ours)).is_err());
    // A text of a common length is no matter.
    assert_eq!(schema(&json!({"pattern": "^.{1,255}$"})).check(&json!("a".repeat(200))), Ok(()));
}

/// Each definition twice the next: as a tree it has more nodes than anybody can walk.
fn doubling(keyword: &str, levels: usize, last: Value) -> Value {
    let mut definitions = serde_json::Map::new();
    for level in 0..levels {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        definitions.insert(format!("d{level}"), json!({ keyword: [next.clone(), next] }));
    }
    definitions.insert(format!("d{levels}"), last);
    json!({"$ref": "#/$defs/d0", "$defs": definitions})
}

#[test]
fn references_that_multiply_end() {
    for (keyword, last) in [
        ("allOf", json!({})),
        ("allOf", json!({"type": "string"})),
        ("anyOf", json!({"type": "number"})),
        ("oneOf", json!({"type": "string"})),
        ("anyOf", json!({"not": {"type": "string"}})),
    ] {
        let hostile = doubling(keyword, 100, last);
        in_time(|| Schema::compile(&hostile).map(|schema| schema.check(&json!("text")).is_ok()).ok());
    }
    let mut unevaluated = doubling("allOf", 100, json!({"properties": {"a": true}}));
    unevaluated["unevaluatedProperties"] = json!(false);
    in_time(|| Schema::compile(&unevaluated).map(|schema| schema.check(&json!({"b": 1})).is_ok()).ok());
}

#[test]
fn references_that_go_round_end() {
    for round in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"not": {"$ref": "#"}}),
        json!({"$dynamicAnchor": "a", "anyOf": [{"$dynamicRef": "#a"}, {"type": "number"}]}),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions":
            {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}}, "items": {"$ref": "#/definitions/a"}}),
        json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": true,
            "anyOf": [{"$recursiveRef": "#"}, {"unevaluatedProperties": false}]}),
    ] {
        in_time(|| Schema::compile(&round).map(|schema| schema.check(&json!([{"a": [1]}])).is_ok()).ok());
    }
    // A tree refers to itself by right.
    let tree = schema(&json!({
        "type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}},
    }));
    let deep = nested(50, |inner| json!({"name": "n", "children": [inner]}), json!({"name": "leaf"}));
    assert_eq!(in_time(|| tree.check(&deep)), Ok(()));
    let bad = nested(50, |inner| json!({"name": "n", "children": [inner]}), json!({}));
    assert!(in_time(|| tree.check(&bad)).is_err());
    let twice = schema(&json!({"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "maxProperties": 1}));
    let deep = nested(120, |inner| json!({"a": inner}), json!({"a": 1, "b": 2}));
    assert!(in_time(|| twice.check(&deep)).is_err());
}

#[test]
fn depth_ends_before_the_stack() {
    let chain: serde_json::Map<_, _> = (0..498)
        .map(|n| (format!("d{n}"), json!({"$ref": format!("#/$defs/d{}", n + 1)})))
        .chain([("d498".to_owned(), json!({"properties": {"a": {"$ref": "#/$defs/d0"}}}))])
        .collect();
    let chain = json!({"$ref": "#/$defs/d0", "$defs": chain});
    let deep = nested(120, |inner| json!({"a": inner}), json!(1));
    in_time(|| Schema::compile(&chain).map(|schema| schema.check(&deep).is_ok()).ok());
    for keyword in ["not", "items", "additionalProperties"] {
        let schema = nested(120, |inner| json!({ keyword: inner }), json!({"type": "number"}));
        let arrays = nested(120, |inner| json!([inner]), json!(1));
        in_time(|| Schema::compile(&schema).map(|schema| schema.check(&arrays).is_ok()).ok());
    }
}

#[test]
fn large_payloads_are_checked_and_hostile_ones_given_up() {
    let rows = schema(&json!({"items": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}}));
    // A megabyte of rows.
    let many = Value::Array((0..100_000).map(|n| json!({ "n": n })).collect());
    assert_eq!(in_time(|| rows.check(&many)), Ok(()));
    let mut bad = many.clone();
    bad[99_999] = json!({"n": -1});
    let faults = in_time(|| rows.check(&bad)).unwrap_err();
    assert!(faults[0].starts_with("/99999/n: "), "{faults:?}");
    let all_bad = Value::Array(vec![json!({"n": "x"}); 100_000]);
    assert!(in_time(|| rows.check(&all_bad)).unwrap_err()[0].starts_with("/0/n: "));

    let choices = schema(&json!({"items": {"enum": (0..9_000).collect::<Vec<_>>()}}));
    let none = Value::Array(vec![json!("x"); 300_000]);
    assert!(in_time(|| choices.check(&none)).is_err());
    let empty = schema(&json!({"items": {"allOf": vec![json!({}); 9_000]}}));
    let faults = in_time(|| empty.check(&none));
    assert!(faults.is_ok() || faults.unwrap_err()[0].contains("too much work"));
    let unique = schema(&nested(60, |inner| json!({"items": inner, "uniqueItems": true}), json!({})));
    let wide = nested(60, |inner| json!([inner, 1]), Value::Array((0..100_000).map(|n| json!([n])).collect()));
    assert!(in_time(|| unique.check(&wide)).unwrap_err()[0].contains("too much work"));
}
