//! Lists: pages are read until enough is there.

use std::future::Future;

use chrono::{DateTime, Utc};
use clap::Args;

use crate::failure::Failure;

const PAGE_MAX: usize = 1_000;

/// How much of a list to show.
#[derive(Debug, Clone, Copy, Args)]
pub struct Limit {
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub limit: u32,
}

/// When the event was received.
#[derive(Debug, Clone, Copy, Args)]
pub struct Window {
    /// Received at this time or later: RFC 3339, or how long ago (`90s`, `2h`, `3days`)
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub since: Option<DateTime<Utc>>,
    /// Received before this time: RFC 3339, or how long ago
    #[arg(long, value_parser = moment, value_name = "TIME")]
    pub until: Option<DateTime<Utc>>,
}

impl Window {
    pub(crate) fn start(self) -> Option<prost_types::Timestamp> {
        self.since.map(timestamp)
    }

    pub(crate) fn end(self) -> Option<prost_types::Timestamp> {
        self.until.map(timestamp)
    }
}

/// Reads pages with `page(page_size, page_token)` until `limit` items are there or no more come.
pub(crate) async fn collect<T, F>(
    limit: Limit,
    mut page: impl FnMut(i32, String) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    let wanted = limit.limit as usize;
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let size = (wanted - items.len()).min(PAGE_MAX);
        let (more, next) = page(size as i32, token).await?;
        items.extend(more);
        if items.len() >= wanted || next.is_empty() {
            items.truncate(wanted);
            return Ok(items);
        }
        token = next;
    }
}

fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}

fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    humantime::parse_duration(text)
        .ok()
        .and_then(|ago| chrono::Duration::from_std(ago).ok())
        .and_then(|ago| Utc::now().checked_sub_signed(ago))
        .ok_or_else(|| "expected a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_read_until_the_limit_even_when_one_is_empty() {
        let pages = [(vec![1, 2], "a"), (vec![], "b"), (vec![3, 4], "c"), (vec![5], "")];
        for (limit, expected) in [(1, vec![1]), (3, vec![1, 2, 3]), (50, vec![1, 2, 3, 4, 5])] {
            let mut asked = 0;
            let all = collect(Limit { limit }, |_, _| {
                let (items, next) = pages[asked].clone();
                asked += 1;
                async move { Ok((items, next.to_owned())) }
            });
            assert_eq!(all.await.unwrap(), expected);
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_while_ago() {
        assert_eq!(moment("2026-01-31T12:00:00+01:00").unwrap().to_rfc3339(), "2026-01-31T11:00:00+00:00");
        let ago = Utc::now() - moment("2h").unwrap();
        assert!((7_199..=7_201).contains(&ago.num_seconds()));
        assert!(moment("yesterday").unwrap_err().contains("such as 2h"));
        assert!(moment("400000000years").is_err());
    }
}
