//! The dialer beneath a listener: one dial is one attempt, with all that makes a link of a stream.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::{SmallRng, SysRng};
use rand::seq::SliceRandom;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Config;

use super::Error;
use super::hosts::Host;
use super::login::{BoxError, Login};
use super::shared::Shared;
use crate::Dial;
use crate::causes::WithCauses;
use crate::dial::BoxedStream;
use crate::sync::Mutex;

/// Where the newest login waits for the session that goes with it.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Login>>>);

impl Slot {
    fn put(&self, login: Option<Login>) {
        *self.0.lock() = login;
    }

    /// Whoever takes it has the link: the task, or who sees its end first.
    pub(super) fn take(&self) -> Option<Login> {
        self.0.lock().take()
    }
}

/// Connects, speaks TLS, logs in and listens to all channels, at one host after the other.
pub(super) struct Attempts {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Slot,
    /// (Without TLS and hosts: these are dealt with here.)
    pub(super) config: Config,
    pub(super) hosts: Vec<Host>,
    /// The host that the next attempt begins with.
    pub(super) next: usize,
    pub(super) is_random: bool,
    /// For the whole of one attempt.
    pub(super) limit: Option<Duration>,
}

impl Dial for Attempts {
    type Stream = BoxedStream;

    async fn dial(&mut self) -> io::Result<BoxedStream> {
        self.shared.may_dial().await;
        self.shared.begin_attempt();
        self.slot.put(None);
        match self.attempt().await {
            Ok((stream, login)) => {
                self.slot.put(Some(login));
                Ok(stream)
            }
            Err(error) => {
                let error = Arc::new(error);
                self.shared.attempt_failed(Arc::clone(&error));
                Err(io::Error::other(error))
            }
        }
    }

    fn dial_failed(&mut self) {
        // For a user's dialer with a choice to make. (Those of a configuration have made theirs.)
        if let [host] = &mut self.hosts[..] {
            host.dial_failed();
        }
    }
}

impl Attempts {
    async fn attempt(&mut self) -> Result<(BoxedStream, Login), Error> {
        let end = self.limit.and_then(|limit| Instant::now().checked_add(limit));
        let count = self.hosts.len();
        let mut order: Vec<usize> = (0..count).map(|index| (self.next + index) % count).collect();
        if self.is_random {
            let mut random = SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| SmallRng::seed_from_u64(0));
            order.shuffle(&mut random);
        }
        let mut failures = Vec::new();
        for (tried, index) in order.into_iter().enumerate() {
            // However this ends, be it that it is dropped: unless it succeeds, it is the next one's turn.
            self.next = (index + 1) % count;
            let part = end.map(|end| part_of(end, count - tried));
            let host = &mut self.hosts[index];
            let channels = || self.shared.lock().channels.acknowledged();
            let login = async {
                let stream = host.dial().await?;
                Login::new(stream, &self.config, channels).await
            };
            let outcome = match part {
                None => login.await,
                Some((limit, end)) => timeout_at(end, login).await.unwrap_or_else(|_| {
                    let text = format!("the attempt took longer than {limit:?}");
                    Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
                }),
            };
            match outcome {
                Ok((stream, mut login)) => {
                    self.next = index;
                    login.host = host.to_string();
                    return Ok((stream, login));
                }
                Err(error) => {
                    // (Of one host's failure, the core tells.)
                    if count > 1 {
                        host.dial_failed();
                    }
                    failures.push((host.to_string(), error));
                }
            }
        }
        Err(all_failed(failures))
    }
}

/// An equal part of the time until `end` for the first of so many that are left: how long it is, and when it ends.
fn part_of(end: Instant, count: usize) -> (Duration, Instant) {
    let now = Instant::now();
    let limit = end.saturating_duration_since(now) / u32::try_from(count).unwrap_or(u32::MAX);
    (limit, now + limit)
}

/// One error for all hosts.
fn all_failed(mut failures: Vec<(String, BoxError)>) -> Error {
    match failures.pop() {
        Some((host, source)) if failures.is_empty() => Error::Connect { host, source: source.into() },
        Some(last) => {
            failures.push(last);
            let host = failures.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>().join(", ");
            Error::Connect { host, source: Arc::new(Failures(failures)) }
        }
        None => Error::InvalidConfig("no host: expected host or hostaddr".into()),
    }
}

/// Why each of several hosts has failed. The last one's reason is the source.
#[derive(Debug)]
struct Failures(Vec<(String, BoxError)>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (host, error)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            // The causes of the last one follow, as this error's source.
            match number + 1 < self.0.len() {
                true => write!(f, "{host}: {}", WithCauses(&**error))?,
                false => write!(f, "{host}: {error}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failures {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.last()?.1.source()
    }
}
