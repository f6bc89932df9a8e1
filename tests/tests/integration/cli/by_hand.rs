//! What a person does about deliveries, flag by flag.

use bowline_tests::eventually::holds;
use bowline_tests::{BOUND, Cli, Receiver, Reply, eventually};
use serde_json::Value;

use super::stack;

/// The dead letters, once there are so many.
async fn dead_letters(cli: &Cli, count: usize) -> Vec<Value> {
    eventually(BOUND, async || {
        let letters = cli.json(&["dead-letter", "list"]).await["dead_letters"].as_array().unwrap().clone();
        if letters.len() == count { Ok(letters) } else { Err(letters) }
    })
    .await
}

async fn ended(cli: &Cli, operation: &Value) -> Value {
    let id = operation["id"].as_str().unwrap();
    eventually(BOUND, async || {
        let seen = cli.json(&["operation", "get", id]).await;
        if seen["state"] == "done" { Ok(seen) } else { Err(seen) }
    })
    .await
}

#[tokio::test]
async fn dead_letters_are_retried_redriven_and_forgotten() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::scripted([Reply::Status(500), Reply::Status(500), Reply::Status(500)]).await;
    let url = receiver.url();
    cli.ok(&["endpoint", "create", "shop", "--url", &url, "--max-attempts", "1"]).await;
    let endpoint = cli.json(&["endpoint", "get", "shop"]).await["id"].as_str().unwrap().to_owned();
    for event_type in ["order.created", "order.paid", "order.paid"] {
        cli.ok(&["publish", "--type", event_type, "--data", "{}"]).await;
    }
    let letters = dead_letters(&cli, 3).await;
    // What fails in a row is counted after its outcome is recorded.
    eventually(BOUND, async || {
        let shown = cli.ok(&["endpoint", "get", "shop"]).await.text();
        holds(shown.contains("  3 in a row since 20"), shown)
    })
    .await;
    let created = letters.iter().find(|letter| letter["event_type"] == "order.created").unwrap();
    let delivery = created["delivery_id"].as_str().unwrap();
    assert_eq!(cli.json(&["retry", delivery]).await["id"], delivery);
    dead_letters(&cli, 2).await;

    let table = cli.ok(&["dead-letter", "list"]).await.text();
    assert!(table.lines().skip(1).all(|row| row.split_whitespace().nth(2) == Some("shop")), "{table}");
    for purge in [&["purge"][..], &["dead-letter", "purge"]] {
        for which in ["shop", &endpoint] {
            let counted = cli.json(&[purge, &["--endpoint", which, "--dry-run"]].concat()).await;
            assert_eq!((&counted["count"], &counted["dry_run"]), (&2.into(), &true.into()));
        }
        let none = cli.json(&[purge, &["--event-type", "order.created", "--dry-run"]].concat()).await;
        assert_eq!(none["count"], 0);
    }
    let counted = cli.ok(&["purge", "--all", "--dry-run"]).await.text();
    assert!(counted.contains("would be forgotten  2"), "{counted}");
    let id = dead_letters(&cli, 2).await[0]["delivery_id"].as_str().unwrap().to_owned();
    assert_eq!(cli.json(&["purge", &id]).await["count"], 1);
    for none in [&["purge"][..], &["purge", &id, "--all"], &["purge", "--all", "--endpoint", &endpoint]] {
        cli.refused(2, none).await;
    }

    let of_shop = ["--endpoint", "shop", "--event-type"];
    for redrive in [&["redrive"][..], &["dead-letter", "redrive"]] {
        let created = [redrive, &of_shop, &["order.created", "--as-operation"]].concat();
        assert_eq!(ended(&cli, &cli.json(&created).await).await["done_count"], 0);
        let counted = cli.json(&[redrive, &of_shop, &["order.paid", "--dry-run"]].concat()).await;
        assert_eq!((&counted["count"], &counted["dry_run"]), (&1.into(), &true.into()));
        cli.refused(2, redrive).await;
        cli.refused(2, &[redrive, &[delivery, "--rate", "7"]].concat()).await;
    }
    let redriven = cli.json(&["redrive", "--event-type", "order.paid", "--rate", "7"]).await;
    assert_eq!((&redriven["work"], &redriven["rate_per_second"]), (&"redrive".into(), &7.into()));
    assert_eq!(ended(&cli, &redriven).await["done_count"], 1);
    let table = cli.ok(&["operation", "list"]).await.text();
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "WORK", "STATE", "QUEUED", "LEFT", "ALONE"], "{table}");
    assert_eq!(rows[1][1..], ["redrive", "done", "1", "0"], "{table}");
    dead_letters(&cli, 0).await;
    assert_eq!(receiver.await_count(5, BOUND).await.len(), 5);
}

