//! The reconnect actor: one task per connection that works the jobs of its handles.
//!
//! It is the only place that spawns, sleeps and dials. What to do is decided by the [rules](state); what the handles
//! may know is in the [`Ledger`]; the actor carries facts to the rules and their actions out into the world:
//!
//! ```text
//! handles --Job--> actor --Input--> rules --Action--> actor --> dial, delay, hooks, ledger
//! ```
//!
//! It waits in one place at a time and always for jobs as well, so that a close is heard in the middle of a dial, a
//! set-up or a delay. While a link is up it also waits for the peer's close, so that a break is noticed, and the
//! redial begun, without anybody reading or writing.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use std::{future, io};

use tokio::net::TcpStream;
use tokio::sync::oneshot;

use self::catch_unwind::CatchUnwind;
pub(crate) use self::state::Limits;
use self::state::{Action, Input, Outage, Pace, State};
use crate::backoff::Backoff;
use crate::dial::Dial;
use crate::fault::{Cause, Fault, SharedIoError};
use crate::hooks::Hooks;
use crate::job::Job;
use crate::ledger::{End, Ledger};
use crate::link::Socket;
use crate::{Error, Event, SocketOptions};

mod catch_unwind;
mod state;

/// The task's belongings.
pub(crate) struct Actor<D: Dial> {
    pub(crate) dialer: D,
    pub(crate) dial_timeout: Option<Duration>,
    /// What is to be set after each dial. (Boxed, as most connections have none.)
    pub(crate) options: Option<Box<SocketOptions>>,
    pub(crate) limits: Limits,
    pub(crate) backoff: Backoff,
    pub(crate) hooks: Hooks,
    pub(crate) ledger: Arc<Ledger<D::Stream>>,
    /// Who waits for the outcome of the first dial, if anyone.
    pub(crate) first_dial: Option<oneshot::Sender<Result<(), Error>>>,
}

/// What happened while the actor waited.
enum Happening<S> {
    Job(Job),
    Dialed(S),
    DialFailed(SharedIoError),
    Rested,
    Broken(Arc<Fault>),
}

impl<S> Happening<S> {
    fn input(&self) -> Input {
        match self {
            Self::Job(Job::Redial(fault)) | Self::Broken(fault) => {
                Input::Broken { generation: fault.generation, lived: fault.lived, is_last: fault.is_last }
            }
            Self::Job(Job::Reconnect) => Input::Reconnect,
            Self::Job(Job::Close) => Input::Close,
            Self::Dialed(_) => Input::Dialed,
            Self::DialFailed(_) => Input::DialFailed,
            Self::Rested => Input::Rested,
        }
    }
}

