//! A mutex without poison.
//!
//! Nothing of the program's own code runs under a lock of this crate, so that a panic cannot leave half a change behind:
//! a poisoned lock would still guard a sound value. (A stream of the program's own is the exception: it runs under its
//! own lock, and what it has left behind is its own affair.)

use std::sync::{MutexGuard, PoisonError};

/// [`std::sync::Mutex`], whose lock never fails.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> Mutex<T> {
    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(feature = "blocking")]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}
