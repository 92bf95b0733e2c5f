//! The one thread on which the actors of all blocking connections run.
//!
//! It starts with the first connection and ends with the last. A thread for each connection would cost a stack and
//! three descriptors each. In return, a dialer that blocks would hold up only its own connection.
//!
//! Next: [`wait`](super::wait), where the threads that call wait for what happens here, and
//! [`hook_thread`](super::hook_thread), where the hooks run.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use crate::per_process::PerProcess;
use crate::sync::Mutex;

/// The thread that runs at the moment, if any. A fork has none.
static CURRENT: PerProcess<Mutex<Option<Background>>> = PerProcess::new(|| Mutex::new(None));

/// The running thread and how many connections need it.
struct Background {
    /// The runtime of the thread, cloned for each connection.
    runtime: Handle,
    /// The number of [`BackgroundRef`]s, and of the last futures that still run.
    refs: usize,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
}

thread_local! {
    /// True on the background thread itself.
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// What a connection leaves to the thread when it is dropped.
type LastFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's reference to the thread, which lives as long as there is one.
pub(crate) struct BackgroundRef {
    /// Usable as long as this reference exists: the thread does not end before. Not in a fork.
    runtime: Handle,
    /// The process of the thread.
    process: u32,
    /// The mutex only makes the field `Sync`.
    last_future: Mutex<Option<LastFuture>>,
}

impl BackgroundRef {
    /// Takes a reference to the thread, and starts the thread if it does not run.
    pub(crate) fn acquire() -> io::Result<Self> {
        let mut current = CURRENT.get().lock();
        if let Some(background) = &mut *current {
            background.refs += 1;
            return Ok(Self::on(background.runtime.clone()));
        }
        let (runtime, stop) = start()?;
        *current = Some(Background { runtime: runtime.clone(), refs: 1, _stop: stop });
        Ok(Self::on(runtime))
    }

    /// A reference to the thread of this runtime, which is counted already.
    fn on(runtime: Handle) -> Self {
        Self { runtime, process: process::id(), last_future: Mutex::default() }
    }

    /// The runtime of the thread.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether this is a fork of the process that has made the connection: its background thread is not here.
    pub(crate) fn is_in_fork(&self) -> bool {
        self.process != process::id()
    }

    /// Fails in a fork.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        check_process(self.process)
    }

    /// Sets a future that runs when this reference is dropped. The thread lives until it is done.
    pub(crate) fn set_last_future(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        self.last_future = Mutex::new(Some(Box::pin(future)));
    }
}

impl Drop for BackgroundRef {
    fn drop(&mut self) {
        match self.last_future.get_mut().take() {
            Some(last_future) => {
                self.runtime.spawn(async move {
                    let _release = ReleaseOnDrop;
                    last_future.await;
                });
            }
            None => drop(ReleaseOnDrop),
        }
    }
}

/// Gives one reference back; the last one ends the thread. A guard, as a last future may panic or be dropped.
struct ReleaseOnDrop;

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        let mut current = CURRENT.get().lock();
        if let Some(background) = &mut *current {
            background.refs -= 1;
            if background.refs == 0 {
                *current = None;
            }
        }
    }
}

/// Starts the thread. It ends when the sender is dropped.
fn start() -> io::Result<(Handle, oneshot::Sender<()>)> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (started, outcome) = mpsc::sync_channel(1);
    // The runtime is made and dropped on its own thread: within another runtime it could not be dropped.
    thread::Builder::new().name("perconn-blocking".into()).spawn(move || {
        IS_BACKGROUND.set(true);
        let runtime =
            runtime::Builder::new_current_thread().enable_io().enable_time().thread_name("perconn-resolver").build();
        match runtime {
            Ok(runtime) => {
                let _ = started.send(Ok(runtime.handle().clone()));
                let _ = runtime.block_on(stopped);
                // Does not wait for names that are being resolved.
                runtime.shutdown_background();
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    match outcome.recv() {
        Ok(runtime) => Ok((runtime?, stop)),
        Err(_) => Err(io::Error::other("the background thread of the blocking connections ended while it started")),
    }
}

/// Fails in a fork of the process that has made the connection: its background thread is not here.
pub(super) fn check_process(process: u32) -> io::Result<()> {
    if process != process::id() {
        let text = format!(
            "a connection of process {process} cannot be used in its fork, process {}: make a new one",
            process::id()
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(())
}

/// Fails on the background thread itself, which would wait for itself.
pub(crate) fn check_may_wait() -> io::Result<()> {
    if IS_BACKGROUND.get() {
        let text = "a dialer of a blocking connection cannot wait for one: it runs on the thread that serves them all";
        return Err(io::Error::new(io::ErrorKind::Deadlock, text));
    }
    Ok(())
}