impl<D: Dial> Actor<D> {
    /// The task. Whatever becomes of it, even if it is dropped before it ever runs, the end is in the ledger.
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        let end = EndGuard(Arc::clone(&self.ledger));
        async move {
            let _end = end;
            self.work().await;
        }
    }

    async fn work(&mut self) {
        let mut state = State::new();
        let mut delay = Duration::ZERO;
        let mut socket = None;
        loop {
            let happening = match state {
                State::Dialing(outage) => self.dial(state, outage).await,
                State::Resting(_) => self.rest(state, delay).await,
                State::Up { generation, .. } => self.watch(state, generation, &socket).await,
                State::Over => return,
            };
            let (next, action) = state.step(happening.input(), &self.limits);
            let before = std::mem::replace(&mut state, next);
            // A handle may have entered something and left it to this task to show it.
            self.ledger.publish();
            match action {
                Action::Continue | Action::Dial => {}
                Action::Rest(pace) => {
                    socket = None;
                    delay = self.next_delay(pace);
                    self.tell(before, happening, Some(delay));
                }
                Action::HandOver { generation } => socket = self.hand_over(before, generation, happening),
                Action::GiveUp => {
                    self.tell(before, happening, None);
                    self.give_up(before.attempts());
                }
                Action::Fail => {
                    self.ledger.end(End::Closed);
                    self.tell(before, happening, None);
                    self.event(&Event::Closed);
                }
                // The end is in the ledger already: that is how the actor came to know.
                Action::Stop => {
                    self.tell(before, happening, None);
                    self.event(&Event::Closed);
                }
            }
            self.ledger.publish();
        }
    }

    // ===== waiting =====

    /// One dial.
    async fn dial(&mut self, state: State, outage: Outage) -> Happening<D::Stream> {
        log::debug!(target: "perconn", "dial {} to {}", outage.attempt, self.ledger.address);
        let dial = whole_dial(&mut self.dialer, self.dial_timeout, self.options.as_deref().copied());
        let happening = until_job(&self.ledger, state, &self.limits, dial).await;
        happening.unwrap_or_else(|outcome| match outcome {
            Ok(stream) => Happening::Dialed(stream),
            Err(error) => {
                tell_of_failure(&mut self.dialer);
                Happening::DialFailed(SharedIoError::new(error))
            }
        })
    }

    /// The delay before the next dial.
    async fn rest(&mut self, state: State, delay: Duration) -> Happening<D::Stream> {
        let happening = until_job(&self.ledger, state, &self.limits, sleep(delay)).await;
        happening.unwrap_or_else(|()| Happening::Rested)
    }

    /// The life of a link.
    async fn watch(&mut self, state: State, generation: u64, socket: &Option<Socket>) -> Happening<D::Stream> {
        let ledger = Arc::clone(&self.ledger);
        let break_seen = async {
            let Some(socket) = socket else { return future::pending().await };
            socket.closed_by_peer().await;
            match ledger.report_seen(generation, || socket.closing_cause()) {
                Some(fault) => fault,
                // A handle was faster, and its job is in the queue.
                None => future::pending().await,
            }
        };
        let happening = until_job(&self.ledger, state, &self.limits, pin!(break_seen)).await;
        happening.unwrap_or_else(Happening::Broken)
    }

    // ===== acting =====

    fn next_delay(&mut self, pace: Pace) -> Duration {
        match pace {
            Pace::Prompt => {
                self.backoff.reset();
                self.backoff.prompt()
            }
            Pace::Backoff => self.backoff.next().unwrap_or_default(),
        }
    }

    /// Announces a link and gives it to the handles. Returns what there is to watch.
    fn hand_over(&mut self, before: State, generation: u64, happening: Happening<D::Stream>) -> Option<Socket> {
        let Happening::Dialed(stream) = happening else { return None };
        let attempt = before.attempts();
        self.event(&match generation {
            1 => Event::Connected { generation, attempt },
            _ => Event::Reconnected { generation, attempt },
        });
        // If it was closed meanwhile, the job that says so is in the queue, and the stream is dropped here.
        let socket = self.ledger.hand_over(generation, stream).unwrap_or(None);
        self.ledger.publish();
        if let Some(waiting) = self.first_dial.take() {
            let _ = waiting.send(Ok(()));
        }
        socket
    }

    fn give_up(&self, attempts: u32) {
        let end = End::GaveUp { attempts };
        // It may have been closed while the last failure was told.
        if self.ledger.end(end) {
            self.ledger.publish();
            self.log(&self.ledger.end_error(end));
            self.event(&Event::GaveUp { attempts });
        } else {
            self.event(&Event::Closed);
        }
    }

    /// Tells the logger and the event hook of a break or a failed dial.
    fn tell(&mut self, before: State, happening: Happening<D::Stream>, retry_in: Option<Duration>) {
        let address = &self.ledger.address;
        match happening {
            Happening::DialFailed(source) => {
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
            Happening::Job(Job::Redial(fault)) | Happening::Broken(fault)
                if fault.is_last && matches!(fault.cause, Cause::PeerClosed) => {}
            Happening::Job(Job::Redial(fault)) | Happening::Broken(fault) => {
                let cause = Arc::new(fault.error(fault.op, address));
                self.log(&cause);
                self.event(&Event::Disconnected {
                    generation: fault.generation,
                    cause,
                    lived: fault.lived,
                    bytes_read: fault.meter.read(),
                    bytes_written: fault.meter.written(),
                    retry_in,
                });
            }
            Happening::Job(_) | Happening::Dialed(_) | Happening::Rested => {}
        }
    }

    fn log(&self, error: &Error) {
        self.away(|| self.hooks.log(error));
    }

    fn event(&self, event: &Event) {
        self.away(|| self.hooks.event(event));
    }

    /// Calls the program's code. A close that waits for the actor need not wait for that.
    fn away(&self, call: impl FnOnce()) {
        self.ledger.set_actor_away(true);
        call();
        self.ledger.set_actor_away(false);
    }
}

impl State {
    /// Dials since the last stable link.
    fn attempts(self) -> u32 {
        match self {
            Self::Dialing(outage) | Self::Resting(outage) | Self::Up { ended: outage, .. } => outage.attempt,
            Self::Over => 0,
        }
    }
}

/// Waits for `event`, or for the first job that makes a difference in this state.
async fn until_job<S, T, L>(
    ledger: &Ledger<L>,
    state: State,
    limits: &Limits,
    mut event: impl Future<Output = T> + Unpin,
) -> Result<Happening<S>, T> {
    loop {
        tokio::select! {
            biased;
            job = poll_fn(|cx| ledger.poll_job(cx)) => {
                let happening = Happening::Job(job);
                if state.step(happening.input(), limits) != (state, Action::Continue) {
                    return Ok(happening);
                }
            }
            outcome = &mut event => return Err(outcome),
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
    let _ = catch_unwind(AssertUnwindSafe(|| dialer.dial_failed()));
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
struct EndGuard<S>(Arc<Ledger<S>>);

impl<S> Drop for EndGuard<S> {
    fn drop(&mut self) {
        if self.0.ended().is_none() {
            self.0.end(End::RuntimeShutdown);
        }
        self.0.publish();
        self.0.set_actor_away(true);
    }
}