#[tokio::test]
async fn events_are_replayed_by_an_operation_that_can_be_followed() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::start().await;
    for (event_type, channel) in [("order.created", "eu"), ("order.created", "us"), ("order.paid", "eu")] {
        cli.ok(&["publish", "--type", event_type, "--channel", channel, "--data", "{}"]).await;
    }
    // What nobody wanted is marked, and only then is there a column for it.
    eventually(BOUND, async || {
        let table = cli.ok(&["event", "list"]).await.text();
        let marked = table.lines().skip(1).all(|row| row.ends_with("  unmatched"));
        holds(marked && table.lines().next().unwrap().ends_with("FLAG"), table)
    })
    .await;
    cli.ok(&["endpoint", "create", "late", "--url", &receiver.url()]).await;
    let to = ["replay", "--to", "late"];
    for (flags, count) in [
        (&["--event-type", "order.created"][..], 2),
        (&["--channel", "eu"], 2),
        (&["--channel", "eu", "--event-type", "order.paid", "--since", "1h"], 1),
        (&["--until", "1h"], 0),
        (&["--all"], 3),
    ] {
        let counted = cli.json(&[&to[..], flags, &["--dry-run"]].concat()).await;
        assert_eq!(
            (&counted["event_count"], &counted["dry_run"]),
            (&count.into(), &true.into()),
            "{flags:?}"
        );
    }
    assert_eq!(receiver.count(), 0);
    let replayed = cli.json(&[&to[..], &["--event-type", "order.paid", "--only-missing"]].concat()).await;
    assert_eq!(replayed["work"], "replay");
    assert!(!receiver.await_count(1, BOUND).await[0].header("webhook-id").is_empty());
    assert_eq!(ended(&cli, &replayed).await["done_count"], 1);
    let missing = [&to[..], &["--all", "--only-missing", "--dry-run"]].concat();
    let counted = cli.json(&missing).await;
    assert_eq!((&counted["event_count"], &counted["delivery_count"]), (&3.into(), &2.into()));
    assert_eq!(counted["truncated"], false);
    let table = cli.ok(&missing).await.text();
    assert!(table.contains("events that match") && table.contains("would be queued"), "{table}");
    let again = cli.json(&[&to[..], &["--all", "--max-count", "2", "--only-missing"]].concat()).await;
    ended(&cli, &again).await;
    receiver.await_count(3, BOUND).await;
    let id = again["id"].as_str().unwrap();
    let watched = cli.ok(&["operation", "watch", id]).await.text();
    assert!(watched.starts_with("ID ") && watched.lines().last().unwrap().contains("  done  "), "{watched}");
    let table = cli.ok(&["delivery", "list"]).await.text();
    assert!(table.lines().skip(1).any(|row| row.split_whitespace().nth(2) == Some("eu")), "{table}");
    let listed = cli.json(&["operation", "list"]).await["operations"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    let begun = cli.ok(&["replay", "--endpoint", "late", "--channel", "none"]).await;
    let begun_id = begun.text().lines().next().unwrap().split_whitespace().last().unwrap().to_owned();
    assert!(begun.err.contains(&format!("bowline operation watch {begun_id}\n")), "{begun:?}");
    let over = cli.refused(1, &["operation", "cancel", id]).await;
    assert!(over.contains("has ended already"), "{over}");
    cli.refused(2, &["replay"]).await;
}

