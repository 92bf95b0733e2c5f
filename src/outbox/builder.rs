//! The settings of an outbox, their checks, and its start.
//!
//! Next: `task.rs`, which is spawned here.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_util::codec::Encoder;

use super::hooks::Hooks;
use super::protocol::{Framing, Protocol};
use super::shared::Shared;
use super::store::{Keep, Rules};
use super::task::Task;
use super::{Event, Outbox, Resend, WhenFull};
#[cfg(doc)]
use super::{Fate, SendError};
use crate::link::{COUNTS_UNACKNOWLEDGED, Socket, is_type};
use crate::{Builder, Dial, Error, Sessions, SocketOptions, TcpDialer, WhenDown};

/// The settings of an [`Outbox`]; made by [`Outbox::builder`].
///
/// ```
/// use std::time::Duration;
/// use perconn::Conn;
/// use perconn::outbox::{Outbox, Resend, WhenFull};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), perconn::Error> {
/// let outbox = Outbox::builder(Conn::builder("logs.example:20514"))
///     .capacity(10_000)
///     .when_full(WhenFull::DropOldest)
///     .expire_after(Duration::from_secs(600))
///     .resend(Resend::Interrupted)
///     .on_event(|event| eprintln!("{event}"))
///     .start()?;
/// # drop(outbox);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing by itself, use `.start()`"]
#[doc(alias("options", "config", "settings"))]
pub struct OutboxBuilder<D = TcpDialer> {
    /// Makes the connection that the outbox owns.
    conn: Builder<D>,
    /// How many messages may be queued. Defaults to 100,000.
    capacity: usize,
    /// How many bytes they may have together. Defaults to 64 MiB.
    capacity_bytes: usize,
    /// How long one message may be. Defaults to 1 MiB.
    max_message: usize,
    /// What a send does without room.
    when_full: WhenFull,
    /// How old a message may be when it is sent. Defaults to `None`: no limit.
    expire_after: Option<Duration>,
    /// The rate of a backlog, in messages a second. Defaults to `None`: no limit.
    catch_up_rate: Option<u32>,
    /// What is sent again. `None` until it is set: as the protocol has answers or not.
    resend: Option<Resend>,
    /// How many messages may be unanswered. Defaults to 1,024.
    window: usize,
    /// How long a message may be unanswered. Defaults to 30 s; `None`: no limit.
    answer_timeout: Option<Duration>,
    /// How long the outbox sends on when its last handle was dropped. Defaults to 5 s.
    close_timeout: Duration,
    /// The number of the first message. Defaults to 1.
    first_number: u64,
    /// How messages become bytes.
    protocol: Option<Box<dyn Protocol>>,
    /// The event hook.
    hooks: Hooks,
}

/// The largest capacity, in messages or bytes: a larger number is a slip.
const LARGEST: usize = u32::MAX as usize;

/// The longest message: where it ends in its chunk has 31 bits.
const LONGEST: usize = i32::MAX as usize;

/// How many bytes the kernel may have that it cannot send yet, where no answers are asked for: about one batch.
const UNSENT_BYTES: usize = 64 * 1024;

/// The largest window. An answer out of order costs a search and a move within the window.
const LARGEST_WINDOW: usize = 1 << 20;

impl<D> OutboxBuilder<D> {
    /// The defaults, which the docs of each setting name.
    pub(super) fn new(conn: Builder<D>) -> Self {
        Self {
            conn,
            capacity: 100_000,
            capacity_bytes: 64 << 20,
            max_message: 1 << 20,
            when_full: WhenFull::default(),
            expire_after: None,
            catch_up_rate: None,
            resend: None,
            window: 1024,
            answer_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(5),
            first_number: 1,
            protocol: None,
            hooks: Hooks::default(),
        }
    }

    /// How many messages the outbox keeps.
    ///
    /// Defaults to 100,000; from 1 to 2^32 - 1. What waits for an answer counts, as it may have to be sent again. What the
    /// kernel has taken and is not sent again does not count.
    #[doc(alias("queue_size", "buffer_size", "limit"))]
    pub fn capacity(mut self, messages: usize) -> Self {
        self.capacity = messages;
        self
    }

