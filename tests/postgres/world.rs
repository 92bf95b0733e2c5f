//! What the behaviour tests share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::postgres::{Error, Event, Listener, ListenerBuilder, Message, ServerConfig};

use crate::server::{Plain, Postgres};
use crate::support::in_time;

/// Short delays, and no log.
pub fn quick(config: impl Into<ServerConfig>) -> ListenerBuilder {
    Listener::builder(config)
        .retry_min(Duration::from_millis(10))
        .retry_max(Duration::from_millis(100))
        .stable_after(Duration::ZERO)
        .logger(|_| {})
}

/// A listener that names its sessions, so that they can be found.
pub fn named(server: &Postgres, name: &str) -> ListenerBuilder {
    let mut config = server.config();
    config.application_name(name);
    quick(config)
}

pub async fn connected(builder: ListenerBuilder) -> Listener {
    // (`connect` would fail while the server is still starting up.)
    let listener = builder.build().unwrap();
    until("connected", async || listener.is_connected()).await;
    listener
}

pub async fn next(listener: &mut Listener) -> Message {
    in_time("a message", listener.recv()).await.unwrap()
}

/// The payload of the next message, which must be a notification.
pub async fn payload(listener: &mut Listener) -> String {
    match next(listener).await {
        Message::Notification(notification) => notification.payload().to_owned(),
        other => panic!("expected a notification: {other:?}"),
    }
}

/// The next two messages, which must be a loss and the end of it. Gives the cause.
pub async fn outage(listener: &mut Listener) -> Arc<Error> {
    let Message::Lost { generation: lost, cause, .. } = next(listener).await else { panic!("expected a loss") };
    let Message::Resynced { generation, .. } = next(listener).await else { panic!("expected its end") };
    assert_eq!(generation, lost + 1);
    cause
}

/// Ends all sessions of this name, by 57P01. One at least.
pub async fn terminate(client: &Plain, name: &str) {
    for pid in client.sessions_named(name).await.unwrap() {
        assert!(client.terminate(pid).await.unwrap());
    }
}

/// Asks until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// What was told, in short.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<Event>>>);

impl Diary {
    pub fn hook(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let events = Arc::clone(&self.0);
        move |event| events.lock().unwrap().push(event.clone())
    }

    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub fn words(&self) -> Vec<String> {
        self.events().iter().map(|event| event.to_string().split([':', ' ']).next().unwrap().to_owned()).collect()
    }

    pub fn count(&self, word: &str) -> usize {
        self.words().iter().filter(|other| *other == word).count()
    }
}

/// On a runtime of one thread, and on one of two.
pub fn on_one_and_two_threads(test: impl AsyncFn()) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(test());
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(test());
}
