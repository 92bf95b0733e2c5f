//! What the tests share: servers that answer, and a record of what happens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use perconn::pool::{CloseReason, Event, Guard, Pool, PoolBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::in_time;

/// Answers each byte with the same, on any number of connections, until it is stopped.
pub struct EchoServer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl EchoServer {
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        });
        Self { address, task }
    }

    /// Everything is closed when this returns.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub async fn echo(conn: &mut Guard) {
    in_time("an echo", async {
        conn.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        conn.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    })
    .await;
}

/// Why connections were closed, in order.
#[derive(Clone, Default)]
pub struct Closings(Arc<Mutex<Vec<CloseReason>>>);

impl Closings {
    pub fn watch(&self, builder: PoolBuilder) -> Pool {
        let record = self.clone();
        let hook = move |event: &Event| {
            if let Event::Closed { reason, .. } = event {
                record.0.lock().unwrap().push(*reason);
            }
        };
        builder.on_event(hook).build().unwrap()
    }

    pub fn list(&self) -> Vec<CloseReason> {
        self.0.lock().unwrap().clone()
    }
}

/// All slots are free or idle, and nobody waits.
#[track_caller]
pub fn nobody_has_anything(pool: &Pool) {
    let stats = pool.stats();
    assert_eq!((stats.in_use, stats.releasing, stats.waiting), (0, 0, 0), "{stats:?}");
}
