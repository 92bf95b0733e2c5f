//! Promise 9: on a live link a read or write takes no lock, no channel, no allocation, no extra task.
//!
//! Allocations are counted by the allocator, tasks by the runtime. Locks cannot be counted from outside; that the
//! calls go straight to the socket shows in the benchmark.

#![allow(unsafe_code)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::{Server, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Counting;

thread_local! {
    /// Of this thread alone: the test harness allocates on another one.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The runtime has no thread but this one, so that everything is counted.
#[tokio::test]
async fn live_link_costs_no_allocation_and_no_task() {
    let server = Server::start().await;
    let (mut conn, mut peer) = server.pair().await;
    let mut buf = [0; 64];
    let mut rounds = async |conn: &mut perconn::Conn, n| {
        for _ in 0..n {
            conn.write_all(&[1; 64]).await.unwrap();
            peer.read_exact(&mut buf).await.unwrap();
            peer.write_all(&[2; 64]).await.unwrap();
            conn.read_exact(&mut buf).await.unwrap();
            conn.flush().await.unwrap();
        }
    };
    // Long enough for the runtime to have made its own queues.
    soon("warm up", rounds(&mut conn, 1_000)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    let before = ALLOCATIONS.get();
    rounds(&mut conn, 1_000).await;
    assert_eq!(ALLOCATIONS.get() - before, 0, "allocations in 1,000 round trips");
    assert_eq!(metrics.num_alive_tasks(), tasks);
    assert_eq!(tasks, 1, "the actor's, and no other");
}
