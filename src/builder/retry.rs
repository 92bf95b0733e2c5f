//! The settings of the redials: whether one follows a failure, and after which delay.
//!
//! Next: `actor/delays.rs`, which draws the delays, and `actor/verdict.rs`, which asks the program.

use std::fmt;
use std::time::Duration;

use super::Builder;
use crate::actor::{Delays, RetryIf, Schedule};
use crate::backoff::{Backoff, Jitter};
#[cfg(doc)]
use crate::fatal;
use crate::{Error, Retry};

/// Whether a dial follows a failure, and after which delay.
#[derive(Default)]
pub(super) struct RetrySettings {
    /// The shortest delay after a failed dial. Defaults to 1 s; not zero.
    min: Option<Duration>,
    /// The longest delay. Defaults to 60 s; not below the shortest.
    max: Option<Duration>,
    /// Delays of the program, in place of the backoff.
    schedule: Option<Box<Schedule>>,
    /// Asks the program whether a dial follows.
    retry_if: Option<RetryIf>,
    /// Makes delays repeatable in tests. `None`: a seed from the operating system.
    jitter_seed: Option<u64>,
    /// How the delays grow. Only the `postgres` listener uses another kind than `Full`.
    jitter: Jitter,
}

impl RetrySettings {
    /// The shortest and the longest delay.
    fn bounds(&self) -> (Duration, Duration) {
        (self.min.unwrap_or(Duration::from_secs(1)), self.max.unwrap_or(Duration::from_secs(60)))
    }

    /// Checks the bounds. The error names the value and what was expected.
    pub(super) fn check(&self) -> Result<(), Error> {
        let (min, max) = self.bounds();
        if min.is_zero() {
            return Err(Error::InvalidConfig("retry_min 0ns: expected more than zero".into()));
        }
        // A schedule has no default bounds.
        if max < min && (self.schedule.is_none() || self.min.is_some() && self.max.is_some()) {
            let defaults = "unless set, they are 1s and 60s";
            let text = format!("retry_max {max:?}: expected at least retry_min, which is {min:?} ({defaults})");
            return Err(Error::InvalidConfig(text));
        }
        Ok(())
    }

    /// The delays, and the function to ask first.
    pub(super) fn into_parts(self) -> (Delays, Option<RetryIf>) {
        let (min, max) = self.bounds();
        let schedule = self.schedule.map(|schedule| Box::new(schedule.within(self.min, self.max)));
        let backoff = Backoff::new(self.jitter, min, max.max(min), self.jitter_seed);
        (Delays::new(backoff, schedule), self.retry_if)
    }
}

impl fmt::Debug for RetrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = self.bounds();
        f.debug_struct("RetrySettings")
            .field("retry_min", &min)
            .field("retry_max", &max)
            .field("has_schedule", &self.schedule.is_some())
            .field("has_retry_if", &self.retry_if.is_some())
            .field("jitter_seed", &self.jitter_seed)
            .finish_non_exhaustive()
    }
}

impl<D> Builder<D> {
    /// The shortest delay before a dial, once a dial has failed.
    ///
    /// Defaults to 1 second. Zero is not valid. The n-th delay in a row is random, between `retry_min` and
    /// `retry_min * 2^n`, and at most [`retry_max`](Builder::retry_max). If the two are equal, the delays are not
    /// random, and clients that lost their links together dial together.
    ///
    /// The first redial after a [stable](Builder::stable_after) link comes sooner: after a random part of
    /// `retry_min`. So does the first redial of a connection without a failed dial before.
    #[doc(alias("backoff", "retry", "reconnect", "auto_reconnect", "exponential_backoff", "jitter", "delay"))]
    pub fn retry_min(mut self, delay: Duration) -> Self {
        self.retries.min = Some(delay);
        self
    }

    /// The longest delay before a dial.
    ///
    /// Defaults to 60 seconds. Must not be below [`retry_min`](Builder::retry_min). In a long outage, delays stay
    /// random between `retry_min` and `retry_max`.
    #[doc(alias("backoff", "retry", "reconnect", "auto_reconnect", "exponential_backoff", "max_delay"))]
    pub fn retry_max(mut self, delay: Duration) -> Self {
        self.retries.max = Some(delay);
        self
    }

    /// How long a link must live before the delays and [`max_retries`](Builder::max_retries) start over.
    ///
    /// Defaults to 10 seconds. A server that accepts and closes at once is thus dialed with the same backoff as one
    /// that refuses. With several [addresses](Builder::addresses), the next dial goes to the next one, as after a failed
    /// dial. With zero, every link counts as stable.
    #[doc(alias("reset_after", "backoff_reset"))]
    pub fn stable_after(mut self, life: Duration) -> Self {
        self.limits.stable_after = life;
        self
    }

