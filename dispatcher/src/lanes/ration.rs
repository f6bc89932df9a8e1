//! Brings tokens to lanes whose endpoints have a rate: see [`crate::rate`].

use std::sync::Arc;
use std::time::Instant;

use bowline_core::id::EndpointId;

use super::Lanes;
use crate::turns::Turn;

impl Lanes {
    pub(super) fn ration(self: &Arc<Self>, thirsty: Vec<EndpointId>) {
        for endpoint in thirsty {
            // Ends by itself at a shutdown: what waits is given back then.
            tokio::spawn(Arc::clone(self).bring_tokens(endpoint));
        }
    }

    /// Asks for what a rationed lane can use, until that is nothing.
    async fn bring_tokens(self: Arc<Self>, endpoint: EndpointId) {
        loop {
            let rate = self.snapshot.endpoint(endpoint).and_then(|live| live.endpoint.spec.rate_per_s);
            let wanted = self.turns.lock().wants(endpoint, rate, Instant::now());
            let Some((rate_per_s, usable)) = wanted else {
                // Of a lane whose rate was taken away meanwhile.
                return self.go_on(endpoint, 0);
            };
            match self.rates.take(endpoint, rate_per_s, usable).await {
                Ok(tokens) => self.go_on(endpoint, tokens),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Starts what can go with these tokens.
    fn go_on(self: &Arc<Self>, endpoint: EndpointId, tokens: u32) {
        let (ready, thirsty) = {
            let mut turns = self.turns.lock();
            let now = Instant::now();
            turns.grant(endpoint, tokens, now);
            let ready: Vec<Turn> = std::iter::from_fn(|| turns.next(now)).collect();
            (ready, turns.thirsty())
        };
        self.start(ready);
        self.ration(thirsty);
    }
}
