//! The dialer under a listener: one dial is one attempt, from the first host to the `LISTEN` of all channels.
//!
//! Next: [`start`](super::start), which builds the core connection with it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::{SmallRng, SysRng};
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep_until};

use super::Error;
use super::attempt_config::{LoginConfig, Preparation, Prepared};
use super::hopeless::Hopeless;
use super::hosts::{self, Host};
use super::listener_shared::{FailedAttempt, ListenerShared, saturating_add};
use super::login::{BoxError, Login, PendingLogin, before};
use super::pooler;
use crate::causes::WithCauses;
use crate::dial::BoxedStream;
use crate::{Address, Dial, DialLimit};

/// Connects, speaks TLS, logs in and listens to all channels, at one host after the other.
///
/// All of it is part of the dial, so that the time limit, the backoff and `max_retries` apply to all of it.
pub(super) struct LoginDialer {
    /// Says when a dial is allowed and which channels to listen to; takes the cause of a failure.
    pub(super) shared: Arc<ListenerShared>,
    /// Where a successful dial leaves its login.
    pub(super) pending_login: PendingLogin,
    /// Asks the program for another configuration, if it has a function for that.
    pub(super) preparation: Preparation,
    /// Makes the delays longer while time alone does not help.
    pub(super) hopeless: Hopeless,
    /// The next attempt must not begin earlier.
    pub(super) not_before: Option<Instant>,
    /// What to log in with.
    pub(super) login: LoginConfig,
    /// At least one.
    pub(super) hosts: Vec<Host>,
    /// The host that the next attempt begins with.
    pub(super) next: usize,
    /// The host that the last attempt logged in to.
    pub(super) reached: Option<usize>,
    /// The host of the last login.
    pub(super) last_host: Option<usize>,
    /// It is the dialer of a [`ListenerConn`](super::ListenerConn), which has only one attempt.
    pub(super) is_single: bool,
    /// Whether each attempt tries the hosts in a random order.
    pub(super) is_random: bool,
    /// The time limit of a whole attempt.
    pub(super) limit: Option<Duration>,
    /// Shared with other connections. It counts an attempt, and not what comes before one.
    pub(super) dial_limit: Option<DialLimit>,
}

impl Dial for LoginDialer {
    type Stream = BoxedStream;

    async fn dial(&mut self) -> io::Result<BoxedStream> {
        // The core has waited for the usual delay. This one counts from the last failure, too.
        if let Some(until) = self.not_before {
            sleep_until(until).await;
        }
        self.shared.wait_until_dial_allowed().await;
        let name = self.hosts.first().map_or("", Host::name);
        let _permit = DialLimit::turn_of(self.dial_limit.as_ref(), name).await;
        self.shared.begin_attempt();
        self.pending_login.set(None);
        match self.attempt().await {
            Ok((stream, login)) => {
                self.hopeless.note(false);
                self.not_before = None;
                self.pending_login.set(Some(login));
                Ok(stream)
            }
            Err(error) => {
                let (delay, hopeless) = self.hopeless.note(error.is_hopeless());
                self.not_before = (hopeless > 0).then(|| saturating_add(Instant::now(), delay));
                let error = Arc::new(error);
                self.shared.note_attempt_failed(FailedAttempt { error: Arc::clone(&error), hopeless, delay });
                Err(io::Error::other(error))
            }
        }
    }

    // Each attempt tries all hosts. With one host, it tries one address of the host's dialer.
    fn addresses(&self) -> &[Address] {
        if let [host] = &self.hosts[..] { host.addresses() } else { &[] }
    }

    fn dialed_address(&self) -> Option<&Address> {
        if let [host] = &self.hosts[..] { host.dialed_address() } else { None }
    }

    fn dial_failed(&mut self) {
        match (self.reached.take(), &mut self.hosts[..]) {
            // Its session ended too soon.
            (Some(index), hosts) => {
                self.next = (index + 1) % hosts.len();
                hosts[index].dial_failed();
            }
            // The attempt failed. Of several hosts, `attempt` has reported each.
            (None, [host]) => host.dial_failed(),
            (None, _) => {}
        }
    }

    fn take_warning(&mut self) -> Option<crate::Error> {
        // All hosts read the same files, so that one warning does for those that were tried.
        self.hosts.iter_mut().filter_map(Host::take_warning).last()
    }
}

