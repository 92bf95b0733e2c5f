//! The opening of a connection by a resource's own dialer. It belongs to the resource, and not to the caller that began it.
//!
//! The caller polls it in its own task. If the caller leaves, the opening goes on in a task of the same runtime, within
//! the dial timeout. Its connection then goes to the first caller that waits for the resource, or becomes idle. So
//! callers that are more impatient than a dial get a connection all the same.
//!
//! If the program prepares connections for their next use, that is a part of the opening, too.
//!
//! Next: [`dial`], which is one attempt, and [`DialBackoff`](super::dial_backoff::DialBackoff), which delays the next.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::{Connection, Readiness};
use super::dial_attempt::dial;
use super::lifecycle::{WithSetUp, call};
use super::release::ReportClose;
use super::resource_inner::ResourceInner;
use super::state::wake_all;
use super::{CloseReason, GetError};
use crate::hooks::debug;
use crate::panics::ignore;
use crate::sync::modelled::spawn;

/// An opening that has begun. It has the entry and the slot; if it succeeds, it leaves them to the caller.
pub(super) struct Opening<T: Send + 'static> {
    resource: Arc<ResourceInner<T>>,
    /// Where it goes on if the caller leaves: the sockets of the dial belong to this runtime.
    runtime: Handle,
    /// `None` when it has ended.
    job: Option<Job<T>>,
}

/// All of an opening, in one future that needs no caller.
type Job<T> = Pin<Box<dyn Future<Output = Result<Connection<T>, GetError>> + Send>>;

impl<T: Send + 'static> Opening<T> {
    /// Begins, for a caller that has acquired the entry and a slot. From now on the opening has both.
    ///
    /// If there is a connection from the last use, it is prepared; another one is opened only if that fails.
    pub(super) fn begin(
        resource: &Arc<ResourceInner<T>>,
        runtime: Handle,
        slot: FutureSlot<T>,
        used: Option<Connection<T>>,
    ) -> Self {
        let job = Box::pin(prepare_or_open(slot, used));
        Self { resource: Arc::clone(resource), runtime, job: Some(job) }
    }
}

impl<T: Send + 'static> Future for Opening<T> {
    type Output = Result<Connection<T>, GetError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Taken out meanwhile: after a panic, it is dropped and does not go on.
        let Some(mut job) = self.job.take() else { unreachable!("it is not polled again when it has ended") };
        let polled = job.as_mut().poll(cx);
        if polled.is_pending() {
            self.job = Some(job);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Opening<T> {
    fn drop(&mut self) {
        let Some(job) = self.job.take() else { return };
        let resource = Arc::clone(&self.resource);
        let goes_on = async move {
            if let Ok(connection) = job.await {
                resource.give_to_first(connection);
            }
        };
        // If the runtime has ended, this drops the job, which has then failed.
        let task = spawn(&self.runtime, goes_on); // rule: dial-outlives-its-caller
        self.resource.set_background_dial(task);
    }
}

/// Makes a connection ready for use. The slot is left to the caller that gets the connection.
async fn prepare_or_open<T: Send + 'static>(
    slot: FutureSlot<T>,
    used: Option<Connection<T>>,
) -> Result<Connection<T>, GetError> {
    let held = slot.wait().await?;
    if let Some(used) = used {
        if let Some(prepared) = prepare(held.resource(), used).await {
            held.keep();
            return Ok(prepared);
        }
    }
    open(held).await
}

