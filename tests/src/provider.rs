//! A provider that posts to one source: `GitHub`, because its delivery id is a header of our choice.

use crate::http::{self, Answer};
use crate::{Stack, sign};

/// What is posted unless a test needs another body.
pub const BODY: &[u8] = br#"{"ref":"refs/heads/main","forced":false}"#;

/// A `GitHub` that knows its secret.
#[derive(Debug, Clone)]
pub struct Provider {
    pub source_id: String,
    pub secret: String,
    pub url: String,
}

impl Provider {
    /// A new source of the first service, posted to at the first ingest.
    ///
    /// # Panics
    /// When the source is refused.
    pub async fn create(stack: &Stack) -> Self {
        let secret = "bowline-test-github-secret".to_owned();
        let source_id = stack.admin().source("github", &secret).await;
        Self { url: stack.inbound(&source_id), source_id, secret }
    }

    /// The same source, posted to at the ingest that runs now.
    #[must_use]
    pub fn at(&self, stack: &Stack) -> Self {
        Self { url: stack.inbound(&self.source_id), ..self.clone() }
    }

    /// Posts under that delivery id.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_push(&self, delivery: &str) -> anyhow::Result<Answer> {
        http::post(&self.url, &sign::github(&self.secret, delivery, "push", BODY), BODY).await
    }

    /// As [`try_push`](Self::try_push).
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn push(&self, delivery: &str) -> Answer {
        self.try_push(delivery).await.expect("an answer")
    }

    /// Posts so many at once; the ids of the events, sorted.
    ///
    /// # Panics
    /// When one is not accepted.
    pub async fn push_many(&self, count: usize) -> Vec<String> {
        let pushes =
            (0..count).map(|number| async move { self.push(&format!("many-{number}")).await.accepted() });
        let mut ids = futures_util::future::join_all(pushes).await;
        ids.sort();
        ids
    }
}
