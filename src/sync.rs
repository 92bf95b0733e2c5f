//! A mutex without poisoning; in [`modelled`] the types that a model checker replaces.
//!
//! The crate runs none of the program's own code under its locks, so a panic cannot leave a half-finished change
//! behind. The one exception is a lock around a stream of the program: the stream's own methods run under it, and the
//! state that a panic leaves inside the stream is the stream's.
//!
//! Next: [`panics`](crate::panics), which runs the program's code and catches its panics.

use std::sync::{MutexGuard, PoisonError};

pub(crate) mod modelled;

/// [`std::sync::Mutex`], whose lock never fails.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    /// The value, without its lock.
    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Blocks the thread until the lock is free.
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, which an exclusive reference reaches without locking.
    #[cfg(feature = "blocking")]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