    /// How many bytes the messages that the outbox keeps may have together.
    ///
    /// Defaults to 64 MiB; at least [`max_message`](Self::max_message), at most 2^32 - 1. Counted like
    /// [`capacity`](Self::capacity), and without what the queue needs for itself: four bytes a message. Where answers come out of
    /// order, that is four bytes for each message from the oldest without an answer on, and up to four times the bytes of those.
    #[doc(alias("memory", "buffer_size", "limit"))]
    pub fn capacity_bytes(mut self, bytes: usize) -> Self {
        self.capacity_bytes = bytes;
        self
    }

    /// How long one message may be, in bytes.
    ///
    /// Defaults to 1 MiB; from 1 to 2^31 - 1. A longer one is a [`SendError::TooLong`].
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// What a send does when the outbox is full.
    ///
    /// Defaults to [`WhenFull::Wait`].
    #[doc(alias("overflow", "backpressure", "drop"))]
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.when_full = policy;
        self
    }

    /// How old a message may get before it is sent.
    ///
    /// Defaults to `None`: no limit. Zero is not valid. The age counts from the acceptance, to about a millisecond. A
    /// message that is on its way does not expire. One that a break has brought back does, and is then
    /// [in doubt](Fate::InDoubt) if it had been handed over whole before.
    #[doc(alias("ttl", "max_age", "time_to_live"))]
    pub fn expire_after(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.expire_after = age.into();
        self
    }

    /// How many messages a second the backlog of an outage is sent with, so that a returning server is not flooded.
    ///
    /// Defaults to `None`: as fast as the link takes them. Zero is not valid. When a link comes up and messages wait,
    /// those go out at most at this rate, and each message that is accepted meanwhile adds one to it: the backlog
    /// shrinks at this rate, whatever is added. Once the queue is empty, nothing is limited until the next outage. It holds
    /// for the first link and for [`close`](Outbox::close), too: what the rate does not let out in time is unsent.
    #[doc(alias("rate_limit", "throttle", "pace"))]
    pub fn catch_up_rate(mut self, messages_per_second: impl Into<Option<u32>>) -> Self {
        self.catch_up_rate = messages_per_second.into();
        self
    }

    /// What is sent again after a break.
    ///
    /// Defaults to [`Resend::Interrupted`]; with a [`protocol`](Self::protocol) that has answers, to what it has not
    /// answered. Then no other policy is valid.
    #[doc(alias("at_least_once", "acknowledgement", "delivery", "qos", "retry"))]
    pub fn resend(mut self, policy: Resend) -> Self {
        self.resend = Some(policy);
        self
    }

    /// How many messages may wait for an answer at once, with [`Resend::Unanswered`].
    ///
    /// Defaults to 1,024; from 1 to 2^20. This is also how many messages can arrive twice for one break. Without answers it
    /// has no effect.
    #[doc(alias("in_flight", "pipeline"))]
    pub fn window(mut self, messages: usize) -> Self {
        self.window = messages;
        self
    }

    /// How long a message may wait for its answer, with [`Resend::Unanswered`].
    ///
    /// Defaults to 30 seconds. `None`: no limit. Zero is not valid. The time counts from the moment at which the kernel has
    /// taken the whole message. If it passes, the link is broken, with an error of the kind
    /// [`TimedOut`](std::io::ErrorKind::TimedOut) for the connection's logger, and what is unanswered goes again on the next one.
    #[doc(alias("ack_timeout"))]
    pub fn answer_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.answer_timeout = limit.into();
        self
    }

    /// How long the outbox sends on after its last handle was dropped, as by a [`close`](Outbox::close) with this limit.
    ///
    /// Defaults to 5 seconds. It does so in the background, while the runtime lives.
    pub fn close_timeout(mut self, limit: Duration) -> Self {
        self.close_timeout = limit;
        self
    }

    /// The number of the first message; the others follow one by one.
    ///
    /// Defaults to 1; from 1 to 2^63. For a program that continues where an earlier run of it has ended.
    pub fn first_number(mut self, number: u64) -> Self {
        self.first_number = number;
        self
    }

    /// Speaks a protocol of its own with the peer, instead of sending the bytes of each message as they are.
    pub fn protocol(mut self, protocol: impl Protocol) -> Self {
        self.protocol = Some(Box::new(protocol));
        self
    }

    /// Frames each message with an encoder of tokio-util, a new one for each link.
    ///
    /// The encoder takes [`Bytes`], as
    /// [`LengthDelimitedCodec`](tokio_util::codec::LengthDelimitedCodec) does. Items of another type: encode them before
    /// [`send`](Outbox::send).
    ///
    /// ```
    /// use perconn::Conn;
    /// use perconn::codec::tokio_util::codec::LengthDelimitedCodec;
    /// use perconn::outbox::Outbox;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let outbox = Outbox::builder(Conn::builder("frames.example:4000")).framing(LengthDelimitedCodec::new).start()?;
    /// # drop(outbox);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("codec", "encoder"))]
    pub fn framing<E>(self, encoder: impl FnMut() -> E + Send + 'static) -> Self
    where
        E: Encoder<Bytes> + Send + 'static,
        E::Error: fmt::Display,
    {
        self.protocol(Framing::new(encoder))
    }

    /// Calls `hook` for each [`Event`], in order.
    ///
    /// Defaults to none: then a warning through the [`log`] crate says what was lost or rejected. The hook runs on the
    /// outbox's task, on a thread of the runtime: it must not block. A panic of the hook is caught and logged.
    #[doc(alias("callback", "metrics"))]
    pub fn on_event(mut self, hook: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.hooks.on_event = Some(Box::new(hook));
        self
    }
}

