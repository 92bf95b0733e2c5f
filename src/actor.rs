//! The reconnect actor: one task per connection that works the jobs of its handles.
//!
//! It is the only place that spawns, sleeps and dials. What to do is decided by the [rules]; what the handles
//! may know is in the [`ConnState`]; the actor carries facts to the rules and their actions out into the world:
//!
//! ```text
//! handles --Command--> actor --Input--> rules --Action--> actor --> dial, delay, hooks, conn_state
//! ```
//!
//! It waits in one place at a time and always for jobs as well, so that a close is heard in the middle of a dial, a
//! set-up or a delay. While a link is up it also waits for the peer's close, so that a break is noticed, and the
//! redial begun, without anybody reading or writing.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use std::{future, io};

use tokio::net::TcpStream;
use tokio::sync::oneshot;

use self::catch_unwind::CatchUnwind;
pub(crate) use self::rules::Limits;
use self::rules::{Action, ActorState, Input, Outage, Pace};
use crate::backoff::Backoff;
use crate::conn_state::{Command, ConnState, End};
use crate::dial::Dial;
use crate::fault::{Cause, Fault};
use crate::hooks::Hooks;
use crate::io_error::SharedIoError;
use crate::link::Socket;
use crate::panics::ignore;
use crate::{Error, Event, SocketOptions};

mod catch_unwind;
mod rules;

/// The task's belongings.
pub(crate) struct Actor<D: Dial> {
    pub(crate) dialer: D,
    pub(crate) dial_timeout: Option<Duration>,
    /// What is to be set after each dial. (Boxed, as most connections have none.)
    pub(crate) options: Option<Box<SocketOptions>>,
    pub(crate) limits: Limits,
    pub(crate) backoff: Backoff,
    pub(crate) hooks: Hooks<Error, Event>,
    pub(crate) conn_state: Arc<ConnState<D::Stream>>,
    /// Who waits for the outcome of the first dial, if anyone.
    pub(crate) first_dial: Option<oneshot::Sender<Result<(), Error>>>,
}

/// What happened while the actor waited.
enum ActorEvent<S> {
    Command(Command),
    Dialed(S),
    DialFailed(SharedIoError),
    Rested,
    Broken(Arc<Fault>),
}

impl<S> ActorEvent<S> {
    fn input(&self) -> Input {
        match self {
            Self::Command(Command::Redial(fault)) | Self::Broken(fault) => {
                Input::Broken { generation: fault.generation, lived: fault.lived, is_last: fault.is_last }
            }
            Self::Command(Command::Reconnect) => Input::Reconnect,
            Self::Command(Command::Close) => Input::Close,
            Self::Dialed(_) => Input::Dialed,
            Self::DialFailed(_) => Input::DialFailed,
            Self::Rested => Input::Rested,
        }
    }
}

