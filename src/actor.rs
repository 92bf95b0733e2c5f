//! The reconnect actor: one task per connection that dials, waits and redials.
//!
//! A connection dials and backs off nowhere else. The [rules] decide what to do, and the [`ConnState`] holds what the
//! handles may know. The actor gives facts to the rules and carries out their actions:
//!
//! ```text
//! handles --Command--> actor --Input--> rules --Action--> actor --> dial, delay, hooks, ConnState
//! ```
//!
//! Whatever the actor waits for, it also waits for commands. So a close takes effect in the middle of a dial, a
//! set-up or a delay. While a link is up, the actor also waits for the peer's close. So it notices a break and
//! redials while nothing reads or writes. Next: [`rules`], then [`Dial`].

use std::future;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::attempt::dial_and_set_up;
pub(crate) use self::delays::{Delays, Schedule};
pub(crate) use self::first_outcome::FirstOutcome;
use self::next_dial::NextDial;
pub(crate) use self::outage_log::OutageLog;
pub(crate) use self::rules::Limits;
use self::rules::{Action, ActorState, Input, Outage, Pace};
pub(crate) use self::telemetry::Telemetry;
pub(crate) use self::verdict::RetryIf;
use crate::conn_state::{Command, ConnState, End};
use crate::dial::{Dial, name_address};
use crate::dial_limit::DialLimit;
use crate::fault::Fault;
use crate::hooks::{Hooks, debug};
use crate::io_error::SharedIoError;
use crate::link::Socket;
use crate::panics::ignore;
use crate::retry::is_fatal;
use crate::{Error, Event, Retry, SocketOptions};

mod attempt;
mod delays;
mod first_outcome;
mod next_dial;
mod outage_log;
mod report;
mod rules;
mod telemetry;
mod turn;
mod verdict;

/// Everything that the task owns.
pub(crate) struct Actor<D: Dial> {
    /// Makes the streams.
    pub(crate) dialer: D,
    /// Shared with other connections; `None`: no limit.
    pub(crate) dial_limit: Option<DialLimit>,
    /// The limit of one dial; `None`: no limit.
    pub(crate) dial_timeout: Option<Duration>,
    /// Socket options to set after each dial. Boxed, as most connections have none.
    pub(crate) options: Option<Box<SocketOptions>>,
    /// The settings of the rules.
    pub(crate) limits: Limits,
    /// Draws the delays between dials.
    pub(crate) delays: Delays,
    /// The program's verdict on failures.
    pub(crate) retry_if: Option<RetryIf>,
    /// Thins out the default log of an outage, once there was a failure. On the heap, as most connections have none.
    pub(crate) outage_log: Option<Box<OutageLog>>,
    /// The spans and metrics of the connection.
    pub(crate) telemetry: Telemetry,
    /// The logger and the event hook of the program.
    pub(crate) hooks: Hooks<Error, Event>,
    /// The state that the actor shares with the handles.
    pub(crate) conn_state: Arc<ConnState<D::Stream>>,
    /// Takes the outcome of the first dials, if a `connect()` waits for it.
    pub(crate) first_outcome: Option<FirstOutcome>,
    /// Records the end of the task. The last field, so that the values of the program are dropped before.
    pub(crate) _end: EndGuard<D::Stream>,
}

/// What happened while the actor waited.
enum ActorEvent<S> {
    /// A handle has sent a command.
    Command(Command),
    /// The dial has made this stream.
    Dialed(S),
    /// The dial has failed with this error.
    DialFailed {
        /// Why.
        error: SharedIoError,
        /// `dial_now` was called during the dial. It counts for the delay that follows.
        is_dial_wanted: bool,
        /// The error is marked as [`fatal`](crate::fatal).
        is_fatal: bool,
    },
    /// The delay before the next dial has passed.
    DelayElapsed,
    /// The actor itself has noticed the break.
    Broken(Arc<Fault>),
}

