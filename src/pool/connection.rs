//! An open connection of a pool, with the times that limit its use.
//!
//! Next: [`health`], the part of the check that asks the kernel.

use std::time::Duration;

use rand::RngExt;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::lifecycle::Check;
use super::{CloseReason, PoolBuilder, health};
use crate::backoff::seeded_by_system;
use crate::hooks::warn;
use crate::panics::catch;

/// How much lower than `max_age` the age limit of one connection may be, in percent.
const AGE_JITTER: u32 = 10;

/// An open connection, in the hands of one caller or idle.
pub(super) struct Connection<T> {
    /// The socket, stream or other value that is lent.
    pub(super) value: T,
    /// All else. A connection is moved in and out of a guard at each use, so it is small.
    pub(super) info: Box<Info>,
}

/// What the pool knows of one connection.
pub(super) struct Info {
    /// The end of its dial, from which its age counts.
    pub(super) opened: Instant,
    /// When it is too old to be lent. `None`: never.
    pub(super) expires: Option<Instant>,
    /// Since when it has been idle, if the pool limits that.
    pub(super) idle_since: Option<Instant>,
    /// Which checks it needs before it is lent.
    pub(super) readiness: Readiness,
    /// The runtime in which it was opened, if its close has to run there.
    pub(super) runtime: Option<Handle>,
}

/// What has to be checked before a connection is lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It was opened for a caller that has left, and goes to one that has waited: nothing.
    New,
    /// It was used, and prepared for a caller that has left. It goes to one that has waited: nothing.
    Prepared,
    /// It was used or idle: everything.
    Used,
}

impl<T: 'static> Connection<T> {
    /// A connection that was just opened, for a pool with this limit of the age.
    pub(super) fn new(value: T, opened: Instant, max_age: Option<Duration>) -> Self {
        let expires = max_age.and_then(|max| opened.checked_add(draw_age_limit(max)));
        let info = Info { opened, expires, idle_since: None, readiness: Readiness::New, runtime: None };
        Self { value, info: Box::new(info) }
    }

    /// Whether it is too old to be lent again.
    #[inline]
    pub(super) fn is_aged(&self) -> bool {
        self.info.expires.is_some_and(|end| Instant::now() > end)
    }

    /// Whether it has been idle for longer than the pool allows.
    #[inline]
    fn is_idle_for_too_long(&self, settings: &PoolBuilder) -> bool {
        let (Some(limit), Some(since)) = (settings.idle_timeout, self.info.idle_since) else { return false };
        since.elapsed() > limit
    }

    /// Checks an idle connection before it is lent. Returns why it has to be closed instead.
    ///
    /// `is_quiet` is asked if the connection is not a socket, and then the check of the program.
    #[inline(always)]
    pub(super) fn check(
        &mut self,
        settings: &PoolBuilder,
        is_quiet: fn(&mut T) -> bool,
        check: Option<&Check<T>>,
    ) -> Option<CloseReason> {
        if self.is_aged() {
            return Some(CloseReason::Aged);
        }
        if self.is_idle_for_too_long(settings) {
            return Some(CloseReason::Idle);
        }
        // The function of a dialer is the program's own code: if it panics, the connection is of no use.
        let is_quiet =
            health::is_quiet(&self.value).unwrap_or_else(|| catch(|| is_quiet(&mut self.value)).unwrap_or(false));
        if !is_quiet {
            return Some(CloseReason::Dead);
        }
        let is_fit = check.is_none_or(|check| call_check(check, &mut self.value));
        if is_fit { None } else { Some(CloseReason::Dead) }
    }
}

/// Calls the check of the program. If it panics, the connection is of no use.
#[cold]
fn call_check<T>(check: &Check<T>, value: &mut T) -> bool {
    catch(|| check(value)).unwrap_or_else(|message| {
        warn(format_args!("the check of a pooled connection panicked: {message}"));
        false
    })
}

/// The age limit of one connection. Connections that were opened together do not all expire together.
fn draw_age_limit(max: Duration) -> Duration {
    let jitter = max / 100 * AGE_JITTER;
    max - seeded_by_system().random_range(Duration::ZERO..=jitter)
}
