//! The halves of a connection in two tasks: one writes records, the other reads the server's.

use std::sync::Arc;
use std::time::Duration;

use perconn::{ReadHalf, WriteHalf};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

use crate::account::Account;
use crate::client::{Incoming, Outgoing, Waited, Waits};
use crate::plan::{Habits, pause, payload};
use crate::reports::{Direction, Handle, Outcome, Reports};

/// Writes records until the connection is closed.
pub(crate) async fn write(mut half: WriteHalf, habits: Habits, account: Arc<Account>, mut random: SmallRng) -> Reports {
    let mut reports = Reports::new(&half, &account);
    let mut waits = Waits::new(&account);
    let mut outgoing = Outgoing::new(&account);
    loop {
        if !outgoing.is_under_way() {
            sleep(pause(&mut random)).await;
            waits.restart();
            if habits.reconnects && random.random_bool(0.002) {
                account.count(|totals| totals.reconnects += 1);
                half.break_link(half.generation());
                half.dial_now();
            }
            outgoing.begin(reports.current(), payload(&mut random));
        }
        let time_limit = habits.cancels.then(|| Duration::from_millis(random.random_range(0..15)));
        let news = match waits.wait("a write", time_limit, outgoing.write(&mut half, reports.current())).await {
            Waited::Done(Ok(())) | Waited::Cancelled => continue,
            Waited::Done(Err(error)) => reports.error(&error, Direction::Write, &half),
            Waited::Hung => break,
        };
        match news {
            Outcome::Break(generation) => outgoing.next_link(generation),
            Outcome::NoLink => {
                // If the connection has ended, the next operation fails as well.
                let _ = waits.wait("connected()", None, half.connected()).await;
            }
            Outcome::Again => unreachable!("only whole connections report a break twice"),
            Outcome::Over => break,
        }
    }
    outgoing.next_link(reports.current());
    reports
}

/// Reads the server's records until the connection is closed.
pub(crate) async fn read(mut half: ReadHalf, habits: Habits, account: Arc<Account>, mut random: SmallRng) -> Reports {
    let mut reports = Reports::new(&half, &account);
    let mut waits = Waits::new(&account);
    let mut incoming = Incoming::new(&account);
    let mut buf = vec![0; 16 * 1024];
    loop {
        let time_limit = habits.cancels.then(|| Duration::from_millis(random.random_range(0..15)));
        let room = random.random_range(1..buf.len());
        let news = match waits.wait("a read", time_limit, half.read(&mut buf[..room])).await {
            Waited::Done(Ok(0)) => reports.end_of_stream(&half),
            Waited::Done(Ok(n)) => {
                incoming.feed(&buf[..n], reports.current(), |_| {});
                continue;
            }
            Waited::Cancelled => continue,
            Waited::Done(Err(error)) => reports.error(&error, Direction::Read, &half),
            Waited::Hung => break,
        };
        match news {
            Outcome::Break(generation) => {
                // Of links that it slept through, only the newest is read to its end.
                let (newest, is_up) = half.newest();
                let has_kept_up = newest == generation || (newest == generation + 1 && is_up);
                incoming.next_link(generation, has_kept_up);
            }
            Outcome::NoLink => {
                let _ = waits.wait("connected()", None, half.connected()).await;
            }
            Outcome::Again => unreachable!("only whole connections report a break twice"),
            Outcome::Over => break,
        }
    }
    incoming.next_link(reports.current(), false);
    reports
}