impl<D: Dial> Actor<D> {
    /// The task. Whatever becomes of it, even if it is dropped before it ever runs, the end is in the conn_state.
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        let end = EndGuard(Arc::clone(&self.conn_state));
        async move {
            let _end = end;
            self.work().await;
        }
    }

    async fn work(&mut self) {
        let mut state = ActorState::new();
        let mut delay = Duration::ZERO;
        let mut socket = None;
        loop {
            let event = match state {
                ActorState::Dialing(outage) => self.dial(state, outage).await,
                ActorState::Resting(_) => self.rest(state, delay).await,
                ActorState::Up { generation, .. } => self.watch(state, generation, &socket).await,
                ActorState::Over => return,
            };
            let (next, action) = state.step(event.input(), &self.limits);
            let before = std::mem::replace(&mut state, next);
            // A handle may have entered something and left it to this task to show it.
            self.conn_state.publish();
            match action {
                Action::Continue | Action::Dial => {}
                Action::Rest(pace) => {
                    socket = None;
                    delay = self.next_delay(pace);
                    self.tell(before, event, Some(delay));
                }
                Action::HandOver { generation } => socket = self.hand_over(before, generation, event),
                Action::GiveUp => {
                    self.tell(before, event, None);
                    self.give_up(before.attempts());
                }
                Action::Fail => {
                    self.conn_state.end(End::Closed);
                    self.tell(before, event, None);
                    self.event(&Event::Closed);
                }
                // The end is in the conn_state already: that is how the actor came to know.
                Action::Stop => {
                    self.tell(before, event, None);
                    self.event(&Event::Closed);
                }
            }
            self.conn_state.publish();
        }
    }

    // ===== waiting =====

    /// One dial.
    async fn dial(&mut self, state: ActorState, outage: Outage) -> ActorEvent<D::Stream> {
        log::debug!(target: "perconn", "dial {} to {}", outage.attempt, self.conn_state.address);
        let dial = whole_dial(&mut self.dialer, self.dial_timeout, self.options.as_deref().copied());
        let event = until_job(&self.conn_state, state, &self.limits, dial).await;
        event.unwrap_or_else(|outcome| match outcome {
            Ok(stream) => ActorEvent::Dialed(stream),
            Err(error) => {
                tell_of_failure(&mut self.dialer);
                ActorEvent::DialFailed(SharedIoError::new(error))
            }
        })
    }

    /// The delay before the next dial.
    async fn rest(&mut self, state: ActorState, delay: Duration) -> ActorEvent<D::Stream> {
        let event = until_job(&self.conn_state, state, &self.limits, sleep(delay)).await;
        event.unwrap_or_else(|()| ActorEvent::Rested)
    }

    /// The life of a link.
    async fn watch(&mut self, state: ActorState, generation: u64, socket: &Option<Socket>) -> ActorEvent<D::Stream> {
        let conn_state = Arc::clone(&self.conn_state);
        let break_seen = async {
            let Some(socket) = socket else { return future::pending().await };
            socket.closed_by_peer().await;
            match conn_state.record_break_by_actor(generation, || socket.closing_cause()) {
                Some(fault) => fault,
                // A handle was faster, and its job is in the queue.
                None => future::pending().await,
            }
        };
        let event = until_job(&self.conn_state, state, &self.limits, pin!(break_seen)).await;
        event.unwrap_or_else(ActorEvent::Broken)
    }

    // ===== acting =====

    fn next_delay(&mut self, pace: Pace) -> Duration {
        match pace {
            Pace::Jitter => {
                self.backoff.reset();
                self.backoff.jitter()
            }
            Pace::Backoff => self.backoff.next().unwrap_or_default(),
        }
    }

    /// Announces a link and gives it to the handles. Returns what there is to watch.
    fn hand_over(&mut self, before: ActorState, generation: u64, event: ActorEvent<D::Stream>) -> Option<Socket> {
        let ActorEvent::Dialed(stream) = event else { return None };
        let attempt = before.attempts();
        self.event(&match generation {
            1 => Event::Connected { generation, attempt },
            _ => Event::Reconnected { generation, attempt },
        });
        // If it was closed meanwhile, the job that says so is in the queue, and the stream is dropped here.
        let socket = self.conn_state.hand_over(generation, stream).unwrap_or(None);
        self.conn_state.publish();
        if let Some(waiting) = self.first_dial.take() {
            let _ = waiting.send(Ok(()));
        }
        socket
    }

    fn give_up(&self, attempts: u32) {
        let end = End::GaveUp { attempts };
        // It may have been closed while the last failure was told.
        if self.conn_state.end(end) {
            self.conn_state.publish();
            self.log(&self.conn_state.end_error(end));
            self.event(&Event::GaveUp { attempts });
        } else {
            self.event(&Event::Closed);
        }
    }

    /// Tells the logger and the event hook of a break or a failed dial.
    fn tell(&mut self, before: ActorState, event: ActorEvent<D::Stream>, retry_in: Option<Duration>) {
        let address = &self.conn_state.address;
        match event {
            ActorEvent::DialFailed(source) => {
                let attempt = before.attempts();
                let error = || Error::DialFailure { address: address.clone(), attempt, source: source.to_io() };
                let cause = Arc::new(error());
                self.log(&cause);
                self.event(&Event::DialFailed { attempt, cause, retry_in });
                if let Some(waiting) = self.first_dial.take() {
                    let _ = waiting.send(Err(error()));
                }
            }
            // The end of the last link is what the program waits for, if it comes in good order.
            ActorEvent::Command(Command::Redial(fault)) | ActorEvent::Broken(fault)
                if fault.is_last && matches!(fault.cause, Cause::PeerClosed) => {}
            ActorEvent::Command(Command::Redial(fault)) | ActorEvent::Broken(fault) => {
                let cause = Arc::new(fault.error(fault.op, address));
                self.log(&cause);
                self.event(&Event::Disconnected {
                    generation: fault.generation,
                    cause,
                    lived: fault.lived,
                    bytes_read: fault.byte_count.read(),
                    bytes_written: fault.byte_count.written(),
                    retry_in,
                });
            }
            ActorEvent::Command(_) | ActorEvent::Dialed(_) | ActorEvent::Rested => {}
        }
    }

    fn log(&self, error: &Error) {
        self.away(|| self.hooks.log(error));
    }

    fn event(&self, event: &Event) {
        self.away(|| self.hooks.emit(|| event));
    }

    /// Calls the program's code. A close that waits for the actor need not wait for that.
    fn away(&self, call: impl FnOnce()) {
        self.conn_state.set_actor_away(true);
        call();
        self.conn_state.set_actor_away(false);
    }
}

