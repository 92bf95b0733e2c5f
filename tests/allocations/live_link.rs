//! Promise 9: on a live link a read or write takes no lock, no channel, no allocation and no extra task.
//!
//! The allocator counts allocations, and the runtime counts tasks. Locks cannot be counted from outside; the benchmark
//! shows that the calls go straight to the socket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::allocations;
use crate::support::{Server, in_time};

/// The runtime has only this thread, so the counter sees everything.
#[tokio::test]
async fn live_link_needs_no_allocation_and_no_extra_task() {
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
    // Until the runtime has allocated its own queues.
    in_time("warm up", rounds(&mut conn, 1_000)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    let before = allocations();
    rounds(&mut conn, 1_000).await;
    assert_eq!(allocations() - before, 0, "allocations in 1,000 round trips");
    assert_eq!(metrics.num_alive_tasks(), tasks);
    assert_eq!(tasks, 1, "only the actor's task");
}
