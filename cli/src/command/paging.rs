//! Lists: pages are read until enough is there, and what is left can be asked for.

use std::future::Future;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, Form, Row};

const PAGE_MAX: usize = 1_000;
/// What `--all` may gather in memory.
const ALL_MAX: usize = 1_000_000;

/// How much of a list to show, and from where on.
#[derive(Debug, Clone, Args)]
pub struct Paging {
    /// At most this many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub limit: u32,
    /// Go on where an earlier list ended, with the token it named and the same filters
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOKEN")]
    pub page_token: String,
    /// Everything there is (a million at most)
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

impl Paging {
    /// The first so many.
    pub(crate) fn first(limit: u32) -> Self {
        Self { limit, page_token: String::new(), all: false }
    }

    fn wanted(&self) -> usize {
        if self.all { ALL_MAX } else { self.limit as usize }
    }
}

/// A part of a list, and the token of what follows it (empty at the end).
#[derive(Debug)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_page_token: String,
}

/// When the event was received, or of the audit log: when it was done.
#[derive(Debug, Clone, Copy, Args)]
pub struct Window {
    /// At this time or later, by when it was received (in the audit log: done): RFC 3339, or how long ago (`90s`, `2h`, `3days`)
    #[arg(long, value_parser = moment, value_name = "TIME")]
    since: Option<Moment>,
    /// Before this time: RFC 3339, or how long ago
    #[arg(long, value_parser = moment, value_name = "TIME")]
    until: Option<Moment>,
}

/// A point in time, and whether it was given as a while ago.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: DateTime<Utc>,
    ago: bool,
}

impl Moment {
    pub(crate) fn timestamp(self) -> prost_types::Timestamp {
        timestamp(self.at)
    }
}

impl Window {
    pub(crate) fn start(self) -> Option<prost_types::Timestamp> {
        self.since.map(Moment::timestamp)
    }

    pub(crate) fn end(self) -> Option<prost_types::Timestamp> {
        self.until.map(Moment::timestamp)
    }

    /// A token belongs to its filter, and `2h` ago is another time at each call: what to give instead.
    fn fixed(self) -> String {
        [("--since", self.since), ("--until", self.until)]
            .into_iter()
            .filter_map(|(flag, moment)| {
                let at = moment.filter(|moment| moment.ago)?.at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
                Some(format!(" {flag} {at}"))
            })
            .collect()
    }
}

/// Reads pages with `page(page_size, page_token)` until enough items are there or no more come.
pub(crate) async fn collect<T, F>(
    paging: &Paging,
    mut page: impl FnMut(i32, String) -> F,
) -> Result<Listed<T>, Failure>
where
    F: Future<Output = Result<(Vec<T>, String), Failure>>,
{
    let wanted = paging.wanted();
    let mut items = Vec::new();
    let mut next_page_token = paging.page_token.clone();
    loop {
        let size = (wanted - items.len()).min(PAGE_MAX);
        let (more, next) = page(size as i32, next_page_token).await?;
        items.extend(more);
        next_page_token = next;
        if items.len() >= wanted || next_page_token.is_empty() {
            return Ok(Listed { items, next_page_token });
        }
    }
}

/// Prints the list, and on standard error how to get what follows. The document of `--output json`
/// holds the token itself.
///
/// # Errors
/// When standard output is gone.
pub(crate) fn show<T: Row + Serialize>(
    form: Form,
    noun: &str,
    listed: &Listed<T>,
    window: Option<Window>,
) -> Result<(), Failure> {
    output::list(form, noun, &listed.items, &listed.next_page_token)?;
    if form == Form::Table && !listed.next_page_token.is_empty() {
        let fixed = window.map(Window::fixed).unwrap_or_default();
        eprintln!("more: --page-token {}{fixed}", listed.next_page_token);
    }
    Ok(())
}

fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}

pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment { at: time.to_utc(), ago: false });
    }
    humantime::parse_duration(text)
        .ok()
        .and_then(|ago| chrono::Duration::from_std(ago).ok())
        .and_then(|ago| Utc::now().checked_sub_signed(ago))
        .map(|at| Moment { at, ago: true })
        .ok_or_else(|| "expected a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_read_until_the_limit_even_when_one_is_empty() {
        let pages = [(vec![1, 2], "a"), (vec![], "b"), (vec![3, 4], "c"), (vec![5], "")];
        for (paging, expected, rest) in [
            (Paging::first(2), vec![1, 2], "a"),
            (Paging::first(4), vec![1, 2, 3, 4], "c"),
            (Paging::first(50), vec![1, 2, 3, 4, 5], ""),
            (Paging { all: true, ..Paging::first(1) }, vec![1, 2, 3, 4, 5], ""),
        ] {
            let mut asked = 0;
            let listed = collect(&paging, |_, _| {
                let (items, next) = pages[asked].clone();
                asked += 1;
                async move { Ok((items, next.to_owned())) }
            });
            let listed = listed.await.unwrap();
            assert_eq!((listed.items, listed.next_page_token.as_str()), (expected, rest));
        }
    }

    #[tokio::test]
    async fn a_list_goes_on_where_it_is_told_to() {
        let paging = Paging { page_token: "t".to_owned(), ..Paging::first(7) };
        let listed = collect(&paging, |size, token| async move { Ok((vec![(size, token)], String::new())) });
        assert_eq!(listed.await.unwrap().items, [(7, "t".to_owned())]);
    }

    #[test]
    fn a_moment_is_a_time_or_a_while_ago() {
        let noon = moment("2026-01-31T12:00:00+01:00").unwrap();
        assert_eq!((noon.at.to_rfc3339().as_str(), noon.ago), ("2026-01-31T11:00:00+00:00", false));
        let ago = |now: DateTime<Utc>| now - chrono::TimeDelta::hours(2);
        let earliest = ago(Utc::now());
        let at = moment("2h").unwrap().at;
        assert!((earliest..=ago(Utc::now())).contains(&at), "{at}");
        assert!(moment("yesterday").unwrap_err().contains("such as 2h"));
        assert!(moment("400000000years").is_err());
    }

    #[test]
    fn a_while_ago_is_fixed_for_the_next_page() {
        let window = Window {
            since: Some(Moment { ago: true, ..moment("2026-01-31T12:00:00.25Z").unwrap() }),
            until: Some(moment("2026-02-01T00:00:00Z").unwrap()),
        };
        assert_eq!(window.fixed(), " --since 2026-01-31T12:00:00.250Z");
    }
}
