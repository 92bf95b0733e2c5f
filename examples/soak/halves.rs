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
use crate::told::{Direction, Handle, News, Told};

/// Writes records until the connection is closed.
pub(crate) async fn write(mut half: WriteHalf, habits: Habits, account: Arc<Account>, mut random: SmallRng) -> Told {
    let mut told = Told::new(&half, &account);
    let mut waits = Waits::new(&account);
    let mut outgoing = Outgoing::new(&account);
    loop {
        if !outgoing.is_under_way() {
            sleep(pause(&mut random)).await;
            waits.restart();
            if habits.reconnects && random.random_bool(0.002) {
                account.count(|totals| totals.reconnects += 1);
                half.reconnect();
            }
            outgoing.begin(told.current(), payload(&mut random));
        }
        let patience = habits.cancels.then(|| Duration::from_millis(random.random_range(0..15)));
        let news = match waits.wait("a write", patience, outgoing.write(&mut half, told.current())).await {
            Waited::Done(Ok(())) | Waited::Cancelled => continue,
            Waited::Done(Err(error)) => told.error(&error, Direction::Write, &half),
            Waited::Hung => break,
        };
        match news {
            News::Break(generation) => outgoing.turn_page(generation),
            News::NoLink => {
                // An end is told by the next operation as well.
                let _ = waits.wait("connected()", None, half.connected()).await;
            }
            News::Again => unreachable!("only whole connections are told again"),
            News::Over => break,
        }
    }
    outgoing.turn_page(told.current());
    told
}

/// Reads the server's records until the connection is closed.
pub(crate) async fn read(mut half: ReadHalf, habits: Habits, account: Arc<Account>, mut random: SmallRng) -> Told {
    let mut told = Told::new(&half, &account);
    let mut waits = Waits::new(&account);
    let mut incoming = Incoming::new(&account);
    let mut buf = vec![0; 16 * 1024];
    loop {
        let patience = habits.cancels.then(|| Duration::from_millis(random.random_range(0..15)));
        let room = random.random_range(1..buf.len());
        let news = match waits.wait("a read", patience, half.read(&mut buf[..room])).await {
            Waited::Done(Ok(0)) => told.end_of_stream(&half),
            Waited::Done(Ok(n)) => {
                incoming.feed(&buf[..n], told.current(), |_| {});
                continue;
            }
            Waited::Cancelled => continue,
            Waited::Done(Err(error)) => told.error(&error, Direction::Read, &half),
            Waited::Hung => break,
        };
        match news {
            News::Break(generation) => {
                // Of links that it slept through, only the newest is read to its end.
                let (newest, is_up) = half.newest();
                let has_kept_up = newest == generation || (newest == generation + 1 && is_up);
                incoming.turn_page(generation, has_kept_up);
            }
            News::NoLink => {
                let _ = waits.wait("connected()", None, half.connected()).await;
            }
            News::Again => unreachable!("only whole connections are told again"),
            News::Over => break,
        }
    }
    incoming.turn_page(told.current(), false);
    told
}