impl<S> ActorEvent<S> {
    /// The event as the rules see it, after the verdict on it.
    fn input(&self, verdict: Retry) -> Input {
        let is_final = verdict == Retry::Stop;
        match self {
            Self::Command(Command::Redial(fault)) | Self::Broken(fault) => {
                Input::Broken { generation: fault.generation, lived: fault.lived, is_last: fault.is_last, is_final }
            }
            Self::Command(Command::DialNow) => Input::DialNow,
            Self::Command(Command::Close) => Input::Close,
            Self::Dialed(_) => Input::Dialed,
            Self::DialFailed { .. } => Input::DialFailed { is_final },
            Self::DelayElapsed => Input::DelayElapsed,
        }
    }
}

impl<D: Dial> Actor<D> {
    /// The task. However it ends, even by a drop before its first poll, it records the end in the `ConnState`.
    pub(crate) async fn run(mut self) {
        self.drive().await;
    }

    /// The loop: waits for an event, asks the rules, and carries out the action. Returns at the end of the connection.
    ///
    /// The state decides what to wait for. Waiting changes nothing that the handles see; acting does.
    async fn drive(&mut self) {
        let mut state = ActorState::new();
        let mut next_dial = NextDial::default();
        let mut socket = None;
        loop {
            let event = match state {
                ActorState::Dialing(outage) => self.dial(state, outage).await,
                ActorState::BackingOff(_) => self.back_off(state, next_dial.at).await,
                ActorState::Up { generation, .. } => self.watch_link(state, generation, &socket).await,
                ActorState::Ended => return,
            };
            if matches!(event, ActorEvent::Dialed(_) | ActorEvent::DialFailed { .. }) {
                next_dial.dial_ended(); // rule: dial-now-counts-from-the-last-dial
            }
            let failure = self.failure(state, &event);
            if let Some(failure) = &failure {
                self.conn_state.note_failure(failure);
            }
            let verdict = self.verdict(state, &event, failure.as_deref());
            let (next, action) = state.step(event.input(verdict), &self.limits);
            let before = std::mem::replace(&mut state, next);
            match action {
                Action::Continue => {}
                // Without a delay: after a failure, this is the next of the first dials.
                Action::Dial => self.report_failure(event, failure, Some(Duration::ZERO)),
                Action::BackOff(pace) | Action::MoveOn(pace) => {
                    socket = None;
                    // rule: short-link-counts-against-its-address
                    if matches!(action, Action::MoveOn(_)) {
                        self.count_against_address();
                    }
                    if state.attempts() == 1 {
                        self.outage_log = None;
                    }
                    let Some(mut delay) = self.next_delay(pace, verdict) else {
                        (state, _) = state.step(Input::NoDelayLeft, &self.limits);
                        self.give_up(before.attempts(), event, failure);
                        continue;
                    };
                    if matches!(event, ActorEvent::DialFailed { is_dial_wanted: true, .. }) {
                        delay = delay.min(self.delays.shortest()); // rule: dial-now-outlives-the-dial
                    }
                    next_dial.delay(delay);
                    self.report_failure(event, failure, Some(delay));
                }
                Action::ShortenDelay => next_dial.shorten(self.delays.shortest()), // rule: dial-now-keeps-the-backoff
                Action::HandOver { generation } => socket = self.hand_over(before, generation, event),
                Action::GiveUp => self.give_up(before.attempts(), event, failure),
                Action::FailConnect => {
                    self.conn_state.end(End::Closed);
                    self.report_failure(event, failure, None);
                    if let Some(outcome) = self.first_outcome.take() {
                        let is_final = verdict == Retry::Stop;
                        outcome.fail(self.conn_state.address.clone(), before.attempts(), is_final);
                    }
                    self.emit_closed();
                }
                // The end is in the `ConnState` already: the command or the break comes from there.
                Action::Stop => {
                    self.report_failure(event, failure, None);
                    self.emit_closed();
                }
            }
        }
    }

    // ===== waiting =====

