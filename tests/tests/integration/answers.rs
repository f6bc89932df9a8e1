//! What senders are answered, row by row: each a request as bytes, and the status, the code and the headers
//! it is answered with. The rows of the inbound table of the wire formats come in its order, then those of
//! HTTP itself.
//!
//! What takes time or load stands elsewhere: a body that is too slow is 408 (`edge/slow.rs`), too much in
//! flight is 503 (`edge/heads.rs`).

mod rows;

use bowline_proto::v1;
use bowline_tests::{BOUND, Stack, eventually, sign};

use crate::edge::{Raw, RawAnswer, events, open_source_like};
use rows::{BODY, Sources, accepted, github, malformed, misdirected, of_http, post, row, unverified};

/// One line of the table.
struct Row {
    name: &'static str,
    request: String,
    status: u16,
    /// Empty: the body is no error.
    code: &'static str,
    /// What the body holds beside it.
    says: &'static str,
    /// A header with what stands in it; `+` is any number above zero, `-` is none at all.
    headers: &'static [(&'static str, &'static str)],
}

impl Row {
    fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    fn check(&self, answer: &RawAnswer) {
        let name = self.name;
        assert_eq!(answer.status, self.status, "{name}: {answer:?}");
        assert_eq!(answer.code(), self.code, "{name}: {answer:?}");
        assert!(answer.body.contains(self.says), "{name}: {answer:?}");
        for (header, expected) in self.headers {
            let found = answer.header(header);
            let fits = match *expected {
                "+" => found.is_some_and(|value| value.parse::<u64>().is_ok_and(|number| number > 0)),
                "-" => found.is_none(),
                text => found.is_some_and(|value| value.contains(text)),
            };
            assert!(fits, "{name}: {header} is {found:?}, and should be {expected}");
        }
        let shown = format!("{}{}", answer.head, answer.body);
        assert!(!shown.contains("bowline-test") && !shown.contains("whsec_"), "{name}: {shown}");
    }
}

#[tokio::test]
async fn every_row_of_the_table_is_answered_so() {
    let mut stack = Stack::builder()
        .dispatchers(0)
        .own_postgres()
        .set_ingest("BOWLINE_INGEST_HEADER_BYTES_MAX", "128KiB")
        .start()
        .await;
    let sources = Sources::create(&stack).await;
    let rows = [accepted, misdirected, malformed, unverified, of_http].map(|part| part(&sources));
    for row in rows.iter().flatten() {
        // Behind one that is good, so that what comes before it does not matter.
        let mut raw = Raw::connect(&stack).await;
        raw.send(post(&sources.small, &sign::Headers::new(), "{}")).await;
        assert_eq!(raw.answer().await.status, 200, "before: {}", row.name);
        raw.send(&row.request).await;
        let answer = raw.try_answer().await;
        row.check(&answer.unwrap_or_else(|| panic!("{}: closed without an answer", row.name)));
        let ends = row.headers.contains(&("connection", "close"));
        assert!(!ends || raw.ends().await, "{}: the connection goes on", row.name);
    }
    let rows: Vec<&Row> = rows.iter().flatten().collect();
    let made = rows.iter().filter(|row| row.status == 200).count() - 2;
    // A duplicate and a handshake make none.
    assert_eq!(events(&stack).await, (rows.len() + made) as i64);

    over_the_rate(&stack).await;
    stack.postgres.as_mut().unwrap().stop().await.unwrap();
    without_postgres(&stack, &sources).await;
}

async fn over_the_rate(stack: &Stack) {
    let rated = open_source_like(stack, v1::Source { rate: 0.1, ..v1::Source::default() }).await;
    let mut raw = Raw::connect(stack).await;
    let post = post(&rated, &sign::Headers::new(), "{}");
    let over = row("over the rate", post, 429, "rate_exceeded", "").with(&[("retry-after", "+")]);
    let refused = async {
        loop {
            let answer = raw.send(&over.request).await.answer().await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    over.check(&tokio::time::timeout(BOUND, refused).await.expect("a refusal"));
}

async fn without_postgres(stack: &Stack, sources: &Sources) {
    let away =
        row("Postgres is away", post(&sources.github, &github("late"), BODY), 503, "unavailable", "later")
            .with(&[("retry-after", "+")]);
    let refused = eventually(BOUND, async || {
        let answer = Raw::connect(stack).await.send(&away.request).await.answer().await;
        if answer.code() == "unavailable" { Ok(answer) } else { Err(answer) }
    })
    .await;
    away.check(&refused);
}
