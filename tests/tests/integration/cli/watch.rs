//! Watches on the command line.

use std::net::SocketAddr;

use bowline_tests::{Cli, Receiver, Stack, stores};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::stack;

/// A way to `upstream` that passes bytes on, and is cut while the value is false.
async fn passage(upstream: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (open, is_open) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut is_open = is_open.clone();
            if !*is_open.borrow_and_update() {
                continue;
            }
            tokio::spawn(async move {
                let mut server = TcpStream::connect(upstream).await?;
                tokio::select! {
                    ended = tokio::io::copy_bidirectional(&mut client, &mut server) => ended.map(|_| ()),
                    _ = is_open.changed() => Ok(()),
                }
            });
        }
    });
    (address, open)
}

#[tokio::test]
async fn events_are_shown_as_they_come_across_a_lost_connection() {
    let stack = Stack::builder().dispatchers(0).start().await;
    let url = stack.ingests[0].admin_url();
    let cli = Cli::new(&url);
    let (address, open) = passage(stores::address(&url).unwrap()).await;
    let through = Cli::new(&format!("http://{address}"));
    cli.ok(&["publish", "--type", "order.created", "--data", "{\"n\": 1}"]).await;
    let watch = ["event", "watch", "--since", "1h", "--body", "--output", "json"];
    let mut running = through.start(&watch);
    let first: Value = serde_json::from_str(&running.line().await).unwrap();
    assert_eq!(
        (&first["event"]["event_type"], &first["event"]["body"]),
        (&"order.created".into(), &"{\"n\": 1}".into())
    );

    open.send_replace(false);
    cli.ok(&["publish", "--type", "order.paid", "--channel", "eu", "--data", "{}"]).await;
    open.send_replace(true);
    let second: Value = serde_json::from_str(&running.line().await).unwrap();
    assert_eq!(second["event"]["event_type"], "order.paid");
    cli.ok(&["publish", "--type", "order.sent", "--data", "{}"]).await;
    let third: Value = serde_json::from_str(&running.line().await).unwrap();
    assert_eq!(third["event"]["event_type"], "order.sent");
    let (code, said) = running.interrupt().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("going on"), "{said}");

    // A cursor goes on where it was, with the same filters; a line each is enough for people.
    let cursor = first["cursor"].as_str().unwrap();
    let mut running = cli.start(&["event", "watch", "--cursor", cursor]);
    for event in ["RECEIVED", "order.paid", "order.sent"] {
        let line = running.line().await;
        assert!(line.contains(event), "{line}");
    }
    let (code, said) = running.interrupt().await;
    assert_eq!(code, Some(0), "{said}");
    let (_, cursor) = said.trim().rsplit_once("more: --cursor ").unwrap();
    cli.ok(&["publish", "--type", "order.lost", "--data", "{}"]).await;
    let mut running = cli.start(&["event", "watch", "--cursor", cursor]);
    assert!(running.line().await.starts_with("RECEIVED"));
    assert!(running.line().await.contains("order.lost"));

    let refused = cli.refused(1, &["event", "watch", "--cursor", cursor, "--event-type", "order.lost"]).await;
    assert!(refused.contains("--cursor"), "{refused}");
    cli.refused(2, &["event", "watch", "--cursor", cursor, "--since", "1h"]).await;
    // Nobody there from the beginning: that is no lost connection.
    open.send_replace(false);
    through.refused(1, &watch).await;
}

#[tokio::test]
async fn deliveries_are_shown_as_they_are_attempted() {
    let (_stack, cli) = stack().await;
    let receiver = Receiver::start().await;
    cli.ok(&["endpoint", "create", "shop", "--url", &receiver.url()]).await;
    cli.ok(&["publish", "--type", "order.created", "--data", "{}"]).await;
    let filters = ["--endpoint", "shop", "--state", "delivered", "--status-code", "200", "--since", "1h"];
    let mut running = cli.start(&[&["delivery", "watch", "--output", "json"], &filters[..]].concat());
    let told: Value = serde_json::from_str(&running.line().await).unwrap();
    assert_eq!(
        (&told["delivery"]["state"], &told["attempt"]["status_code"]),
        (&"delivered".into(), &200.into())
    );
    let mut lines = cli.start(&["delivery", "watch", "--since", "1h"]);
    let headings = lines.line().await;
    assert!(headings.starts_with("STARTED ") && headings.ends_with("DELIVERY"), "{headings}");
    let line = lines.line().await;
    assert!(
        line.contains("order.created") && line.contains(told["delivery"]["id"].as_str().unwrap()),
        "{line}"
    );
    for running in [running, lines] {
        assert_eq!(running.interrupt().await.0, Some(0));
    }
}
