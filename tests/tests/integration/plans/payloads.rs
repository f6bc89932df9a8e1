//! The queries of a source: no more is read than its window, and where that is as it was, not a body of it.

use bowline_core::id::{DEFAULT_TENANT, SourceId};
use bowline_core::query::{Aggregate, FieldPath, List, Op, Order, Queries, SourceWindow, Span};

use super::{ROUNDS, Site, id_of};

pub(super) async fn queries(site: &mut Site) {
    const WINDOW: u32 = 100;
    // It receives forty a day.
    const DAYS_OF_WINDOW: usize = 5;
    let client = site.pool.get().await.unwrap();
    let source_id = SourceId(id_of(3, 5));
    let window = SourceWindow { tenant_id: DEFAULT_TENANT, source_id, payloads: WINDOW };
    let queries = Queries::default();
    let field = || Some(FieldPath::parse("n").unwrap());
    let now = chrono::Utc::now();
    site.tap.take();
    for round in 0..ROUNDS {
        assert!(queries.latest(&client, window).await.unwrap().is_some());
        site.check(&format!("latest payload, round {round}"), 1, 2);
        for field in [None, field()] {
            let sum = Aggregate { window: Span::Week, op: Op::Sum, field };
            let folded = queries.aggregate(&client, window, &sum, now).await.unwrap();
            assert_eq!(folded.count, u64::from(WINDOW), "{sum:?}");
            site.check(&format!("payloads folded, round {round}"), WINDOW, DAYS_OF_WINDOW);
        }
        for (sort_by, rows, days) in [(None, 10, 2), (field(), WINDOW + 10, DAYS_OF_WINDOW)] {
            let list = List { limit: 10, sort_by, order: Order::Desc };
            let page = queries.list(&client, window, &list, None).await.unwrap();
            assert_eq!((page.payloads.len(), page.next), (10, None), "{list:?}");
            site.check(&format!("payloads listed, sorted by {:?}, round {round}", list.sort_by), rows, days);
        }
    }
}