    /// How many redials in a row, without a [stable](Builder::stable_after) link between them, the actor makes before
    /// it gives up.
    ///
    /// Defaults to `None`: it never gives up. The first dial of a connection does not count; with `Some(0)` there is no
    /// other dial. After the last redial has failed, every operation fails with [`Error::GaveUp`].
    #[doc(alias("max_attempts", "retry", "give_up"))]
    pub fn max_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.limits.max_retries = retries.into();
        self
    }

    /// Asks `verdict` what follows each failure: another dial after the backoff, one after a time of your choice, or none.
    ///
    /// Defaults to none: a dial follows every failure. It is called with each failed dial ([`Error::DialFailure`]) and each
    /// break ([`Error::IoError`]), also with a break that the program requested; and with the number of the dial that failed, or
    /// that made the link. The number is from 1, and starts over after a [stable](Builder::stable_after) link. It is not
    /// called where no dial would follow: after a `shutdown()`, and for a [`fatal`] error. [`Retry::After`] counts as one of
    /// the [`max_retries`](Builder::max_retries), and has no effect between the first dials of a
    /// [`connect`](Builder::connect), which fails at once on [`Retry::Stop`].
    ///
    /// It runs on the actor's task, on a thread of the runtime: it must not block. After a panic, which the
    /// [`logger`](Builder::logger) gets as an [`Error::HookPanicked`], the backoff follows.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::time::Duration;
    ///
    /// use perconn::{Conn, Retry};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let conn = Conn::builder("api.example:7000")
    ///     .retry_if(|error, attempt| match error.kind() {
    ///         ErrorKind::PermissionDenied => Retry::Stop, // what the login returns for a wrong password
    ///         ErrorKind::ResourceBusy => Retry::After(Duration::from_secs(300)),
    ///         _ if attempt >= 1000 => Retry::Stop,
    ///         _ => Retry::Backoff,
    ///     })
    ///     .build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("should_retry", "retry_policy", "fatal", "give_up", "stop", "circuit_breaker"))]
    pub fn retry_if(mut self, verdict: impl FnMut(&Error, u32) -> Retry + Send + 'static) -> Self {
        self.retries.retry_if = Some(Box::new(verdict));
        self
    }

    /// Takes the delays before dials from `schedule` instead of the backoff of this crate.
    ///
    /// `schedule` is called when an outage begins, and yields its delays in order. A [stable](Builder::stable_after) link
    /// ends the outage. When the delays have ended, the connection gives up ([`Error::GaveUp`]). So repeat the last one for
    /// ever, unless that is what you want. The strategies of the crates `backon` and `tokio-retry` fit.
    ///
    /// Each delay is random, between half of what `schedule` yields and all of it, so that clients that lost their links
    /// together do not dial together. [`exact_backoff`](Builder::exact_backoff) leaves that out. A delay outside of
    /// [`retry_min`](Builder::retry_min) and [`retry_max`](Builder::retry_max) is moved into them where you set these; their
    /// defaults do not apply, and the shortest delay is then 1 ms. A panic of `schedule` or its delays goes to the
    /// [`logger`](Builder::logger), and a delay of `retry_max` follows.
    ///
    /// ```
    /// use std::iter::repeat;
    /// use std::time::Duration;
    ///
    /// use perconn::Conn;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// // Three dials soon after each other, then one in 30 s.
    /// let delays = || [100, 200, 400].map(Duration::from_millis).into_iter().chain(repeat(Duration::from_secs(30)));
    /// let conn = Conn::builder("device.example:502").backoff(delays).build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("schedule", "strategy", "retries_generator", "reconnect_delays", "jitter"))]
    pub fn backoff<I>(self, schedule: impl FnMut() -> I + Send + 'static) -> Self
    where
        I: IntoIterator<Item = Duration>,
        I::IntoIter: Send + 'static,
    {
        self.schedule(Schedule::new(schedule, false))
    }

    /// As [`backoff`](Builder::backoff), without the random part: for tests, and for delays that are random already.
    ///
    /// Clients with the same schedule dial at the same time.
    pub fn exact_backoff<I>(self, schedule: impl FnMut() -> I + Send + 'static) -> Self
    where
        I: IntoIterator<Item = Duration>,
        I::IntoIter: Send + 'static,
    {
        self.schedule(Schedule::new(schedule, true))
    }

    /// Sets the delays of the program.
    fn schedule(mut self, schedule: Schedule) -> Self {
        self.retries.schedule = Some(Box::new(schedule));
        self
    }

    /// Makes the random delays repeatable, for tests: equal seeds give equal delays.
    ///
    /// Defaults to a seed from the operating system. Clients with the same seed redial at the same time.
    pub fn jitter_seed(mut self, seed: u64) -> Self {
        self.retries.jitter_seed = Some(seed);
        self
    }

    /// Sets the delays of a client that has to be back soon after an outage; see [`Jitter::Equal`].
    #[cfg(feature = "postgres")]
    pub(crate) fn equal_jitter(mut self) -> Self {
        self.retries.jitter = Jitter::Equal;
        self
    }
}
