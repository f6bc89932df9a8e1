//! Lists of large bindings: a page ends before a client refuses it.

use std::collections::BTreeMap;

use super::*;

/// What a gRPC client takes unless told otherwise.
const CLIENT_TAKES_BYTES: usize = 4 * 1024 * 1024;
const FIELD_BYTES: usize = 15 * 1024;

#[tokio::test]
async fn pages_of_large_bindings_end_by_bytes_and_lead_through_all() {
    const BINDINGS: usize = 14;
    let stack = Stack::builder().dispatchers(0).start().await;
    let (admin, source_id) = (stack.admin(), source(&stack).await);
    send(&stack.inbound(&source_id), "{}").await;
    let text = "x".repeat(FIELD_BYTES);
    let names: Vec<String> = (0..48).map(|number| format!("field_{number}")).collect();
    let fields: Vec<(&str, v1::ProjectedField)> =
        names.iter().map(|name| (name.as_str(), literal(&text))).collect();
    // Each with its number of fields.
    let mut made = BTreeMap::new();
    for number in 0..BINDINGS {
        // Large ones and small ones, so that no page is full of the same.
        let fields = if number % 7 == 3 { &fields[..1] } else { &fields[..] };
        let one = create(&admin, binding(&source_id, Query::Latest(v1::LatestQuery {}), fields)).await;
        made.insert(one.id, fields.len());
    }
    let whole = made.values().sum::<usize>() * FIELD_BYTES;
    assert!(whole > 2 * CLIENT_TAKES_BYTES, "{whole} bytes are too few to show anything");

    for page_size in [0, 1000, 3] {
        let (mut seen, mut pages, mut page_token) = (Vec::new(), 0, String::new());
        loop {
            let request = v1::ListBindingsRequest { page_size, page_token, ..Default::default() };
            // This client refuses a larger answer.
            let page = admin.bindings().list_bindings(request).await.unwrap().into_inner();
            assert!(!page.bindings.is_empty(), "a page leads on");
            assert!(page_size == 0 || page.bindings.len() <= page_size as usize);
            for one in &page.bindings {
                assert_eq!(one.projection.as_ref().unwrap().fields.len(), made[&one.id], "whole");
            }
            seen.extend(page.bindings.into_iter().map(|one| one.id));
            (pages, page_token) = (pages + 1, page.next_page_token);
            if page_token.is_empty() {
                break;
            }
        }
        let all: Vec<String> = made.keys().cloned().collect();
        seen.sort();
        assert_eq!(seen, all, "each once, in pages of {page_size}");
        assert!(pages >= 3, "{pages} pages for {whole} bytes");
    }
}
