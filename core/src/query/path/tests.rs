use super::*;
use proptest::prelude::*;
use serde_json::json;

fn first(path: &str, body: &str) -> Option<Value> {
    match FieldPath::parse(path).unwrap().first(body.as_bytes())? {
        Found::Number(number) => Some(json!(number)),
        Found::Value(value) => Some(value),
    }
}

#[test]
fn dotted_paths_and_jsonpaths_lead_to_the_same() {
    let body = r#"{"a": {"b": [{"c": "x"}, {"c": "y"}]}, "0": "zero", "é": 1.5, "a.b": "dot"}"#;
    for (path, value) in [
        ("a.b.1.c", json!("y")),
        ("a.b[1].c", json!("y")),
        ("$.a.b[1].c", json!("y")),
        ("$['a']['b'][1][\"c\"]", json!("y")),
        ("$.a.b[-1].c", json!("y")),
        ("$..c", json!("x")),
        ("$.a.b[?@.c == 'y'].c", json!("y")),
        ("0", json!("zero")),
        ("$['0']", json!("zero")),
        ("é", json!(1.5)),
        ("$.é", json!(1.5)),
        ("$['a.b']", json!("dot")),
        ("a.b", json!([{"c": "x"}, {"c": "y"}])),
    ] {
        assert_eq!(first(path, body), Some(value), "{path}");
    }
    let list = r#"[{"x": 1, "y": ["z"]}, [2, 3]]"#;
    for (path, value) in [
        ("[0].x", json!(1.0)),
        ("$[0].x", json!(1.0)),
        ("[0].y[0]", json!("z")),
        ("[1][1]", json!(3.0)),
        ("1.0", json!(2.0)),
    ] {
        assert_eq!(first(path, list), Some(value), "{path}");
    }
    for path in ["a.b.2.c", "a.c", "$.a.b.c", "a.b.c", "$[0]", "b", "a.b[0].c.d", "$..d", "$['a'].b['0']"] {
        assert_eq!(first(path, body), None, "{path}");
    }
}

