//! A static value that a fork of the process gets anew.
//!
//! fork(2) copies the memory and only one thread. A value that says "the thread runs" is wrong in the new process, and a lock
//! that another thread held is never released there.
//!
//! Next: [`call_thread`](crate::call_thread), a thread that is started again in a fork.

use std::process;
use std::sync::OnceLock;

/// A value for each process that shares this static by forks.
///
/// A list, as nothing of the earlier process may be dropped: it belongs to threads that are not here.
pub(crate) struct PerProcess<T> {
    /// Makes the value of a process.
    make: fn() -> T,
    /// The value of the first process that asked.
    first: OnceLock<Entry<T>>,
}

/// The value of one process, and those of its forks.
struct Entry<T> {
    /// The process.
    process: u32,
    /// Its value.
    value: T,
    /// Of a fork.
    next: OnceLock<Box<Self>>,
}

impl<T> PerProcess<T> {
    /// Calls `make` once in each process, when it first asks.
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self { make, first: OnceLock::new() }
    }

    /// The value of this process.
    pub(crate) fn get(&self) -> &T {
        self.of(process::id())
    }

    /// The value of this process, which is the newest in the list.
    fn of(&self, process: u32) -> &T {
        let make = || Entry { process, value: (self.make)(), next: OnceLock::new() };
        let mut entry = self.first.get_or_init(make);
        while entry.process != process {
            entry = entry.next.get_or_init(|| Box::new(make()));
        }
        &entry.value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn each_process_has_a_value_of_its_own() {
        static COUNT: PerProcess<AtomicU32> = PerProcess::new(|| AtomicU32::new(0));
        for process in [1, 2, 2, 3, 3, 3] {
            COUNT.of(process).fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!([1, 2, 3].map(|process| COUNT.of(process).load(Ordering::Relaxed)), [1, 2, 3]);
        assert_eq!(COUNT.get().load(Ordering::Relaxed), 0);
    }
}
