//! The handshakes that go on, and which of them makes room for the next.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use super::Sessions;
use crate::acceptor::stats::Tally;
use crate::sync::Mutex;

/// How long the oldest handshake is safe when no further one can begin. Whoever is honest and not at the end of the world has
/// done it by then; without this, silent clients would keep everyone out until their time is over.
const GRACE: Duration = Duration::from_secs(1);

/// So long is waited for the place of one that is given up, before another is given up.
const FAREWELL: Duration = Duration::from_millis(100);

pub(in crate::acceptor) struct Handshakes {
    permits: Arc<Semaphore>,
    underway: Mutex<Underway>,
}

#[derive(Default)]
struct Underway {
    last_id: u64,
    /// By their number, so the oldest is the first.
    begun: BTreeMap<u64, Begun>,
}

struct Begun {
    safe_until: Instant,
    given_up: Arc<Notify>,
}

impl Handshakes {
    pub(super) fn new(max: usize) -> Self {
        let permits = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Self { permits, underway: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Underway> {
        self.underway.lock()
    }

    /// Waits for the right to one more. As long as there is none, those that have taken too long are given up, one after the
    /// other, the oldest first.
    pub(in crate::acceptor) async fn permit(&self) -> OwnedSemaphorePermit {
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        let mut not_before = Instant::now();
        loop {
            // Nothing begins while this waits, as it is what all beginnings wait for.
            let safe_until = self.lock().begun.values().next().map(|oldest| oldest.safe_until.max(not_before));
            let grace = async {
                match safe_until {
                    Some(time) => sleep_until(time).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                permit = &mut permit => match permit {
                    Ok(permit) => return permit,
                    Err(_) => unreachable!("it is never closed"),
                },
                () = grace => {
                    self.give_up_the_oldest();
                    not_before = Instant::now() + FAREWELL;
                }
            }
        }
    }

    fn give_up_the_oldest(&self) {
        let mut underway = self.lock();
        let Some(oldest) = underway.begun.first_entry() else { return };
        // The one that was the oldest may have ended.
        if oldest.get().safe_until <= Instant::now() {
            oldest.remove().given_up.notify_one();
        }
    }
}

/// A client that has a permit and no acceptor yet; with its handshake, as long as that goes on.
pub(in crate::acceptor) struct Entrant {
    sessions: Arc<Sessions>,
    tally: Arc<Tally>,
    id: u64,
    given_up: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Entrant {
    pub(in crate::acceptor) fn new(sessions: &Arc<Sessions>, tally: &Arc<Tally>, permit: OwnedSemaphorePermit) -> Self {
        tally.handshaking.fetch_add(1, Ordering::Relaxed);
        let given_up = Arc::new(Notify::new());
        let mut underway = sessions.handshakes.lock();
        underway.last_id += 1;
        let id = underway.last_id;
        underway.begun.insert(id, Begun { safe_until: Instant::now() + GRACE, given_up: Arc::clone(&given_up) });
        drop(underway);
        Self { sessions: Arc::clone(sessions), tally: Arc::clone(tally), id, given_up, _permit: permit }
    }

    /// Waits until the handshake is given up.
    pub(super) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// The handshake has ended. From now on, it is the acceptors that are waited for.
    pub(super) fn is_done(&self) {
        self.sessions.handshakes.lock().begun.remove(&self.id);
    }
}

impl Drop for Entrant {
    fn drop(&mut self) {
        self.is_done();
        self.tally.handshaking.fetch_sub(1, Ordering::Relaxed);
    }
}
