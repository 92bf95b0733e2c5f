//! A whole connection in one task: it sends requests and reads the answers, and sends again what was not answered when
//! its link broke. So nothing is lost, whatever the server does.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use perconn::Conn;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::account::Account;
use crate::client::{Incoming, Outgoing, Waited, Waits};
use crate::plan::{Habits, pause, payload};
use crate::reports::{Direction, Outcome, Reports};

pub(crate) struct Exchange {
    conn: Conn,
    habits: Habits,
    random: SmallRng,
    account: Arc<Account>,
    reports: Reports,
    waits: Waits,
    outgoing: Outgoing,
    incoming: Incoming,
    /// The numbers of the requests that were sent on this link and not answered yet.
    waiting: VecDeque<u64>,
    /// How many requests have to be sent again.
    to_repeat: u64,
}

impl Exchange {
    pub(crate) fn new(conn: Conn, habits: Habits, account: &Arc<Account>, random: SmallRng) -> Self {
        Self {
            reports: Reports::new(&conn, account),
            waits: Waits::new(account),
            outgoing: Outgoing::new(account),
            incoming: Incoming::new(account),
            account: Arc::clone(account),
            waiting: VecDeque::new(),
            to_repeat: 0,
            conn,
            habits,
            random,
        }
    }

    /// Goes on until the connection is closed.
    pub(crate) async fn run(mut self) -> Reports {
        // Only a client that does not wait for each answer has more than one request in flight.
        let most_waiting = if self.habits.cancels { 3 } else { 1 };
        loop {
            if !self.outgoing.is_under_way() && self.waiting.len() < most_waiting {
                self.pause().await;
                self.begin();
            }
            // A client that cancels alternates between reads and writes, as a `select!` loop does, mostly in mid-record.
            let reads_first = if self.outgoing.is_begun() { 0.8 } else { 0.3 };
            let prefers_reading = self.habits.cancels && self.random.random_bool(reads_first);
            let is_writing = self.outgoing.is_under_way() && !prefers_reading;
            let news = if is_writing { self.write().await } else { self.read().await };
            match news {
                None | Some(Outcome::Again) => {}
                Some(Outcome::Break(generation)) => {
                    if !is_writing && self.outgoing.is_begun() {
                        self.write_rest().await;
                    }
                    self.next_link(generation);
                }
                Some(Outcome::NoLink) => self.wait_for_link().await,
                Some(Outcome::Over) => break,
            }
        }
        let last = self.reports.current();
        self.account.count(|totals| totals.waiting += self.waiting.len() as u64 + self.to_repeat);
        self.outgoing.next_link(last);
        self.incoming.next_link(last, false);
        self.reports
    }

    async fn pause(&mut self) {
        sleep(pause(&mut self.random)).await;
        self.waits.restart();
        if self.habits.reconnects && self.random.random_bool(0.005) {
            self.account.count(|totals| totals.reconnects += 1);
            self.conn.break_link(self.conn.generation());
            self.conn.dial_now();
        }
    }

    fn begin(&mut self) {
        let number = self.outgoing.begin(self.reports.current(), payload(&mut self.random));
        self.waiting.push_back(number);
        let is_repeat = self.to_repeat > 0;
        self.to_repeat -= u64::from(is_repeat);
        self.account.count(|totals| {
            totals.requests += u64::from(!is_repeat);
            totals.requests_sent += 1;
        });
    }

    fn time_limit(&mut self) -> Option<Duration> {
        self.habits.cancels.then(|| Duration::from_millis(self.random.random_range(0..15)))
    }

    /// One write. `None`: it did its work, or was cancelled.
    async fn write(&mut self) -> Option<Outcome> {
        let time_limit = self.time_limit();
        let write = self.outgoing.write(&mut self.conn, self.reports.current());
        let outcome = self.waits.wait("a write", time_limit, write).await;
        match &outcome {
            Waited::Done(Ok(())) if !self.outgoing.is_under_way() => self.reports.complete(Direction::Write),
            Waited::Done(Ok(())) | Waited::Cancelled => self.reports.mark_partial(Direction::Write),
            Waited::Done(Err(_)) | Waited::Hung => {}
        }
        self.news(outcome, Direction::Write)
    }

    /// One read.
    async fn read(&mut self) -> Option<Outcome> {
        let time_limit = self.time_limit();
        let mut buf = [0; 8 * 1024];
        let outcome = match self.waits.wait("a read", time_limit, self.conn.read(&mut buf)).await {
            Waited::Done(Ok(0)) => return Some(self.reports.end_of_stream(&self.conn)),
            Waited::Done(Ok(n)) => {
                self.reports.complete(Direction::Read);
                self.take_answers(&buf[..n]);
                return None;
            }
            Waited::Done(Err(error)) => Waited::Done(Err(error)),
            Waited::Cancelled => {
                self.reports.mark_partial(Direction::Read);
                return None;
            }
            Waited::Hung => Waited::Hung,
        };
        self.news(outcome, Direction::Read)
    }

    fn news(&mut self, outcome: Waited<io::Result<()>>, direction: Direction) -> Option<Outcome> {
        match outcome {
            Waited::Done(Ok(())) | Waited::Cancelled => None,
            Waited::Done(Err(error)) => Some(self.reports.error(&error, direction, &self.conn)),
            Waited::Hung => Some(Outcome::Over),
        }
    }

    /// The server answers in order.
    fn take_answers(&mut self, bytes: &[u8]) {
        let Self { incoming, waiting, account, reports, .. } = self;
        incoming.feed(bytes, reports.current(), |record| {
            if waiting.pop_front() != Some(record.answers) {
                account.violation(format_args!("not the expected answer: {record:?}"));
            }
            account.count(|totals| totals.answered += 1);
        });
    }

    /// A read has reported the break while a record was half written. A `write_all` in another future does not know that
    /// yet: it writes the rest, and must get the error, too.
    async fn write_rest(&mut self) {
        let rest = self.outgoing.rest().to_vec();
        if let Waited::Done(outcome) = self.waits.wait("a write", None, self.conn.write(&rest)).await {
            let news = outcome.map_err(|error| self.reports.error(&error, Direction::Write, &self.conn));
            if !matches!(news, Err(Outcome::Again | Outcome::Over)) {
                self.account.violation(format_args!("the rest of a record was not refused after a break: {news:?}"));
            }
        }
    }

    fn next_link(&mut self, generation: u64) {
        self.outgoing.next_link(generation);
        self.incoming.next_link(generation, false);
        self.to_repeat += self.waiting.drain(..).len() as u64;
    }

    async fn wait_for_link(&mut self) {
        // If the connection has ended, the next operation fails as well.
        let _ = self.waits.wait("connected()", None, self.conn.connected()).await;
    }
}
