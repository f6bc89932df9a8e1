//! Pub/sub between replicas: who listens hears at once, who does not misses it for good. Whatever is
//! told here can be found in Postgres.

use futures_util::StreamExt as _;

use super::{CONNECT_TIMEOUT, StreamError, Streams, within};

/// One topic, listened to on a connection of its own.
pub struct Notices {
    pubsub: redis::aio::PubSub,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}

impl Notices {
    /// `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let message = self.pubsub.on_message().next().await?;
        Some(message.get_payload_bytes().to_vec())
    }
}

impl Streams {
    /// Tells whoever listens to the topic now.
    pub async fn tell(&self, topic: &str, message: &[u8]) -> Result<(), StreamError> {
        self.command(redis::cmd("PUBLISH").arg(self.channel(topic)).arg(message)).await
    }

    /// Listens from here on.
    pub async fn listen(&self, topic: &str) -> Result<Notices, StreamError> {
        let mut pubsub = within(CONNECT_TIMEOUT, self.shared.client.get_async_pubsub()).await?;
        within(CONNECT_TIMEOUT, pubsub.subscribe(self.channel(topic))).await?;
        Ok(Notices { pubsub })
    }

    fn channel(&self, topic: &str) -> String {
        format!("{}:{topic}", self.shared.prefix)
    }
}
