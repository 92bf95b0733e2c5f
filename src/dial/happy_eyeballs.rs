//! Happy Eyeballs (RFC 8305): connecting to the first IP address of a name that answers.
//!
//! The two IP versions alternate in the list, so that a broken IPv6 costs one attempt and not all of them. The next
//! attempt starts 250 ms after the last one, or at once when an attempt fails. The first that succeeds wins, and the
//! others are dropped. Next: [`TcpDialer`](super::TcpDialer), which sorts the list first.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

/// The "Connection Attempt Delay": RFC 8305, section 8, recommends this value.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Alternates the IP versions, beginning with that of the first address. Within a version the resolver's order stays
/// (RFC 8305, section 4).
pub(super) fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.into_iter().peekable();
    let is_v6_first = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|address| address.is_ipv6() == is_v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut interleaved = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return interleaved;
        }
        interleaved.extend(pair.into_iter().flatten());
    }
}

/// Connects to the first of `addresses` that answers.
///
/// `connect` starts one attempt. Returns the address and its stream. The error lists how each attempt failed, in the
/// order of the failures.
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

/// [`race`] for any number of addresses. Boxed there, so that a single address does not pay for its size.
async fn race_of_several<S, F>(
    addresses: Vec<SocketAddr>,
    mut connect: impl FnMut(SocketAddr) -> F,
) -> Result<(SocketAddr, S), Vec<(SocketAddr, io::Error)>>
where
    F: Future<Output = io::Result<S>>,
{
    let mut untried = addresses.into_iter();
    let mut running: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut failures = Vec::new();
    // Runs from the start of each attempt. The first one does not wait for it: a timer costs at least a millisecond.
    let mut delay = pin!(tokio::time::sleep(ATTEMPT_DELAY));
    poll_fn(|cx| {
        loop {
            let mut has_failed = false;
            let mut index = 0;
            while let Some((address, attempt)) = running.get_mut(index) {
                let address = *address;
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok((address, stream))),
                    Poll::Ready(Err(error)) => {
                        failures.push((address, error));
                        drop(running.remove(index));
                        has_failed = true;
                    }
                    Poll::Pending => index += 1,
                }
            }
            let may_start = running.is_empty() || has_failed || delay.as_mut().poll(cx).is_ready();
            match untried.as_slice() {
                [] if running.is_empty() => return Poll::Ready(Err(std::mem::take(&mut failures))),
                [] => return Poll::Pending,
                _ if !may_start => return Poll::Pending,
                _ => {}
            }
            let Some(address) = untried.next() else { return Poll::Pending };
            running.push((address, Box::pin(connect(address))));
            delay.as_mut().reset(tokio::time::Instant::now() + ATTEMPT_DELAY);
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
    fn ip_versions_alternate_beginning_with_that_of_the_resolvers_first_address() {
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

    /// Attempt n takes `times[n]`. Returns when each attempt began in milliseconds, the outcome, and when it came.
    async fn run(times: &[(u64, bool)]) -> (Vec<u64>, Result<u16, usize>, u64) {
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
    async fn attempts_start_a_delay_apart_and_at_once_after_a_failure() {
        // A black hole, a slow address, then the winner.
        assert_eq!(run(&[(60_000, true), (60_000, true), (10, true)]).await, (vec![0, 250, 500], Ok(3), 510));
        // After a failure the next attempt starts at once, and the delay runs again from there.
        assert_eq!(run(&[(10, false), (300, true), (5, true)]).await, (vec![0, 10, 260], Ok(3), 265));
        // The first attempt is slow and still the first to answer.
        assert_eq!(run(&[(260, true), (100, true)]).await, (vec![0, 250], Ok(1), 260));
        // The last attempt in flight fails after all others have failed.
        assert_eq!(run(&[(400, false), (10, false), (10, false)]).await, (vec![0, 250, 260], Err(3), 400));
        assert_eq!(run(&[]).await, (vec![], Err(0), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn first_attempt_starts_in_the_first_poll_without_a_timer() {
        // Between two ticks of the timer: a sleep of no time would end at the next one.
        tokio::time::advance(Duration::from_micros(500)).await;
        let begun = RefCell::new(Vec::new());
        let mut outcome = pin!(race(addresses(&["192.0.2.1:1", "192.0.2.2:1"]), |address| {
            begun.borrow_mut().push(address.ip().to_string());
            std::future::pending::<io::Result<()>>()
        }));
        assert!(poll_fn(|cx| Poll::Ready(outcome.as_mut().poll(cx).is_pending())).await);
        assert_eq!(*begun.borrow(), ["192.0.2.1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn other_attempts_are_dropped_when_one_succeeds() {
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
