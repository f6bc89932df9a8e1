//! What a person does about deliveries, flag by flag.

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
    let created = letters.iter().find(|letter| letter["event_type"] == "order.created").unwrap();
    let delivery = created["delivery_id"].as_str().unwrap();
    assert_eq!(cli.json(&["retry", delivery]).await["id"], delivery);
    dead_letters(&cli, 2).await;

    let counted = cli.json(&["purge", "--endpoint", &endpoint, "--dry-run"]).await;
    assert_eq!((&counted["count"], &counted["dry_run"]), (&2.into(), &true.into()));
    let counted = cli.ok(&["purge", "--all", "--dry-run"]).await.text();
    assert!(counted.contains("would be forgotten  2"), "{counted}");
    let id = dead_letters(&cli, 2).await[0]["delivery_id"].as_str().unwrap().to_owned();
    assert_eq!(cli.json(&["purge", &id]).await["count"], 1);
    for none in [&["purge"][..], &["purge", &id, "--all"], &["purge", "--all", "--endpoint", &endpoint]] {
        cli.refused(2, none).await;
    }

    let paid = ["redrive", "--endpoint", &endpoint, "--event-type", "order.created"];
    assert_eq!(ended(&cli, &cli.json(&paid).await).await["done_count"], 0);
    let redriven = cli.json(&["redrive", "--event-type", "order.paid", "--rate", "7"]).await;
    assert_eq!((&redriven["work"], &redriven["rate_per_second"]), (&"redrive".into(), &7.into()));
    assert_eq!(ended(&cli, &redriven).await["done_count"], 1);
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
    cli.ok(&["endpoint", "create", "late", "--url", &receiver.url()]).await;
    let endpoint = cli.json(&["endpoint", "get", "late"]).await["id"].as_str().unwrap().to_owned();
    let to = ["replay", "--to", &endpoint];
    for (flags, count) in [
        (&["--event-type", "order.created"][..], 2),
        (&["--channel", "eu"], 2),
        (&["--channel", "eu", "--event-type", "order.paid", "--since", "1h"], 1),
        (&["--until", "1h"], 0),
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
    let again = cli.json(&[&to[..], &["--max-count", "2", "--only-missing"]].concat()).await;
    ended(&cli, &again).await;
    receiver.await_count(3, BOUND).await;
    let id = again["id"].as_str().unwrap();
    assert!(cli.ok(&["operation", "watch", id]).await.text().contains("done"));
    let listed = cli.json(&["operation", "list"]).await["operations"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
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
    let endpoint = cli.json(&["endpoint", "get", "shop"]).await["id"].as_str().unwrap().to_owned();
    let tested =
        cli.json(&["test", &endpoint, "--event-type", "order.created", "--data", "{\"id\": 7}"]).await;
    assert_eq!((&tested["state"], &tested["attempts"][0]["status_code"]), (&"delivered".into(), &200.into()));
    assert!(String::from_utf8_lossy(&receiver.requests()[0].body).contains("\"id\": 7"));
    let stats = cli.json(&["stats", &endpoint, "--window", "1h"]).await;
    assert_eq!((&stats["failed_count"], &stats["dead_letter_count"]), (&0.into(), &0.into()));
    let shown = cli.json(&["reveal", &endpoint]).await;
    assert!(!shown["secrets"][0]["secret"].as_str().unwrap().is_empty());
    cli.ok(&["endpoint", "create", "closed", "--url", &receiver.url()]).await;
    let closed = cli.json(&["endpoint", "get", "closed"]).await["id"].as_str().unwrap().to_owned();
    assert!(cli.refused(1, &["reveal", &closed]).await.contains("not secret_revealable"));
    assert!(cli.refused(1, &["cancel", "evt_x"]).await.contains("the id"));
}
