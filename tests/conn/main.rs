//! The tests of the core: `Conn`, its halves and `SharedConn`. They need no feature of the crate.
//!
//! One module for each topic; a module that proves a promise of the README names it in its first line. The tests run in
//! parallel in one process. A test that starts a process, counts the descriptors or threads of this process, or needs a
//! global allocator or logger belongs in a binary of its own: see `allocations`, `descriptors` and `partitions`.

#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

#[path = "../support/mod.rs"]
mod support;

// The promises of the README.
mod breaks_reported_once;
mod cancel_safety;
mod clean_cut;
mod good_neighbour;
mod no_lost_wakeups;
mod no_torn_frames;
mod nothing_hangs;
mod unacknowledged_bytes;
mod when_down;
mod writes_after_close;

// The handles.
mod auto_traits;
mod like_tcp_stream;
mod resets;
mod shared;
mod split;

// Settings, hooks, dials and streams.
mod bad_input;
mod close_as_error;
mod custom_streams;
mod dial_limit;
mod dialers;
mod events;
mod failed_dials;
mod liveness;
mod resolver;
mod routing;
mod stats;
mod verdicts;

// Everything together.
mod chaos;
