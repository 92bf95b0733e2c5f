//! Clients that reconnect by themselves and know nothing of this crate, through a [`FaultProxy`] that plays the faults.
//!
//! Each request is answered right or is an error, and after the faults the client works again. The tests wait for events,
//! never for a time; only a client's own timeout takes its time.
//!
//! Next: [`redis`], the connection manager of the `redis` crate.

#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "the modules of a test are a crate of their own")]

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perconn::testing::{Cut, FaultProxy, Link, LinkRecord};

use self::support::in_time;

#[path = "../../../tests/support/real_server.rs"]
mod real_server;
#[path = "../../../tests/support/mod.rs"]
mod support;

// The tests.
mod http;
mod redis;

/// How many entries random weather has. Those that refuse are no links.
const WEATHER: usize = 50;

/// Any number: each run of a test has the same weather.
const SEED: u64 = 1907;

/// Waits until this many links have ended, and returns the records of all links.
async fn ledger_after_ends(proxy: &FaultProxy, count: usize) -> Vec<LinkRecord> {
    in_time("links end", proxy.wait_for_ends(count)).await;
    proxy.ledger()
}

/// Plays random weather, and asks numbered requests until all of it has been played, and 20 more. `ask` says whether there
/// was an answer; a wrong one must be a panic. Returns how many requests failed.
async fn through_random_weather(proxy: &FaultProxy, mut ask: impl AsyncFnMut(usize) -> bool) -> usize {
    // The ledger has no line for a refused dial, so only the script itself knows when it is at its end.
    let is_over = Arc::new(AtomicBool::new(false));
    let end = iter::from_fn({
        let is_over = is_over.clone();
        move || {
            is_over.store(true, Ordering::Relaxed);
            None
        }
    });
    proxy.script(Link::random_weather(SEED).take(WEATHER).chain(end));
    // The link that was there before the script would pass everything.
    proxy.cut(Cut::Close);

    let (mut asked, mut failed) = (0, 0);
    let mut right_in_a_row = 0;
    in_time("the weather ends", async {
        while !is_over.load(Ordering::Relaxed) || right_in_a_row < 20 {
            let is_right = ask(asked).await;
            // A client that fails without waiting must not keep the limit from ending the test.
            tokio::task::yield_now().await;
            asked += 1;
            failed += usize::from(!is_right);
            right_in_a_row = if is_right { right_in_a_row + 1 } else { 0 };
        }
    })
    .await;

    // More than half of its entries are links.
    let ledger = proxy.ledger();
    assert!(ledger.len() > WEATHER / 2, "{} links", ledger.len());
    assert!(ledger.iter().all(|link| link.ended_at.is_none_or(|ended| link.accepted_at <= ended)), "{ledger:?}");
    failed
}