impl ActorState {
    /// Dials since the last stable link.
    fn attempts(self) -> u32 {
        match self {
            Self::Dialing(outage) | Self::Resting(outage) | Self::Up { ended: outage, .. } => outage.attempt,
            Self::Over => 0,
        }
    }
}

/// Waits for `other`, or for the first job that makes a difference in this state.
async fn until_job<S, T, L>(
    conn_state: &ConnState<L>,
    state: ActorState,
    limits: &Limits,
    mut other: impl Future<Output = T> + Unpin,
) -> Result<ActorEvent<S>, T> {
    loop {
        tokio::select! {
            biased;
            job = poll_fn(|cx| conn_state.poll_command(cx)) => {
                let event = ActorEvent::Command(job);
                if state.step(event.input(), limits) != (state, Action::Continue) {
                    return Ok(event);
                }
            }
            outcome = &mut other => return Err(outcome),
        }
    }
}

/// A dial with its set-up and socket options, within the dial timeout.
///
/// On the heap, like the [`sleep`]: an idle connection does not keep the room that a dial or a timer needs.
fn whole_dial<D: Dial>(
    dialer: &mut D,
    limit: Option<Duration>,
    options: Option<SocketOptions>,
) -> Pin<Box<impl Future<Output = io::Result<D::Stream>> + Send>> {
    let dial = CatchUnwind::new(async move { dialer.dial().await });
    Box::pin(async move {
        let stream = match limit {
            Some(limit) => tokio::time::timeout(limit, dial).await.unwrap_or_else(|_| {
                let text = format!("the dial took longer than {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }),
            None => dial.await,
        };
        stream.and_then(|stream| set_options(stream, options))
    })
}

/// A panic of the program's dialer is nobody's concern here: the dial has failed already.
fn tell_of_failure(dialer: &mut impl Dial) {
    ignore(|| dialer.dial_failed());
}

fn sleep(delay: Duration) -> Pin<Box<tokio::time::Sleep>> {
    Box::pin(tokio::time::sleep(delay))
}

/// Sets the options that the dialer has not taken. The builder has seen to it that the stream is a `TcpStream` if there
/// are any.
fn set_options<S: 'static>(stream: S, options: Option<SocketOptions>) -> io::Result<S> {
    let tcp = (&stream as &dyn std::any::Any).downcast_ref::<TcpStream>();
    if let (Some(options), Some(tcp)) = (options, tcp) {
        options.apply(tcp)?;
    }
    Ok(stream)
}

/// Enters the end when the task ends, however it ends: the runtime drops it when it shuts down.
struct EndGuard<S>(Arc<ConnState<S>>);

impl<S> Drop for EndGuard<S> {
    fn drop(&mut self) {
        if self.0.ended().is_none() {
            self.0.end(End::RuntimeShutdown);
        }
        self.0.publish();
        self.0.set_actor_away(true);
    }
}
