//! The one thread on which the actors of all blocking connections run.
//!
//! It is started with the first connection and ends with the last. A thread for each connection would cost a stack and three
//! descriptors each; in return, a hook that blocks would hold up only its own connection.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{MutexGuard, mpsc};
use std::thread;

use crate::sync::Mutex;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// The thread that runs at the moment, if one does.
static CURRENT: Mutex<Option<Background>> = Mutex::new(None);

struct Background {
    runtime: Handle,
    users: usize,
    /// Dropped to end the thread.
    _stop: oneshot::Sender<()>,
}

thread_local! {
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

type Farewell = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Keeps the thread alive.
pub(super) struct User {
    runtime: Handle,
    /// What has to run to its end first. (Behind a lock only to be `Sync`.)
    farewell: Mutex<Option<Farewell>>,
}

impl User {
    /// Starts the thread if nobody has.
    pub(super) fn new() -> io::Result<Self> {
        let mut current = lock();
        if let Some(background) = &mut *current {
            background.users += 1;
            return Ok(Self { runtime: background.runtime.clone(), farewell: Mutex::default() });
        }
        let (runtime, stop) = start()?;
        *current = Some(Background { runtime: runtime.clone(), users: 1, _stop: stop });
        Ok(Self { runtime, farewell: Mutex::default() })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Lets the thread live until this has run, after the user is dropped.
    pub(super) fn set_farewell(&mut self, farewell: impl Future<Output = ()> + Send + 'static) {
        self.farewell = Mutex::new(Some(Box::pin(farewell)));
    }
}

impl Drop for User {
    fn drop(&mut self) {
        match self.farewell.get_mut().take() {
            Some(farewell) => {
                self.runtime.spawn(async move {
                    let _leave = Leave;
                    farewell.await;
                });
            }
            None => drop(Leave),
        }
    }
}

/// Ends the thread when the last user leaves. (If a farewell panics, or is dropped, its user has left as well.)
struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        let mut current = lock();
        if let Some(background) = &mut *current {
            background.users -= 1;
            if background.users == 0 {
                *current = None;
            }
        }
    }
}

fn start() -> io::Result<(Handle, oneshot::Sender<()>)> {
    let (stop, stopped) = oneshot::channel::<()>();
    let (answer, started) = mpsc::sync_channel(1);
    // The runtime is made, and dropped, on its own thread: within another runtime it could not be dropped.
    thread::Builder::new().name("perconn-blocking".into()).spawn(move || {
        IS_BACKGROUND.set(true);
        let runtime =
            runtime::Builder::new_current_thread().enable_io().enable_time().thread_name("perconn-resolver").build();
        match runtime {
            Ok(runtime) => {
                let _ = answer.send(Ok(runtime.handle().clone()));
                let _ = runtime.block_on(stopped);
                // A name that is being resolved is not waited for.
                runtime.shutdown_background();
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    })?;
    match started.recv() {
        Ok(runtime) => Ok((runtime?, stop)),
        Err(_) => Err(io::Error::other("the background thread of the blocking connections has ended")),
    }
}

/// Fails on the background thread itself: whoever waits there waits for himself.
pub(super) fn check_that_waiting_is_safe() -> io::Result<()> {
    if IS_BACKGROUND.get() {
        let text =
            "a hook or a dialer of a blocking connection waits for one; it runs on the thread that serves them all";
        return Err(io::Error::new(io::ErrorKind::Deadlock, text));
    }
    Ok(())
}

fn lock() -> MutexGuard<'static, Option<Background>> {
    CURRENT.lock()
}
