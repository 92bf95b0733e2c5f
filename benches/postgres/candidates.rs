//! The listeners that are compared.

use std::future::Future;
use std::time::Duration;

use perconn::postgres::{Listener, ListenerBuilder, Message};
use sqlx::postgres::PgListener;

pub(crate) const CHANNEL: &str = "bench";

/// A listener that receives notifications in a loop, through all outages.
pub(crate) trait Candidate: Send + 'static {
    fn connect(url: String) -> impl Future<Output = Self> + Send;

    /// Waits for the next notification, and returns what `look` makes of its payload.
    fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> impl Future<Output = T> + Send;
}

impl Candidate for PgListener {
    async fn connect(url: String) -> Self {
        let mut listener = Self::connect(&url).await.unwrap();
        listener.listen(CHANNEL).await.unwrap();
        listener
    }

    async fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> T {
        loop {
            // After an error, the next call dials again.
            match self.recv().await {
                Ok(notification) => return look(notification.payload()),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

impl Candidate for Listener {
    async fn connect(url: String) -> Self {
        connect(Self::builder(url)).await
    }

    async fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> T {
        loop {
            if let Message::Notification(notification) = self.recv().await.unwrap() {
                return look(notification.payload());
            }
        }
    }
}

/// `perconn` with a `stable_after` of 50 ms instead of ten seconds, which is longer than a round. It decides only about the
/// first delay; sqlx has no such setting.
pub(crate) struct Settled(Listener);

impl Candidate for Settled {
    async fn connect(url: String) -> Self {
        Self(connect(Listener::builder(url).stable_after(Duration::from_millis(50))).await)
    }

    async fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> T {
        self.0.next(look).await
    }
}

/// `perconn` with delays of 10 to 100 ms. sqlx begins with 10 ms as well, and lets the delays grow up to 6 s.
pub(crate) struct Quick(Listener);

impl Candidate for Quick {
    async fn connect(url: String) -> Self {
        let delays = Listener::builder(url).retry_min(Duration::from_millis(10)).retry_max(Duration::from_millis(100));
        Self(connect(delays.stable_after(Duration::from_millis(50))).await)
    }

    async fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> T {
        self.0.next(look).await
    }
}

async fn connect(builder: ListenerBuilder) -> Listener {
    let listener = builder.logger(|_| {}).connect().await.unwrap();
    listener.listen(CHANNEL).await.unwrap();
    listener
}