#[test]
fn a_path_may_lead_to_many_places() {
    let all = |path: &str, body: &[u8]| {
        let mut found = Vec::new();
        FieldPath::parse(path).unwrap().each(body, |seen| match seen {
            Seen::Number(number) => found.push(json!(number)),
            Seen::Value(value) => found.push(value.clone()),
        });
        found
    };
    assert_eq!(all("$.items[*].n", br#"{"items": [{"n": 1}, {}, {"n": 2}]}"#), [json!(1), json!(2)]);
    assert_eq!(all("n", br#"{"n": 1}"#), [json!(1.0)]);
    let zeros = |count| format!("[{}0]", "0,".repeat(count - 1));
    assert_eq!(all("$[*]", zeros(PLACES_MAX + 1).as_bytes()).len(), PLACES_MAX);
    assert_eq!(all("$[*]", zeros(PARSED_BYTES_MAX).as_bytes()).len(), 0);
    assert_eq!(first("$[0]", &zeros(PARSED_BYTES_MAX)), Some(json!(0.0)), "which parses nothing else");
}

#[test]
fn what_is_no_json_leads_nowhere() {
    for body in ["", "a=1", "{\"a\": 1", "{\"a\": 1} x", "[", "\u{0}", "{\"a\": 1}{}"] {
        assert_eq!(first("a", body), None, "{body}");
        assert_eq!(first("$.*", body), None, "{body}");
    }
    assert_eq!(FieldPath::parse("a").unwrap().first(b"{\"a\": \"\xff\"}"), None);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(first("a", &format!("{{\"b\": {deep}, \"a\": 1}}")), Some(json!(1.0)));
    assert_eq!(first("$..a", &deep), None);
}

#[test]
fn as_javascript_reads_it() {
    assert_eq!(first("a", r#"{"a": 1, "\u0061": 2}"#), Some(json!(2.0)));
    assert_eq!(FieldPath::parse("a").unwrap().first(br#"{"a": 1e400}"#), Some(Found::Number(f64::INFINITY)));
    assert_eq!(first("a", r#"{"b": 1e400, "a": 9007199254740993}"#), Some(json!(9_007_199_254_740_992.0)));
    assert_eq!(first("$", "[1]"), Some(json!([1])));
    assert_eq!(first("$", " 5 "), Some(json!(5.0)));
}

#[test]
fn what_is_wrong_with_a_path_is_said() {
    for bad in [
        "a..b", ".a", "a.", "a[", "a[x]", "a[0", "a[0]b", "[0]b", "[]", "[x].a", ".[0]", "a.[0]", "a[-1]",
        "a[01]", "a]",
    ] {
        assert_eq!(FieldPath::parse(bad), Err(PathError::Part), "{bad}");
    }
    let part = PathError::Part.to_string();
    assert!(part.contains("`[0].c`") && part.contains("`$['a b']`"), "{part}");
    assert_eq!(FieldPath::parse(""), Err(PathError::Empty));
    assert_eq!(FieldPath::parse(&"a".repeat(257)), Err(PathError::TooLong));
    assert_eq!(FieldPath::parse(&["a"; 33].join(".")), Err(PathError::TooDeep));
    assert!(matches!(FieldPath::parse("$["), Err(PathError::JsonPath(_))));
    for pattern in ["$[?search(@, '(\\\\w{60}){9}')]", "$.a[?match(@.b, @.c)]"] {
        assert_eq!(FieldPath::parse(pattern), Err(PathError::Pattern), "{pattern}");
    }
    assert!(FieldPath::parse("$['search('].*").is_ok(), "a name");
}

#[test]
fn what_a_path_may_cost_is_told_from_its_text() {
    use PathError::{ComparedPlaces, Costly, Descents, FilterInFilter, Parentheses, Pattern, Roots};
    let nested = |n: usize| format!("$..[?{}{}{}", "@[?".repeat(n), "@", "]".repeat(n + 1));
    for costly in [nested(1), nested(12), nested(60)] {
        assert_eq!(FieldPath::parse(&costly), Err(FilterInFilter), "{costly}");
    }
    let many = |part: &str, count: usize| format!("$..[?{}@]", format!("{part}||").repeat(count));
    for (costly, error) in [
        ("$[?@[?@.a].b]", FilterInFilter),
        ("$[?count(@[?@.a]) > 1]", FilterInFilter),
        ("$..a..b", Descents),
        ("$..[?@..a]", Descents),
        ("$[?@..a || @..b]", Descents),
        ("$[?@..a]..b", Descents),
        ("$[?$.a == @.b]", Roots),
        ("$..[?@ == @]", ComparedPlaces),
        ("$..[?@.x || @.a >= @.b]", ComparedPlaces),
        ("$..[?@.x != value(@.*)]", ComparedPlaces),
        ("$..[?length(@.a) == count(@.b)]", ComparedPlaces),
        ("$..['x?'][?@ == @]", ComparedPlaces),
        ("$[?match(@.a, 'x')]", Pattern),
        ("$[?@.b && !(search(@.a, '((x+)+)+'))]", Pattern),
        ("$..*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*", Costly { passes: 17 }),
        ("$[0,1,2,3][0,1,2,3,4]", Costly { passes: 20 }),
        ("$..[0,0,0,0][0,0,0,0]", Costly { passes: 21 }),
        ("$..[?@.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a]", Costly { passes: 19 }),
        ("$[?((((@))))]", Parentheses),
        ("$[?!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(!(@", Parentheses),
        ("$[?length(length(length(length(length(length(length(@", Parentheses),
    ] {
        assert_eq!(FieldPath::parse(costly), Err(error), "{costly}");
    }
    for costly in [many("!@", 20), many("1==2", 20), many("length(@)>9", 9), many("count(@.*)>9", 9)] {
        assert!(matches!(FieldPath::parse(&costly), Err(Costly { .. })), "{costly}");
    }
    assert!(Costly { passes: 17 }.to_string().contains("17 times, and 16 are allowed"));
    for plausible in [
        "$.items[?@.type=='x'].amount",
        "$..amount",
        "$..items[?@.type=='x' && @.open==true].amount",
        "$..book[?@.price<10].title",
        "$.orders[?@.open].items[?@.count > 1].sku",
        "$.items[?@.a == @.b]",
        "$.items[?count(@.parts[*]) > 1].id",
        "$.items[?(@.a=='x' || @.b>1.5) && !@.c].d",
        "$.items[?@..error].id",
        "$..['id','name']",
        "$.a[*].b[1:-1:2].c[-1]['d','e']",
        "$['a,b,c,d,e,f,g..h..$[?@[?@]]']['it\\'s [?@[?'].*",
        "$.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*",
    ] {
        assert!(FieldPath::parse(plausible).is_ok(), "{plausible}: {:?}", FieldPath::parse(plausible));
    }
}

/// What this thread has had of a processor, whatever else runs beside it.
fn worked() -> std::time::Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    std::time::Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

/// The dearest paths that are allowed, over what is most to look at in a body of 1 MB.
#[test]
fn no_allowed_path_takes_long_of_one_body() {
    use std::time::Duration;
    let deep = |open: &str, close: &str, levels: usize, many: usize| {
        format!("[{}]", vec![format!("{}1{}", open.repeat(levels), close.repeat(levels)); many].join(","))
    };
    let bodies = [
        deep("[", "]", 120, 4300),
        deep("{\"a\":", "}", 120, 1200),
        deep("[", "]", 1, 260_000),
        format!("[{}0]", "0,".repeat(500_000)),
        format!("[\"{}\"]", "a".repeat(1_000_000)),
    ];
    for path in [
        "$..*.*.*.*.*.*.*.*.*.*.*.*.*.*.*",
        "$..a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
        "$..[?@.*.*.*.*.*.*.*.*.*.*]",
        "$..[?!@.*&&!@.a&&!@.b&&!@.c]",
        "$..[*,*,*,*,*,*,*,*,*,*,*,*,*,*,*]",
        "$..[?count(@.*)>9||length(@)>9||value(@.*)==9]",
        "$[?@..*.*.*.*.*.*.*.*.*.*.*]",
        "$[?@==@&&@==@&&@==@&&@==@&&@==@]",
        "$..[::-1][::1][::-1][::1][::-1][::1][::-1]",
    ] {
        let path = FieldPath::parse(path).unwrap();
        for body in &bodies {
            assert!(body.len() <= PARSED_BYTES_MAX, "{}", body.len());
            let before = worked();
            path.each(body.as_bytes(), |_| ());
            let took = worked().saturating_sub(before);
            println!("{took:?} {} {}", path.as_str(), &body[..20]);
            // Without optimisation; a filter in each of sixty took minutes.
            assert!(took < Duration::from_secs(10), "{} took {took:?}", path.as_str());
        }
    }
}

#[test]
fn a_stored_path_that_is_refused_now_is_kept_and_leads_nowhere() {
    let stored = "\"$..[?@[?@]]\"";
    let path: FieldPath = serde_json::from_str(stored).unwrap();
    assert_eq!((path.as_str(), path.refused()), ("$..[?@[?@]]", Some(&PathError::FilterInFilter)));
    assert_eq!(serde_json::to_string(&path).unwrap(), stored);
    assert_eq!(path.first(b"[[[1]]]"), None);
    path.each(b"[[[1]]]", |seen| panic!("{seen:?}"));
    assert_eq!(serde_json::from_str::<FieldPath>("\"$..a\"").unwrap().refused(), None);
}

#[test]
fn valid_json_is_read_whatever_else_stands_in_it() {
    for path in ["a", "$..a"] {
        for body in
            [r#"{"b": "\ud83d", "a": 1}"#, r#"{"\ud83d": [1e400], "a": 1}"#, r#"{"b": -1e400, "a": 1}"#]
        {
            let found = first(path, body).and_then(|found| found.as_f64());
            assert_eq!(found, Some(1.0), "{path} {body}");
        }
        assert_eq!(first(path, r#"{"a": "x\ud83d"}"#), Some(json!("x\u{fffd}")), "{path}");
    }
    assert_eq!(first("a", r#"{"a": ["\udd25", 1e400]}"#), Some(json!(["\u{fffd}", "Infinity"])));
    assert_eq!(first("$..a", r#"{"a": 1e400}"#), Some(json!("Infinity")), "as JavaScript's Number reads it");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The stream reads what the JSONPath library finds in the parsed body.
    #[test]
    fn the_short_way_leads_to_the_same_place(value in any_json(), steps in prop::collection::vec("[abc012]", 1..5)) {
        let text: String = steps.iter().map(|step| match step.parse::<usize>() {
            Ok(place) => format!("[{place}]"),
            Err(_) => format!(".{step}"),
        }).collect();
        let text = format!("${text}");
        let path = FieldPath::parse(&text).unwrap();
        prop_assert!(matches!(path.way, Way::Steps(_)));
        let by_library = JsonPath::parse(&text).unwrap().query(&value).first().cloned();
        let found = path.first(value.to_string().as_bytes()).map(|found| match found {
            Found::Number(number) => json!(number as i64),
            Found::Value(value) => value,
        });
        prop_assert_eq!(found, by_library);
    }

    #[test]
    fn no_path_and_no_body_make_it_fail(path in "\\PC{0,40}", body in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(path) = FieldPath::parse(&path) {
            path.each(&body, |_| ());
        }
    }

    #[test]
    fn no_jsonpath_makes_it_fail(path in "\\$[.\\[\\]a-c0-2'*?@,:<>=! ]{0,20}", value in any_json()) {
        if let Ok(path) = FieldPath::parse(&path) {
            path.each(value.to_string().as_bytes(), |_| ());
        }
    }
}
