//! The `redis` crate's multiplexed connection, against Redis.

use std::io;
use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use perconn::Sessions;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::servers::{RealServer, program};
use crate::through_kills::{AnyError, Client, on_one_and_two_threads, through_kills};

struct Redis {
    commands: MultiplexedConnection,
    driver: JoinHandle<()>,
    /// Turns true when the driver ends.
    has_ended: watch::Receiver<bool>,
}

impl Redis {
    /// Waits for the outcome of a request.
    ///
    /// A request that is sent in the very moment in which the driver ends stays in the channel between the two: it gets neither an
    /// answer nor an error as long as a sender lives. (Seen once in some hundred runs, on two threads.) So once the driver has ended,
    /// the wait is short.
    async fn outcome<T>(&self, request: impl Future<Output = Result<T, AnyError>>) -> Result<T, AnyError> {
        let mut has_ended = self.has_ended.clone();
        let mut request = pin!(request);
        tokio::select! {
            outcome = &mut request => outcome,
            _ = has_ended.wait_for(|has_ended| *has_ended) => {
                let lost = || Err(RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe)).into());
                timeout(Duration::from_secs(1), request).await.unwrap_or_else(|_| lost())
            }
        }
    }
}

impl Client for Redis {
    type Config = ();

    async fn connect((): &(), sessions: &mut Sessions) -> Result<Self, AnyError> {
        let info = RedisConnectionInfo::default();
        // Without a time limit, only the break can end a command.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let session = sessions.next().await?;
        let (commands, driver) = MultiplexedConnection::new_with_config(&info, session, config).await?;
        let (ended, has_ended) = watch::channel(false);
        let driver = tokio::spawn(async move {
            driver.await;
            ended.send_replace(true);
        });
        Ok(Self { commands, driver, has_ended })
    }

    /// Eight tasks at once, on one connection.
    async fn request(&mut self, number: u32) -> Result<(), AnyError> {
        let mut tasks = JoinSet::new();
        for task in 0..8 {
            let mut commands = self.commands.clone();
            tasks.spawn(async move {
                let question = format!("{number} of task {task}");
                let answer: String = redis::cmd("ECHO").arg(&question).query_async(&mut commands).await?;
                assert_eq!(answer, question);
                Ok::<_, RedisError>(())
            });
        }
        let answers = async { Ok(tasks.join_all().await.into_iter().collect::<Result<(), _>>()?) };
        self.outcome(answers).await
    }

    async fn slow_request(&mut self, kill: impl FnOnce()) -> Result<(), AnyError> {
        let mut commands = self.commands.clone();
        let mut waits = JoinSet::new();
        waits.spawn(async move { redis::cmd("BLPOP").arg("nothing").arg(0).query_async::<()>(&mut commands).await });
        tokio::task::yield_now().await;
        kill();
        self.outcome(async { Ok(waits.join_next().await.unwrap()??) }).await
    }

    async fn wait_for_end(self) {
        self.driver.await.unwrap();
    }
}

fn server() -> Option<RealServer> {
    let program = program("redis", "redis-server", &[])?;
    Some(RealServer::start("redis", |folder, port| {
        let folder = folder.to_owned();
        move || {
            let mut command = Command::new(&program);
            command.args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                &port.to_string(),
                "--dir",
            ]);
            command.arg(&folder);
            command
        }
    }))
}

#[test]
fn redis_commands_are_answered_through_kills_of_redis() {
    let Some(server) = server() else { return };
    on_one_and_two_threads(async || {
        for error in through_kills::<Redis>(&(), &server).await {
            let error = error.downcast_ref::<RedisError>().expect("an error of redis");
            assert!(error.is_connection_dropped(), "{error:?}");
        }
    });
}
