//! Payloads and bindings on the command line.

use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, eventually, http};
use serde_json::{Value, json};

use super::stack;

#[tokio::test]
async fn payloads_are_queried_and_bindings_are_kept_by_their_names() {
    let (stack, cli) = stack().await;
    let made = cli.json(&["source", "create", "errors", "--insecure"]).await;
    let url = stack.inbound(made["source"]["id"].as_str().unwrap());
    assert_eq!(cli.ok(&["payload", "latest", "errors"]).await.text(), "no payload\n");
    for body in ["{\"n\": 2}", "{\"n\": 40}  "] {
        assert_eq!(http::post(&url, &Vec::new(), body).await.unwrap().status, 200);
    }
    assert_eq!(cli.ok(&["payload", "latest", "errors"]).await.out, b"{\"n\": 40}  ");
    let latest = cli.json(&["payload", "latest", "errors"]).await;
    assert_eq!(latest["payload"]["body_size_bytes"], 11);
    assert_eq!(cli.json(&["payload", "latest", "--source", "errors"]).await, latest);
    let sum = ["payload", "aggregate", "errors", "--window", "1h", "--op", "sum", "--field", "n"];
    assert_eq!(cli.json(&sum).await, json!({"value": 42, "count": 2, "window": "1h", "op": "sum"}));
    let listed = cli.json(&["payload", "list", "errors", "--sort-by", "n", "--order", "asc"]).await;
    let bodies: Vec<&Value> = listed["payloads"].as_array().unwrap().iter().map(|row| &row["body"]).collect();
    assert_eq!(bodies, ["{\"n\": 2}", "{\"n\": 40}  "]);
    let missing = cli.refused(1, &["payload", "aggregate", "errors", "--window", "1h", "--op", "sum"]).await;
    assert!(missing.contains("--field"), "{missing}");

    let create = ["binding", "create", "--source", "errors", "--name", "sum", "--template", "metric"];
    let fields = ["--field", "value=value:number", "--literal", "label=Errors (1h)"];
    let query = ["aggregate", "--window", "1h", "--op", "sum", "--field", "n"];
    let made = cli.json(&[&create[..], &fields, &query].concat()).await;
    assert_eq!(
        (&made["data"], &made["query"]),
        (&json!({"value": "42", "label": "Errors (1h)"}), &"aggregate".into())
    );
    assert_eq!(cli.json(&["binding", "get", "sum"]).await["id"], made["id"]);
    assert_eq!(
        (&made["parameters"], &made["fields"]),
        (
            &json!({"window": "1h", "op": "sum", "field": "n"}),
            &json!({
                "value": {"path": "value", "format": "number"},
                "label": {"literal": "Errors (1h)"}
            })
        )
    );
    let shown = cli.ok(&["binding", "get", "sum"]).await.text();
    assert!(shown.contains("aggregate --field n --op sum --window 1h\n"), "{shown}");
    assert!(shown.contains("label=\"Errors (1h)\", value=value:number\n"), "{shown}");
    assert_eq!(cli.json(&["binding", "list", "--source", "errors"]).await["bindings"][0]["name"], "sum");

    // A new query, and the fields of the widget stay.
    let changed =
        cli.json(&["binding", "update", "sum", "aggregate", "--window", "1h", "--op", "max", "--field", "n"]);
    assert_eq!(changed.await["data"], json!({"value": "40", "label": "Errors (1h)"}));
    let renamed = cli.json(&["binding", "update", "sum", "--name", "max", "--field", "most=value"]).await;
    assert_eq!((&renamed["name"], &renamed["data"]), (&"max".into(), &json!({"most": 40})));
    assert!(cli.refused(2, &["binding", "update", "max"]).await.contains("nothing to change"));
    http::post(&url, &Vec::new(), "{\"n\": 41}").await.unwrap();
    eventually(BOUND, async || {
        let data = cli.json(&["binding", "get", "max"]).await["data"].clone();
        holds(data == json!({"most": 41}), data)
    })
    .await;
    assert_eq!(cli.json(&["binding", "evaluate", "max"]).await["data"], json!({"most": 41}));

    let update = ["binding", "update", "max", "--field"];
    let refused = cli.refused(2, &[&update[..], &["most=value:integerr"]].concat()).await;
    assert!(refused.contains("`integerr` is no format: use text, number, integer"), "{refused}");
    let listed = cli.json(&[&update[..], &["first=[0].n:integer", "list", "--limit", "1"]].concat()).await;
    assert_eq!(listed["data"], json!({"first": "41"}));
    assert_eq!(listed["parameters"], json!({"limit": 1, "order": "desc", "sort_by": ""}));

    // Without a field nothing is ever shown: that is said, and how it is mended.
    let bare = ["binding", "create", "--source", "errors", "--name", "bare", "latest"];
    let said = cli.ok(&bare).await;
    assert!(said.err.contains("warning: binding bare has no fields"), "{said:?}");
    assert!(said.text().contains("none: its data stays {}\n"), "{said:?}");
    let whole = cli.ok(&["binding", "update", "bare", "--field", "all=$", "--output", "json"]).await;
    assert_eq!((whole.err.as_str(), &whole.json()["data"]), ("", &json!({"all": {"n": 41}})));

    let stale = ["binding", "delete", "max", "--etag", made["etag"].as_str().unwrap()];
    assert!(cli.refused(1, &stale).await.contains("ETAG_MISMATCH"));
    assert_eq!(cli.json(&["binding", "delete", "max"]).await["id"], made["id"]);
    assert!(cli.refused(1, &["binding", "get", "max"]).await.contains("there is no binding \"max\""));
}
