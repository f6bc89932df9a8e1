//! Deduplication keys that have run out. Every webhook brings one, so there is no index by expiry that
//! each of them would have to go through: the table is walked instead, some pages at a time.

use super::Session;
use crate::store::Error;

/// Pages of one step; one holds some 80 keys.
const PAGES: i64 = 64;

impl Session {
    /// Deletes what has run out in the pages from `page` on. Gives how many rows went, and where the next
    /// step begins; `None` after the last.
    pub async fn sweep_keys(&self, page: i64) -> Result<(u64, Option<i64>), Error> {
        // A key that is taken over right now is locked, and left.
        const SWEEP: &str = "
            DELETE FROM dedup_keys WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM dedup_keys
                 WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND expires_at < now()
                   FOR UPDATE SKIP LOCKED))";
        const PAGES_IN_ALL: &str =
            "SELECT pg_relation_size('dedup_keys') / current_setting('block_size')::bigint";
        let next = page + PAGES;
        let at = |page: i64| format!("({page},0)");
        let swept = self.client.execute(SWEEP, &[&at(page), &at(next)]).await?;
        let pages: i64 = self.client.query_one(PAGES_IN_ALL, &[]).await?.try_get(0)?;
        Ok((swept, (next < pages).then_some(next)))
    }
}