impl LoginDialer {
    /// Tries the hosts until one of them lets the listener in.
    async fn attempt(&mut self) -> Result<(BoxedStream, Login), Error> {
        let end = self.limit.and_then(|limit| Instant::now().checked_add(limit));
        if let Err(source) = before(end, self.limit, self.ask_for_config()).await {
            let host = self.hosts.iter().map(Host::name).collect::<Vec<_>>().join(", ");
            return Err(Error::Connect { host, source: source.into() });
        }
        let count = self.hosts.len();
        let mut order: Vec<usize> = (0..count).map(|index| (self.next + index) % count).collect();
        if self.is_random {
            let mut random = SmallRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| SmallRng::seed_from_u64(0));
            order.shuffle(&mut random);
        }
        let mut failures = Vec::new();
        let is_refused = std::mem::take(&mut self.shared.lock().is_host_refused);
        if let Some(host) = self.last_host.filter(|_| is_refused) {
            order.sort_by_key(|index| (index + count - host - 1) % count);
        }
        self.reached = None;
        for (tried, index) in order.into_iter().enumerate() {
            // If this host fails, or if this future is dropped, the next attempt begins with the host after it.
            self.next = (index + 1) % count;
            let share = end.map(|end| equal_share(end, count - tried));
            match self.try_host(index, share).await {
                Ok((stream, login)) => {
                    self.next = index;
                    self.reached = Some(index);
                    self.last_host = Some(index);
                    return Ok((stream, login));
                }
                Err(error) => {
                    if count > 1 {
                        self.hosts[index].dial_failed();
                    }
                    failures.push((self.hosts[index].to_string(), error));
                }
            }
        }
        Err(connect_error(failures))
    }

    /// Takes another configuration for this attempt, if the program has a function for that.
    async fn ask_for_config(&mut self) -> Result<(), BoxError> {
        let Some(Prepared { login, hosts }) = self.preparation.ask().await? else { return Ok(()) };
        self.login = login;
        if !hosts.is_empty() {
            self.hosts = hosts;
            (self.next, self.reached, self.last_host) = (0, None, None);
            self.is_random = hosts::is_random(&self.login.config);
            self.shared.lock().can_leave_host = self.hosts.len() > 1 && !self.is_single;
        }
        Ok(())
    }

    /// Makes a stream to one host, logs in, and listens to all channels.
    async fn try_host(
        &mut self,
        index: usize,
        share: Option<(Duration, Instant)>,
    ) -> Result<(BoxedStream, Login), BoxError> {
        let host = &mut self.hosts[index];
        let (limit, end) = share.unzip();
        let mut login = before(end, limit, host.log_in(&self.login)).await?;
        // As late as possible, because callers may change the channels at any time.
        let channels = self.shared.lock().channels.in_login();
        login.listen(channels, share).await?;
        login.host = host.to_string();
        if let Some(process_id) = login.pooled_process_id {
            let probe = pooler::is_session_kept(host, &self.login, &mut login, process_id);
            login.is_session_kept = before(end, limit, probe).await?;
        }
        Ok((login.take_stream()?, login))
    }
}

/// An equal share of the time until `end` for the next of `count` hosts: how long it is, and when it ends.
fn equal_share(end: Instant, count: usize) -> (Duration, Instant) {
    let now = Instant::now();
    let limit = end.saturating_duration_since(now) / u32::try_from(count).unwrap_or(u32::MAX);
    (limit, now + limit)
}

/// One error for all hosts.
fn connect_error(mut failures: Vec<(String, BoxError)>) -> Error {
    match failures.pop() {
        Some((host, source)) if failures.is_empty() => Error::Connect { host, source: source.into() },
        Some(last) => {
            failures.push(last);
            let host = failures.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>().join(", ");
            Error::Connect { host, source: Arc::new(HostErrors(failures)) }
        }
        None => Error::InvalidConfig("no host: expected host or hostaddr".into()),
    }
}

/// The error of each of several hosts. The source is the source of the last one.
#[derive(Debug)]
pub(super) struct HostErrors(Vec<(String, BoxError)>);

impl HostErrors {
    /// The error of each host.
    pub(super) fn errors(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        self.0.iter().map(|(_, error)| &**error as &(dyn std::error::Error + 'static))
    }
}

impl fmt::Display for HostErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (host, error)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("; ")?;
            }
            // The causes of the last error follow as the source of this error.
            match number + 1 < self.0.len() {
                true => write!(f, "{host}: {}", WithCauses(&**error))?,
                false => write!(f, "{host}: {error}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for HostErrors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.last()?.1.source()
    }
}