    /// Dials once, when it is its turn. A command that changes the state drops the dial.
    async fn dial(&mut self, state: ActorState, outage: Outage) -> ActorEvent<D::Stream> {
        let permit = match self.wait_for_turn(state).await {
            Ok(permit) => permit,
            Err(event) => return event,
        };
        self.conn_state.dial_begins();
        debug(format_args!("dial {} to {}", outage.attempt, self.conn_state.address));
        let dial = dial_and_set_up(&mut self.dialer, self.dial_timeout, self.options.as_deref().copied());
        let dial = Box::pin(self.telemetry.dial(&self.conn_state.address, outage.attempt, dial));
        let mut is_dial_wanted = false;
        let note_wish = |command| is_dial_wanted |= matches!(command, Command::DialNow);
        let event = until_command(&self.conn_state, state, &self.limits, dial, note_wish).await;
        drop(permit);
        let event = event.unwrap_or_else(|outcome| match outcome {
            Ok(stream) => ActorEvent::Dialed(stream),
            Err(error) => {
                let is_fatal = is_fatal(&error);
                let error = name_address(&self.dialer, error);
                self.count_against_address(); // rule: failed-dial-counts-against-its-address
                ActorEvent::DialFailed { error: SharedIoError::new(error), is_dial_wanted, is_fatal }
            }
        });
        self.log_warning();
        event
    }

    /// Logs what the dialer has to say about the last dial.
    fn log_warning(&mut self) {
        let mut warning = None;
        ignore(|| warning = self.dialer.take_warning());
        if let Some(warning) = warning {
            self.log(&Arc::new(warning));
        }
    }

    /// Waits before the next dial. A close ends the delay, and `dial_now` cuts it short.
    async fn back_off(&mut self, state: ActorState, until: Instant) -> ActorEvent<D::Stream> {
        let delay = Box::pin(tokio::time::sleep_until(until));
        let event = until_command(&self.conn_state, state, &self.limits, delay, drop).await;
        event.unwrap_or_else(|()| ActorEvent::DelayElapsed)
    }

    /// Waits for the break of a link.
    ///
    /// Only a socket can be watched for the peer's close. Breaks of other streams are noticed by the handles, whose
    /// command arrives here.
    async fn watch_link(
        &mut self,
        state: ActorState,
        generation: u64,
        socket: &Option<Socket>,
    ) -> ActorEvent<D::Stream> {
        let conn_state = Arc::clone(&self.conn_state);
        let break_seen = async {
            let Some(socket) = socket else { return future::pending().await };
            socket.closed_by_peer().await;
            match conn_state.record_break_by_actor(generation, |is_shut_down| socket.closing_cause(is_shut_down)) {
                Some(fault) => fault,
                // A handle was faster, and its command is in the queue.
                None => future::pending().await,
            }
        };
        let event = until_command(&self.conn_state, state, &self.limits, pin!(break_seen), drop).await;
        event.unwrap_or_else(ActorEvent::Broken)
    }

    // ===== acting =====

    /// Reports to the dialer that its last dial was of no use.
    fn count_against_address(&mut self) {
        // A panic of the program's dialer changes nothing: the dial or link has failed already.
        ignore(|| self.dialer.dial_failed());
    }

    /// Whether and when a dial follows: what the error says, and then what the program says.
    fn verdict(&mut self, state: ActorState, event: &ActorEvent<D::Stream>, failure: Option<&Error>) -> Retry {
        match event {
            ActorEvent::DialFailed { is_fatal: true, .. } => Retry::Stop,
            ActorEvent::Command(Command::Redial(fault)) | ActorEvent::Broken(fault) if fault.is_last => Retry::Backoff,
            _ => failure.map_or(Retry::Backoff, |failure| {
                self.conn_state.actor_runs_hook();
                let verdict = verdict::ask(&mut self.retry_if, &self.hooks, failure, state.attempts());
                self.conn_state.actor_is_back();
                verdict
            }),
        }
    }

