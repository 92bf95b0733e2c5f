//! What the program does with the connections of a resource, beyond opening them.
//!
//! All of it is code of the program, so a panic of it is caught, and nothing of it runs under a lock. A connection is
//! moved into an asynchronous hook, which returns it, or an error instead. So what a hook has failed with, or was
//! dropped with, is gone and cannot be lent.
//!
//! Next: [`Opening`](super::opening::Opening), which calls the hooks, and [`Release`](super::release::Release).

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use super::opener::Open;
use crate::Error;
use crate::panics::{catch, ignore};

/// The hooks of one resource. `None` of them by default.
pub(super) struct Lifecycle<T> {
    /// Whether a connection may be lent again. It must not block.
    pub(super) check: Option<Box<Check<T>>>,
    /// Sets up a connection that was just opened, as a part of its dial.
    pub(super) after_open: Option<Box<Hook<T, T>>>,
    /// Checks or resets a connection that is to be lent again.
    pub(super) before_reuse: Option<Box<Hook<T, T>>>,
    /// Closes a connection, in place of a drop.
    pub(super) release: Option<Box<Hook<T, ()>>>,
}

/// A check that does not wait.
pub(super) type Check<T> = dyn Fn(&mut T) -> bool + Send + Sync;

/// A hook that may wait.
pub(super) type Hook<T, R> = dyn Fn(T) -> HookFuture<R> + Send + Sync;

/// What it returns.
pub(super) type HookFuture<R> = Pin<Box<dyn Future<Output = io::Result<R>> + Send>>;

impl<T> Default for Lifecycle<T> {
    fn default() -> Self {
        Self { check: None, after_open: None, before_reuse: None, release: None }
    }
}

/// Makes a hook of a function of the program.
pub(super) fn boxed<T, R, F, Fut>(hook: F) -> Box<Hook<T, R>>
where
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<R>> + Send + 'static,
{
    Box::new(move |value| Box::pin(hook(value)))
}

/// Calls a hook with a connection. A panic becomes an error, with the name of the hook.
pub(super) async fn call<T, R>(name: &str, hook: &Hook<T, R>, value: T) -> io::Result<R> {
    let panicked = |message| io::Error::other(format!("{name} panicked: {message}"));
    let mut future = CaughtDrop(Some(catch(|| hook(value)).map_err(panicked)?));
    poll_fn(|cx| {
        let Some(running) = &mut future.0 else { unreachable!("it is there until this ends") };
        catch(|| running.as_mut().poll(cx)).unwrap_or_else(|message| Poll::Ready(Err(panicked(message))))
    })
    .await
}

/// A future of the program. A panic of its drop is caught.
struct CaughtDrop<R>(Option<HookFuture<R>>);

impl<R> Drop for CaughtDrop<R> {
    fn drop(&mut self) {
        let future = self.0.take();
        ignore(|| drop(future));
    }
}

/// Another opener, and the set-up of what it opens.
pub(super) struct WithSetUp<'a, T> {
    pub(super) opener: &'a mut dyn Open<T>,
    pub(super) set_up: Option<&'a Hook<T, T>>,
}

impl<T: Send + 'static> Open<T> for WithSetUp<'_, T> {
    fn open(&mut self) -> Pin<Box<dyn Future<Output = io::Result<T>> + Send + '_>> {
        let Some(set_up) = self.set_up else { return self.opener.open() };
        let opening = self.opener.open();
        Box::pin(async move {
            let value = opening.await?;
            call("after_open", set_up, value).await
        })
    }

    fn failed(&mut self, error: io::Error) -> io::Error {
        self.opener.failed(error)
    }

    fn addresses(&self) -> usize {
        self.opener.addresses()
    }

    fn take_warning(&mut self) -> Option<Error> {
        self.opener.take_warning()
    }
}