#[tokio::test]
async fn an_endpoint_is_tested_told_of_and_shows_its_secret() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::start().await;
    let made = ["endpoint", "create", "shop", "--url", &receiver.url(), "--format", "chimpbase"];
    cli.ok(&made).await;
    let tested = cli.json(&["test", "shop", "--event-type", "order.created", "--data", "{\"id\": 7}"]).await;
    assert_eq!((&tested["state"], &tested["attempts"][0]["status_code"]), (&"delivered".into(), &200.into()));
    assert!(String::from_utf8_lossy(&receiver.requests()[0].body).contains("\"id\": 7"));
    let stats = cli.json(&["stats", "shop", "--window", "1h"]).await;
    assert_eq!((&stats["failed_count"], &stats["dead_letter_count"]), (&0.into(), &0.into()));
    let shown = cli.json(&["reveal", "shop"]).await;
    assert!(!shown["secrets"][0]["secret"].as_str().unwrap().is_empty());
    let closed = cli.json(&["endpoint", "create", "closed", "--url", &receiver.url()]).await;
    assert!(cli.refused(1, &["reveal", "closed"]).await.contains("not secret_revealable"));
    let opened = cli.json(&["endpoint", "update", "closed", "--secret-revealable"]).await;
    assert_eq!(opened["secret_revealable"], true);
    assert_eq!(cli.json(&["reveal", "closed"]).await["secrets"][0]["secret"], closed["secret"]);
    let shut = cli.json(&["endpoint", "update", "closed", "--secret-revealable=false"]).await;
    assert_eq!(shut["secret_revealable"], false);
    for cancel in
        [&["cancel", "evt_x"][..], &["delivery", "cancel", "evt_x"], &["delivery", "retry", "evt_x"]]
    {
        assert!(cli.refused(1, cancel).await.contains("the id"));
    }
}

#[tokio::test]
async fn a_test_that_was_not_delivered_fails_and_shows_the_answer() {
    let (_stack, cli) = stack().await;
    let broken = Reply::Json(500, "no such\n  table".to_owned());
    let receiver = Receiver::scripted([broken.clone(), broken]).await;
    cli.ok(&["endpoint", "create", "shop", "--url", &receiver.url()]).await;
    let said = cli.run(&["test", "shop"], b"").await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.text().contains("500 no such table\n"), "{said:?}");
    assert!(said.err.contains("the test was not delivered: the receiver answered 500"), "{said:?}");
    let said = cli.run(&["test", "shop", "--output", "json"], b"").await;
    assert_eq!(
        (said.code, &said.json()["attempts"][0]["response_body"]),
        (Some(1), &"no such\n  table".into())
    );
}

#[tokio::test]
async fn a_tenant_is_meant_by_its_name_or_its_id() {
    let (_stack, cli) = stack().await;
    let tenant = cli.json(&["--tenant", "acme", "tenant", "create", "acme"]).await;
    let id = tenant["id"].as_str().unwrap();
    cli.ok(&["--tenant", "acme", "source", "create", "pushes", "--preset", "github"]).await;
    for which in ["acme", id] {
        let listed = cli.json(&["source", "list", "--tenant", which]).await["sources"].clone();
        assert_eq!((listed.as_array().unwrap().len(), &listed[0]["tenant_id"]), (1, &id.into()), "{which}");
    }
    assert_eq!(cli.json(&["source", "list", "--tenant", "default"]).await["sources"], serde_json::json!([]));
    let none = cli.refused(1, &["--tenant", "nobody", "source", "list"]).await;
    assert!(none.contains("there is no tenant \"nobody\""), "{none}");
}