    /// Draws the delay before the next dial. After a stable link, the backoff starts over. `None`: there is none.
    fn next_delay(&mut self, pace: Pace, verdict: Retry) -> Option<Duration> {
        let delay = match (verdict, pace) {
            (Retry::After(delay), _) => Ok(Some(self.delays.after(delay))),
            (_, Pace::Jitter) => self.delays.start_over(),
            (_, Pace::Backoff) => self.delays.next(),
        };
        delay.unwrap_or_else(|message| {
            self.log(&Arc::new(Error::HookPanicked { hook: "backoff", message }));
            Some(self.delays.longest())
        })
    }

    /// Emits the event of a new link and gives the link to the handles. Returns its socket, to be watched.
    fn hand_over(&mut self, before: ActorState, generation: u64, event: ActorEvent<D::Stream>) -> Option<Socket> {
        let ActorEvent::Dialed(stream) = event else { return None };
        let attempt = before.attempts();
        self.log_link(generation, attempt);
        self.emit(&match generation {
            1 => Event::Connected { generation, attempt },
            _ => Event::Reconnected { generation, attempt },
        });
        // If the connection was closed meanwhile, that command is in the queue, and the stream is dropped here.
        let socket = self.conn_state.hand_over(generation, stream);
        if let Some(outcome) = self.first_outcome.take() {
            outcome.succeed();
        }
        socket
    }

    /// Ends the connection with this failure. Every operation then returns [`Error::GaveUp`].
    fn give_up(&mut self, attempts: u32, event: ActorEvent<D::Stream>, failure: Option<Arc<Error>>) {
        self.outage_log = None;
        self.report_failure(event, failure.clone(), None);
        let Some(cause) = failure else { return };
        let end = End::GaveUp { attempts };
        // The connection can have been closed while the hooks ran.
        if self.conn_state.end(end) {
            self.log(&Arc::new(self.conn_state.end_error(end)));
            self.emit(&Event::GaveUp { attempts, cause });
        } else {
            self.emit_closed();
        }
    }
}

impl ActorState {
    /// The number of dials since the last stable link, for events and errors.
    fn attempts(self) -> u32 {
        match self {
            Self::Dialing(outage) | Self::BackingOff(outage) | Self::Up { ended: outage, .. } => outage.attempt,
            Self::Ended => 0,
        }
    }
}

/// Waits for `other`, or for the first command that changes something in this state.
///
/// Returns `Ok` for a command and `Err` for the outcome of `other`. Commands that change nothing come late or twice, and
/// go to `ignored`. A command goes first, so that a close wins against a dial that is ready at the same moment.
async fn until_command<S, T, L>(
    conn_state: &ConnState<L>,
    state: ActorState,
    limits: &Limits,
    mut other: impl Future<Output = T> + Unpin,
    mut ignored: impl FnMut(Command),
) -> Result<ActorEvent<S>, T> {
    loop {
        tokio::select! {
            biased;
            command = poll_fn(|cx| conn_state.poll_command(cx)) => {
                let event = ActorEvent::Command(command);
                if state.step(event.input(Retry::Backoff), limits) != (state, Action::Continue) {
                    return Ok(event);
                }
                if let ActorEvent::Command(command) = event {
                    ignored(command);
                }
            }
            outcome = &mut other => return Err(outcome),
        }
    }
}

/// Records the end of the task, however it ends: a runtime that shuts down drops it.
pub(crate) struct EndGuard<S>(Arc<ConnState<S>>);

impl<S> EndGuard<S> {
    /// A guard for the task of this connection.
    pub(crate) fn new(conn_state: &Arc<ConnState<S>>) -> Self {
        Self(Arc::clone(conn_state))
    }
}

impl<S> Drop for EndGuard<S> {
    fn drop(&mut self) {
        if self.0.ended().is_none() {
            self.0.end(End::RuntimeShutdown);
        }
        self.0.actor_ended();
    }
}
