//! Who is compared.

use std::future::Future;
use std::time::Duration;

use perconn::postgres::{Listener, ListenerBuilder, Message};
use sqlx::postgres::PgListener;

pub(crate) const CHANNEL: &str = "bench";

/// A listener that is asked for notifications again and again, whatever happens.
pub(crate) trait Contestant: Send + 'static {
    fn connect(url: String) -> impl Future<Output = Self> + Send;

    /// The next notification; gives what `look` makes of its payload.
    fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> impl Future<Output = T> + Send;
}

impl Contestant for PgListener {
    async fn connect(url: String) -> Self {
        let mut listener = Self::connect(&url).await.unwrap();
        listener.listen(CHANNEL).await.unwrap();
        listener
    }

    async fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> T {
        loop {
            // An error is not the end: the next call dials again.
            match self.recv().await {
                Ok(notification) => return look(notification.payload()),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

impl Contestant for Listener {
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

/// The same, to which a connection counts as stable that has lived for a moment, and not only after ten seconds: a round
/// cannot take so long. (Whether it was makes a difference to the first delay only. sqlx makes none.)
pub(crate) struct Settled(Listener);

impl Contestant for Settled {
    async fn connect(url: String) -> Self {
        Self(connect(Listener::builder(url).stable_after(Duration::from_millis(50))).await)
    }

    async fn next<T: Send>(&mut self, look: impl FnOnce(&str) -> T + Send) -> T {
        self.0.next(look).await
    }
}

/// The same with other delays: it begins with sqlx's first (10 ms), and does not let them grow as sqlx does.
pub(crate) struct Quick(Listener);

impl Contestant for Quick {
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
