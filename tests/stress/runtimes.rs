//! The two runtimes: a pool of workers, and a single thread.
//!
//! A connection's actor, its handles and its server each have a [`Place`], so that wake-ups cross from one runtime to
//! the other in both directions.

use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Where something runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The runtime with many workers.
    Pool,
    /// The runtime with one thread.
    Single,
}

/// Both runtimes. They live as long as the test.
pub(crate) struct Runtimes {
    pub(crate) pool: Runtime,
    pub(crate) places: Places,
    /// Ends the single thread when dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The handles of both runtimes.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pool: Handle,
    single: Handle,
}

impl Runtimes {
    pub(crate) fn start(workers: usize) -> Self {
        let pool = Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
        let single = Builder::new_current_thread().enable_all().build().unwrap();
        let places = Places { pool: pool.handle().clone(), single: single.handle().clone() };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let _ = single.block_on(stopped);
        });
        Self { pool, places, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

impl Places {
    pub(crate) fn of(&self, place: Place) -> &Handle {
        match place {
            Place::Pool => &self.pool,
            Place::Single => &self.single,
        }
    }

    pub(crate) fn alive_tasks(&self) -> usize {
        self.pool.metrics().num_alive_tasks() + self.single.metrics().num_alive_tasks()
    }
}
