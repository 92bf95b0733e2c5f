//! Panics of the program's own code: hooks, wakers, dialers, handlers, and destructors of streams.
//!
//! A task of this crate that calls such code and has to go on afterwards calls it through [`catch`]. A value of the
//! program that any task may drop is in a [`QuietDrop`].
//!
//! Next: `hooks.rs` and `panic_as_error.rs`, which catch panics.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Calls the program's own code. A panic becomes an error with its message.
///
/// The caller must not use a value that the code may have left half changed.
pub(crate) fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// [`catch`] for code whose panic needs no report.
pub(crate) fn ignore(code: impl FnOnce()) {
    let _ = catch(code);
}

/// Wakes a task. The waker is code of the program or of its executor, and can panic.
pub(crate) fn wake(waker: Waker) {
    ignore(|| waker.wake());
}

/// A value of the program that a task of this crate may drop: a stream, or an error of one.
///
/// A panic of its `Drop` is caught, as the task has to go on, and the panic hook has printed it.
#[derive(Debug)]
pub(crate) struct QuietDrop<T>(Option<T>);

impl<T> QuietDrop<T> {
    /// Wraps a value.
    #[inline]
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for QuietDrop<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("only the drop takes the value"),
        }
    }
}

impl<T> DerefMut for QuietDrop<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("only the drop takes the value"),
        }
    }
}

impl<T> Drop for QuietDrop<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        ignore(|| drop(value));
    }
}

/// The message of a panic, if it has one as text.
pub(crate) fn message(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned();
    // A payload can panic when it is dropped, and so can the payload of that panic. The second one is leaked.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    struct Bomb(u8);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    #[test]
    fn message_is_the_text_of_the_panic() {
        assert_eq!(catch(|| panic!("a text")), Err::<(), _>("a text".to_owned()));
        assert_eq!(catch(|| panic!("a number: {}", 7)), Err::<(), _>("a number: 7".to_owned()));
        assert_eq!(catch(|| 7), Ok(7));
    }

    #[test]
    fn payload_that_panics_when_it_is_dropped_is_contained() {
        for depth in 0..5 {
            assert_eq!(catch(|| panic_any(Bomb(depth))), Err::<(), _>("no message".to_owned()));
        }
    }
}
