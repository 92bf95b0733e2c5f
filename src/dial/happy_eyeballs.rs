//! Which of a name's addresses answers first (Happy Eyeballs, RFC 8305).
//!
//! The two IP versions take turns in the list, so that a broken IPv6 costs one attempt and not all of them. An attempt
//! gets a head start of 250 ms over the next one, which begins at once if it fails; the first that succeeds wins, and the
//! others are dropped.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// "Connection Attempt Delay": recommended in RFC 8305, section 8.
const HEAD_START: Duration = Duration::from_millis(250);

/// Lets the IP versions take turns, the first address's first; otherwise the resolver's order stays (RFC 8305, section 4).
pub(super) fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.into_iter().peekable();
    let is_v6_first = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|address| address.is_ipv6() == is_v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        let turn = [first.next(), second.next()];
        if turn == [None, None] {
            return turns;
        }
        turns.extend(turn.into_iter().flatten());
    }
}

/// Connects to the first of `addresses` that answers, or says how each one failed.
pub(super) async fn race<S, F>(
    addresses: Vec<SocketAddr>,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> Result<(SocketAddr, S), Vec<(SocketAddr, io::Error)>>
where
    F: Future<Output = io::Result<S>>,
{
    if let [only] = addresses[..] {
        return connect(only).await.map(|stream| (only, stream)).map_err(|error| vec![(only, error)]);
    }
    Box::pin(race_of_several(addresses, connect)).await
}

async fn race_of_several<S, F>(
    addresses: Vec<SocketAddr>,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> Result<(SocketAddr, S), Vec<(SocketAddr, io::Error)>>
where
    F: Future<Output = io::Result<S>>,
{
    let mut waiting = addresses.into_iter();
    let mut running: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut failures = Vec::new();
    let mut head_start = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let mut has_failed = false;
            let mut at = 0;
            while let Some((address, attempt)) = running.get_mut(at) {
                let address = *address;
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok((address, stream))),
                    Poll::Ready(Err(error)) => {
                        failures.push((address, error));
                        drop(running.remove(at));
                        has_failed = true;
                    }
                    Poll::Pending => at += 1,
                }
            }
            let is_next = has_failed || head_start.as_mut().poll(cx).is_ready();
            match waiting.as_slice() {
                [] if running.is_empty() => return Poll::Ready(Err(std::mem::take(&mut failures))),
                [] => return Poll::Pending,
                _ if !is_next => return Poll::Pending,
                _ => {}
            }
            let Some(address) = waiting.next() else { return Poll::Pending };
            running.push((address, Box::pin(connect(address))));
            head_start.as_mut().reset(tokio::time::Instant::now() + HEAD_START);
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use tokio::time::{Instant, sleep};

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn versions_take_turns_and_the_resolvers_first_comes_first() {
        let [a, b, c, x, y] = ["[::a]:1", "[::b]:1", "[::c]:1", "192.0.2.1:1", "192.0.2.2:1"];
        for (given, expected) in [
            (vec![a, b, c, x, y], vec![a, x, b, y, c]),
            (vec![x, a, b], vec![x, a, b]),
            (vec![x, y], vec![x, y]),
            (vec![], vec![]),
        ] {
            assert_eq!(interleave(addresses(&given)), addresses(&expected));
        }
    }

    /// When each attempt began, in milliseconds, and the outcome; attempt number n takes `times[n]`.
    async fn play(times: &[(u64, bool)]) -> (Vec<u64>, Result<u16, usize>, u64) {
        let begun = RefCell::new(Vec::new());
        let start = Instant::now();
        let list = (1..=times.len() as u16).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let outcome = race(list, |address| {
            begun.borrow_mut().push(start.elapsed().as_millis() as u64);
            let (time, is_good) = times[usize::from(address.port()) - 1];
            async move {
                sleep(Duration::from_millis(time)).await;
                if is_good { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
            }
        })
        .await;
        let outcome = outcome.map(|(address, ())| address.port()).map_err(|failures| failures.len());
        (begun.into_inner(), outcome, start.elapsed().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_begin_a_head_start_apart_and_at_once_after_a_failure() {
        // A black hole, then one that is slow, then the winner.
        assert_eq!(play(&[(60_000, true), (60_000, true), (10, true)]).await, (vec![0, 250, 500], Ok(3), 510));
        // One that fails lets the next begin at once, and that one has its own head start.
        assert_eq!(play(&[(10, false), (300, true), (5, true)]).await, (vec![0, 10, 260], Ok(3), 265));
        // The first is late, and still the first to answer.
        assert_eq!(play(&[(260, true), (100, true)]).await, (vec![0, 250], Ok(1), 260));
        // The only one in flight fails when others have failed.
        assert_eq!(play(&[(400, false), (10, false), (10, false)]).await, (vec![0, 250, 260], Err(3), 400));
        assert_eq!(play(&[]).await, (vec![], Err(0), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn losers_are_dropped_when_one_has_won() {
        let alive = std::rc::Rc::new(());
        let outcome = race(addresses(&["192.0.2.1:1", "192.0.2.2:1"]), |address| {
            let alive = std::rc::Rc::clone(&alive);
            async move {
                let _alive = alive;
                match address.ip().to_string().as_str() {
                    "192.0.2.1" => std::future::pending().await,
                    _ => Ok(()),
                }
            }
        });
        outcome.await.unwrap();
        assert_eq!(std::rc::Rc::strong_count(&alive), 1);
    }
}