#[cfg(feature = "blocking")]
impl<D> OutboxBuilder<D> {
    /// Replaces the hooks of the connection and of the outbox by those made from them.
    pub(super) fn map_hooks(
        mut self,
        of_conn: impl FnOnce(crate::hooks::Hooks<Error, crate::Event>) -> crate::hooks::Hooks<Error, crate::Event>,
        of_outbox: impl FnOnce(crate::hooks::Hook<Event>) -> crate::hooks::Hook<Event>,
    ) -> Self {
        self.conn = self.conn.map_hooks(of_conn);
        self.hooks.on_event = self.hooks.on_event.map(of_outbox);
        self
    }
}

impl<D: Dial> OutboxBuilder<D> {
    /// Checks the settings and returns at once. The connection is dialed in the background.
    ///
    /// Whatever [`when_down`](Builder::when_down) the connection's builder has, the outbox waits for a link. Its sockets have
    /// `TCP_NODELAY` unless the builder sets [`nodelay`](Builder::nodelay): an outbox gathers messages itself, and without the
    /// option the last part of a batch can wait 40 ms for the acknowledgement of the others.
    ///
    /// Without answers, on Linux and Android, the kernel takes at most 64 KiB that it cannot send yet, and up to 64 KiB more in one
    /// piece. Otherwise it would take megabytes, which a break puts in doubt. What is on its way through the network does not count,
    /// so that a long fast link is not slowed. Another [`notsent_lowat`](SocketOptions::notsent_lowat) or
    /// [`send_buffer_size`](SocketOptions::send_buffer_size) of the connection's builder replaces this limit.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if a setting is invalid, or outside of a tokio runtime.
    pub fn start(mut self) -> Result<Outbox, Error> {
        let rules = self.check()?;
        let (answers, has_answers) = match self.resend.take() {
            Some(Resend::Unanswered(answers)) => (Some(answers), true),
            _ => (None, self.protocol_has_answers()),
        };
        debug_assert_eq!(has_answers, rules.keep == Keep::Unanswered);
        let options = SocketOptions::new().nodelay(true);
        let options = if has_answers { options } else { options.notsent_lowat(UNSENT_BYTES) };
        let conn = self.conn.when_down(WhenDown::Wait).prefer(options).build()?;
        let (status, conn_stats) = (conn.watch_status(), conn.watch_stats());
        let shared = Shared::new(rules, self.max_message);
        Task {
            sessions: Sessions::new(conn),
            protocol: self.protocol,
            answers,
            has_answers,
            hooks: self.hooks,
            is_socket: Socket::is_socket::<D::Stream>(),
            shared: shared.clone(),
        }
        .spawn();
        Ok(Outbox::new(shared, status, conn_stats, self.close_timeout))
    }

