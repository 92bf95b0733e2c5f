//! The types with which the modelled parts of the crate synchronise: those of std and tokio, and in a model those of loom.
//!
//! A *model* is a small program of two or three threads. [loom](https://docs.rs/loom) plays it again and again, with
//! every order of its steps and with every value that its atomic loads may return. So a part that is modelled takes its
//! locks and atomics from here. Statics cannot, as nothing of loom is made at compile time.
//!
//! Models are tests beside what they check, in files named `models.rs`. They are built only with `--cfg perconn_loom`;
//! `tests/models.rs` does that, and checks with a broken version of the source that each of them finds it.
//!
//! What loom does not know takes no part in the choice of the schedules: [`Arc`](std::sync::Arc), the figures of a pool,
//! what a model itself counts.
//!
//! Next: `modelled/by_loom.rs`, the types of a model and how one is played.

#[cfg(not(all(test, perconn_loom)))]
pub(crate) use {super::Mutex, std::sync::MutexGuard, std::sync::atomic::AtomicU64, tokio::sync::Notify};

#[cfg(all(feature = "pool", not(all(test, perconn_loom))))]
pub(crate) use {
    std::sync::atomic::{AtomicBool, AtomicUsize},
    std::thread,
    tokio::sync::{Mutex as AsyncMutex, oneshot},
    tokio::task::AbortHandle,
};

#[cfg(all(test, perconn_loom))]
pub(crate) use self::by_loom::{
    AbortHandle, AsyncMutex, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Notify, check, check_up_to,
    oneshot, spawn, thread, wait,
};

/// Runs a future in a task of this runtime.
#[cfg(all(feature = "pool", not(all(test, perconn_loom))))]
pub(crate) fn spawn(
    runtime: &tokio::runtime::Handle,
    future: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    runtime.spawn(future).abort_handle()
}

#[cfg(all(test, perconn_loom))]
mod by_loom;
