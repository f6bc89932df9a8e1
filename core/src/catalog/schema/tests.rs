//! Schemas that are good, and those by which somebody would do harm.

use serde_json::json;

use super::*;

fn schema(schema: &Value) -> Schema {
    Schema::compile(schema).unwrap()
}

fn refused(schema: &Value) -> String {
    Schema::compile(schema).expect_err("it must be refused")
}

/// On a thread like those that check payloads. What would take for ever is seen by that it does.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
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
    for elsewhere in [url.as_str(), "https://example.com/a.json", "file:///etc/passwd", "other.json", "//x/y"]
    {
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
        json!({"$id": "https://example.com/a", "$ref": "#/$defs/b", "$defs": {"b": {"type": "string"}}}),
        json!({"properties": {"$ref": {"type": "string"}}, "default": {"$ref": "https://example.com/a.json"}}),
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
fn a_huge_pattern_is_refused_by_name() {
    let fault = apart(|| refused(&json!({"properties": {"a": {"pattern": "((\\p{L}{100}){100}){100}"}}})));
    assert!(fault.starts_with("/properties/a/pattern: ") && fault.contains("p{L}"), "{fault}");
}

#[test]
fn patterns_do_not_backtrack() {
    let text = Value::String(format!("{}b", "a".repeat(500_000)));
    for pattern in ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$"] {
        let pattern = schema(&json!({"pattern": pattern}));
        assert!(apart(|| pattern.check(&text)).is_err());
    }
    let counts = schema(&json!({"pattern": "[ab]*a[ab]{1000}c"}));
    let ours = Value::String("ab".repeat(500_000));
    assert!(apart(|| counts.check(&ours)).is_err());
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
fn references_that_multiply_are_refused_or_end() {
    let leaves = [json!({}), json!({"type": "string"}), json!({"not": {"type": "string"}})];
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for leaf in &leaves {
            assert!(refused(&doubling(keyword, 100, leaf.clone())).contains("multiply"));
            let most = schema(&doubling(keyword, 9, leaf.clone()));
            // Whatever it says: it says it.
            apart(|| most.check(&json!("text")).is_ok());
        }
    }
    let mut unevaluated = doubling("allOf", 9, json!({"properties": {"a": true}}));
    unevaluated["unevaluatedProperties"] = json!(false);
    assert!(apart(|| schema(&unevaluated).check(&json!({"b": 1}))).is_err());
    // Towards other values they multiply no more than the values do.
    let below = schema(&doubling("prefixItems", 100, json!({"type": "string"})));
    assert_eq!(apart(|| below.check(&json!([[1], [[2], 3]]))), Ok(()));
    let twice =
        schema(&json!({"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "maxProperties": 1}));
    let deep = nested(120, |inner| json!({"a": inner}), json!({"a": 1, "b": 2}));
    assert!(apart(|| twice.check(&deep)).is_err());
}

#[test]
fn a_tree_refers_to_itself_by_right() {
    let tree = schema(&json!({
        "type": "object", "required": ["name"],
        "properties": {"name": {"type": "string"}, "children": {"items": {"$ref": "#"}}},
    }));
    let deep = |leaf| nested(50, |inner| json!({"name": "n", "children": [inner]}), leaf);
    assert_eq!(apart(|| tree.check(&deep(json!({"name": "leaf"})))), Ok(()));
    assert!(apart(|| tree.check(&deep(json!({})))).is_err());
}

#[test]
fn depth_ends_before_the_stack() {
    let chain: serde_json::Map<_, _> = (0..280)
        .map(|n| (format!("d{n}"), json!({"$ref": format!("#/$defs/d{}", n + 1)})))
        .chain([("d280".to_owned(), json!({"properties": {"a": {"$ref": "#/$defs/d0"}}}))])
        .collect();
    let chain = json!({"$ref": "#/$defs/d0", "$defs": chain});
    let deep = nested(120, |inner| json!({"a": inner}), json!(1));
    apart(|| schema(&chain).check(&deep).is_ok());
    for keyword in ["not", "items", "additionalProperties"] {
        let nest = nested(120, |inner| json!({ keyword: inner }), json!({"type": "number"}));
        let arrays = nested(120, |inner| json!([inner]), json!(1));
        apart(|| schema(&nest).check(&arrays).is_ok());
    }
}

#[test]
fn large_payloads_are_checked_and_hostile_ones_given_up() {
    let rows =
        schema(&json!({"items": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}}}));
    // A megabyte of rows.
    let many = Value::Array((0..100_000).map(|n| json!({ "n": n })).collect());
    assert_eq!(apart(|| rows.check(&many)), Ok(()));
    let mut bad = many.clone();
    bad[99_999] = json!({"n": -1});
    let faults = apart(|| rows.check(&bad)).unwrap_err();
    assert!(faults[0].starts_with("/99999/n: "), "{faults:?}");
    let all_bad = Value::Array(vec![json!({"n": "x"}); 100_000]);
    assert!(apart(|| rows.check(&all_bad)).unwrap_err()[0].starts_with("/0/n: "));

    let choices = schema(&json!({"items": {"enum": (0..9_000).collect::<Vec<_>>()}}));
    let none = Value::Array(vec![json!("x"); 300_000]);
    assert!(apart(|| choices.check(&none)).is_err());
    let empty = schema(&json!({"items": {"allOf": vec![json!({}); 9_000]}}));
    let faults = apart(|| empty.check(&none));
    assert!(faults.is_ok() || faults.unwrap_err()[0].contains("too much work"));
    let unique = schema(&nested(60, |inner| json!({"items": inner, "uniqueItems": true}), json!({})));
    let wide =
        nested(60, |inner| json!([inner, 1]), Value::Array((0..100_000).map(|n| json!([n])).collect()));
    assert!(apart(|| unique.check(&wide)).unwrap_err()[0].contains("too much work"));
}