    /// Checks every setting but those of the connection. The error names the value and what was expected.
    fn check(&self) -> Result<Rules, Error> {
        let invalid = |text: String| Err(Error::InvalidConfig(text));
        let within = |name: &str, value: usize, least: usize, most: usize| {
            let is_valid = (least..=most).contains(&value);
            is_valid
                .then_some(())
                .ok_or_else(|| Error::InvalidConfig(format!("{name} {value}: expected {least} to {most}")))
        };
        within("capacity", self.capacity, 1, LARGEST)?;
        within("max_message", self.max_message, 1, LONGEST)?;
        within("capacity_bytes", self.capacity_bytes, self.max_message, LARGEST)?;
        within("window", self.window, 1, LARGEST_WINDOW)?;
        if self.expire_after == Some(Duration::ZERO) {
            return invalid("expire_after 0ns: expected more than zero, or None for no limit".into());
        }
        if self.answer_timeout == Some(Duration::ZERO) {
            return invalid("answer_timeout 0ns: expected more than zero, or None for no limit".into());
        }
        if self.catch_up_rate == Some(0) {
            return invalid("catch_up_rate 0: expected at least 1, or None for no limit".into());
        }
        if !(1..=1 << 63).contains(&self.first_number) {
            return invalid(format!("first_number {}: expected 1 to 2^63", self.first_number));
        }
        Ok(Rules {
            capacity: self.capacity,
            capacity_bytes: self.capacity_bytes,
            when_full: self.when_full,
            expire_after: self.expire_after,
            catch_up_rate: self.catch_up_rate,
            keep: self.keep()?,
            window: self.window,
            answer_timeout: self.answer_timeout,
            first_number: self.first_number,
        })
    }

    /// Whether the program's protocol has answers.
    fn protocol_has_answers(&self) -> bool {
        self.protocol.as_ref().is_some_and(|protocol| protocol.has_answers())
    }

    /// What is kept for another sending.
    fn keep(&self) -> Result<Keep, Error> {
        let keep = match &self.resend {
            None if self.protocol_has_answers() => return Ok(Keep::Unanswered),
            None | Some(Resend::Interrupted) => Keep::Interrupted,
            Some(Resend::Never) => Keep::Never,
            Some(Resend::Unacknowledged) => Keep::Unacknowledged,
            Some(Resend::Unanswered(_)) => Keep::Unanswered,
        };
        if self.protocol_has_answers() {
            return Err(Error::InvalidConfig("resend: the protocol has answers, so expected no other policy".into()));
        }
        if keep == Keep::Unacknowledged && !(COUNTS_UNACKNOWLEDGED && is_type::<D::Stream, TcpStream>()) {
            return Err(Error::InvalidConfig(format!(
                "resend Unacknowledged: expected a TcpStream on Linux (x86, ARM, riscv64 or s390x), where the kernel tells \
                 what is unacknowledged, but the stream is {} on {} ({})",
                std::any::type_name::<D::Stream>(),
                std::env::consts::OS,
                std::env::consts::ARCH,
            )));
        }
        Ok(keep)
    }
}

impl<D> fmt::Debug for OutboxBuilder<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxBuilder")
            .field("conn", &self.conn)
            .field("capacity", &self.capacity)
            .field("capacity_bytes", &self.capacity_bytes)
            .field("max_message", &self.max_message)
            .field("when_full", &self.when_full)
            .field("expire_after", &self.expire_after)
            .field("catch_up_rate", &self.catch_up_rate)
            .field("resend", &self.resend)
            .field("window", &self.window)
            .field("answer_timeout", &self.answer_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("first_number", &self.first_number)
            .finish_non_exhaustive()
    }
}
