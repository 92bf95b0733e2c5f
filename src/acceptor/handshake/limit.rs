//! The limit of handshakes that go on at once, and which of them is evicted when it is reached.
//!
//! Next: [`super::Handshaker`], whose permits these are.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::acceptor::stats::Counters;
use crate::sync::Mutex;

/// How long a handshake is safe from eviction. An honest client is done by then, even over a slow path. Without
/// eviction, silent clients would keep all others out until their own time is over.
const MIN_AGE: Duration = Duration::from_secs(1);

/// The pause after an eviction. Only if no permit is free by then, another handshake is evicted.
const EVICTION_PAUSE: Duration = Duration::from_millis(100);

/// Limits how many clients are pending: their handshake goes on, or has ended and waits for a slot.
pub(super) struct HandshakeLimit {
    /// One permit for each pending client.
    permits: Arc<Semaphore>,
    /// A leaf lock.
    ongoing: Mutex<OngoingHandshakes>,
}

/// The handshakes that can be evicted.
#[derive(Default)]
struct OngoingHandshakes {
    /// The number of the newest handshake.
    last_id: u64,
    /// By their number, so that the oldest is the first.
    by_age: BTreeMap<u64, OngoingHandshake>,
}

/// One of them.
struct OngoingHandshake {
    /// It is not evicted before this.
    safe_until: Instant,
    /// Notifies its task that it is evicted.
    evicted: Arc<Notify>,
}

impl HandshakeLimit {
    /// Allows `max` pending clients.
    pub(super) fn new(max: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { permits, ongoing: Mutex::default() })
    }

    /// Waits for the permit for one more client. Meanwhile, handshakes that have taken too long are evicted, one
    /// after the other, the oldest first.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        let mut not_before = Instant::now();
        loop {
            // No handshake begins during this wait, as each needs a permit from here. So the oldest one can only end.
            let oldest = self.ongoing.lock().by_age.values().next().map(|oldest| oldest.safe_until);
            let eviction = async {
                match oldest {
                    Some(safe_until) => sleep_until(safe_until.max(not_before)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                permit = &mut permit => match permit {
                    Ok(permit) => return permit,
                    Err(_) => unreachable!("the semaphore is never closed"),
                },
                () = eviction => {
                    self.evict_oldest();
                    not_before = Instant::now() + EVICTION_PAUSE;
                }
            }
        }
    }

    /// Evicts the oldest handshake, if it has had its time.
    fn evict_oldest(&self) {
        let mut ongoing = self.ongoing.lock();
        let Some(oldest) = ongoing.by_age.first_entry() else { return };
        // It may be younger than the one that was waited for, which has ended.
        if oldest.get().safe_until <= Instant::now() {
            oldest.remove().evicted.notify_one();
        }
    }
}

/// A client with a permit and without a slot. It counts as [`handshaking`](crate::acceptor::Stats::handshaking).
pub(in crate::acceptor) struct PendingClient {
    /// Where its handshake is listed until it has ended.
    limit: Arc<HandshakeLimit>,
    /// For `handshaking`, which goes down when this is dropped.
    counters: Arc<Counters>,
    /// The number of its handshake.
    id: u64,
    /// Notified once, if the handshake has to make room for another client.
    evicted: Arc<Notify>,
    /// Freed on drop, so that the next client can begin.
    _permit: OwnedSemaphorePermit,
}

impl PendingClient {
    /// Counts a client that was accepted now.
    pub(super) fn new(limit: &Arc<HandshakeLimit>, counters: &Arc<Counters>, permit: OwnedSemaphorePermit) -> Self {
        counters.handshaking.fetch_add(1, Ordering::Relaxed);
        let evicted = Arc::new(Notify::new());
        let mut ongoing = limit.ongoing.lock();
        ongoing.last_id += 1;
        let id = ongoing.last_id;
        let handshake = OngoingHandshake { safe_until: Instant::now() + MIN_AGE, evicted: Arc::clone(&evicted) };
        ongoing.by_age.insert(id, handshake);
        drop(ongoing);
        Self { limit: Arc::clone(limit), counters: Arc::clone(counters), id, evicted, _permit: permit }
    }

    /// Waits until the handshake is evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The handshake has ended, and cannot be evicted any more. The client may still wait for a slot.
    pub(super) fn handshake_ended(&self) {
        self.limit.ongoing.lock().by_age.remove(&self.id);
    }
}

impl Drop for PendingClient {
    fn drop(&mut self) {
        self.handshake_ended();
        self.counters.handshaking.fetch_sub(1, Ordering::Relaxed);
    }
}