/// Lets the program prepare a connection for its next use, within the dial timeout. `None`: it is closed.
pub(super) async fn prepare<T: Send + 'static>(
    resource: &Arc<ResourceInner<T>>,
    used: Connection<T>,
) -> Option<Connection<T>> {
    let Some(hook) = &resource.lifecycle.before_reuse else { return Some(used) };
    let pool = &resource.pool;
    // What is dropped from here on was closed.
    let mut report =
        ReportClose { resource: Some(Arc::clone(resource)), opened: used.info.opened, reason: CloseReason::Gone };
    let Connection { value, .. } = used;
    let mut closed = pool.close_signal.listen()?;
    let preparing = call("before_reuse", &**hook, value);
    let limited = async {
        match pool.settings.dial_timeout {
            None => preparing.await,
            Some(limit) => timeout(limit, preparing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
        }
    };
    let prepared = tokio::select! {
        biased;
        () = closed.received() => return None,
        prepared = limited => prepared,
    };
    match prepared {
        Ok(value) if !pool.summary.is_closed() => {
            report.resource = None;
            let mut info = used.info;
            info.readiness = Readiness::Prepared;
            Some(Connection { value, info })
        }
        Ok(value) => {
            ignore(|| drop(value));
            None
        }
        Err(error) => {
            report.reason = CloseReason::Dead;
            debug(format_args!("{}: not lent again: {error}", resource.name));
            None
        }
    }
}

/// Opens a connection with the resource's own dialer.
async fn open<T: Send + 'static>(held: HeldSlot<T>) -> Result<Connection<T>, GetError> {
    let resource = held.resource();
    if let Some(refusal) = resource.dial_backoff.refusal(&resource.name) {
        fail_waiters(resource, &refusal);
        return Err(refusal);
    }
    let Ok(mut opener) = resource.opener.try_lock() else {
        unreachable!("only the caller that has acquired the entry locks the opener")
    };
    let mut with_set_up = WithSetUp { opener: &mut **opener, set_up: resource.lifecycle.after_open.as_deref() };
    let dialed = dial(resource, &mut with_set_up, true).await;
    if let Err(error @ GetError::Dial { .. }) = &dialed {
        fail_waiters(resource, error);
    }
    // The next caller needs both the entry and the opener, so the opener has to be unlocked before the entry is given
    // back.
    drop(opener); // rule: opener-is-unlocked-before-the-entry
    let connection = dialed?;
    held.keep();
    Ok(connection)
}

/// Every caller that waited for this dial would fail the same way, each after a dial of its own.
fn fail_waiters<T>(resource: &ResourceInner<T>, error: &GetError) {
    let waiters = resource.entry.lock().fail_waiters(|| error.clone());
    wake_all(waiters); // rule: failed-dial-wakes-its-waiters
}

/// The entry and the slot of an opening, now or when the connection in the way is closed.
pub(super) enum FutureSlot<T: Send + 'static> {
    /// The opening has both.
    Held(HeldSlot<T>),
    /// A release action runs, and sends both when it has ended.
    Later(oneshot::Receiver<HeldSlot<T>>),
}

impl<T: Send + 'static> FutureSlot<T> {
    /// Waits until the slot can be used.
    pub(super) async fn wait(self) -> Result<HeldSlot<T>, GetError> {
        match self {
            Self::Held(held) => Ok(held),
            // The sender is never dropped without a message.
            Self::Later(receiver) => receiver.await.map_err(|_| GetError::Closed),
        }
    }
}

/// The entry and the slot of an opening. Both go back when this is dropped.
pub(super) struct HeldSlot<T: Send + 'static>(Option<Arc<ResourceInner<T>>>);

impl<T: Send + 'static> HeldSlot<T> {
    /// Takes both over from a caller.
    pub(super) fn new(resource: &Arc<ResourceInner<T>>) -> Self {
        resource.set_being_opened(true);
        Self(Some(Arc::clone(resource)))
    }

    fn resource(&self) -> &Arc<ResourceInner<T>> {
        match &self.0 {
            Some(resource) => resource,
            None => unreachable!("only `keep` takes it, and consumes this"),
        }
    }

    /// Leaves them to the caller that gets the connection.
    pub(super) fn keep(mut self) {
        if let Some(resource) = self.0.take() {
            resource.set_being_opened(false);
        }
    }
}

impl<T: Send + 'static> Drop for HeldSlot<T> {
    fn drop(&mut self) {
        if let Some(resource) = &self.0 {
            resource.set_being_opened(false);
            resource.release(false);
        }
    }
}
