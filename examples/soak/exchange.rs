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
use crate::told::{Direction, News, Told};

pub(crate) struct Exchange {
    conn: Conn,
    habits: Habits,
    random: SmallRng,
    account: Arc<Account>,
    told: Told,
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
            told: Told::new(&conn, account),
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
    pub(crate) async fn run(mut self) -> Told {
        // More than one request under way makes sense only for who does not wait for each answer.
        let most_waiting = if self.habits.cancels { 3 } else { 1 };
        loop {
            if !self.outgoing.is_under_way() && self.waiting.len() < most_waiting {
                self.pause().await;
                self.begin();
            }
            // Who cancels does a bit of this and a bit of that, as a `select!` loop does; most of all in mid-record.
            let reads_first = if self.outgoing.is_begun() { 0.8 } else { 0.3 };
            let prefers_reading = self.habits.cancels && self.random.random_bool(reads_first);
            let is_writing = self.outgoing.is_under_way() && !prefers_reading;
            let news = if is_writing { self.write().await } else { self.read().await };
            match news {
                None | Some(News::Again) => {}
                Some(News::Break(generation)) => {
                    if !is_writing && self.outgoing.is_begun() {
                        self.insist().await;
                    }
                    self.turn_page(generation);
                }
                Some(News::NoLink) => self.wait_for_link().await,
                Some(News::Over) => break,
            }
        }
        let last = self.told.current();
        self.account.count(|totals| totals.waiting += self.waiting.len() as u64 + self.to_repeat);
        self.outgoing.turn_page(last);
        self.incoming.turn_page(last, false);
        self.told
    }

    async fn pause(&mut self) {
        sleep(pause(&mut self.random)).await;
        self.waits.restart();
        if self.habits.reconnects && self.random.random_bool(0.005) {
            self.account.count(|totals| totals.reconnects += 1);
            self.conn.reconnect();
        }
    }

    fn begin(&mut self) {
        let number = self.outgoing.begin(self.told.current(), payload(&mut self.random));
        self.waiting.push_back(number);
        let is_repeat = self.to_repeat > 0;
        self.to_repeat -= u64::from(is_repeat);
        self.account.count(|totals| {
            totals.requests += u64::from(!is_repeat);
            totals.requests_sent += 1;
        });
    }

    fn patience(&mut self) -> Option<Duration> {
        self.habits.cancels.then(|| Duration::from_millis(self.random.random_range(0..15)))
    }

    /// One write. `None`: it did its work, or was cancelled.
    async fn write(&mut self) -> Option<News> {
        let patience = self.patience();
        let write = self.outgoing.write(&mut self.conn, self.told.current());
        let outcome = self.waits.wait("a write", patience, write).await;
        match &outcome {
            Waited::Done(Ok(())) if !self.outgoing.is_under_way() => self.told.complete(Direction::Write),
            Waited::Done(Ok(())) | Waited::Cancelled => self.told.loosen(Direction::Write),
            Waited::Done(Err(_)) | Waited::Hung => {}
        }
        self.news(outcome, Direction::Write)
    }

    /// One read.
    async fn read(&mut self) -> Option<News> {
        let patience = self.patience();
        let mut buf = [0; 8 * 1024];
        let outcome = match self.waits.wait("a read", patience, self.conn.read(&mut buf)).await {
            Waited::Done(Ok(0)) => return Some(self.told.end_of_stream(&self.conn)),
            Waited::Done(Ok(n)) => {
                self.told.complete(Direction::Read);
                self.take_answers(&buf[..n]);
                return None;
            }
            Waited::Done(Err(error)) => Waited::Done(Err(error)),
            Waited::Cancelled => {
                self.told.loosen(Direction::Read);
                return None;
            }
            Waited::Hung => Waited::Hung,
        };
        self.news(outcome, Direction::Read)
    }

    fn news(&mut self, outcome: Waited<io::Result<()>>, direction: Direction) -> Option<News> {
        match outcome {
            Waited::Done(Ok(())) | Waited::Cancelled => None,
            Waited::Done(Err(error)) => Some(self.told.error(&error, direction, &self.conn)),
            Waited::Hung => Some(News::Over),
        }
    }

    /// The server answers in order.
    fn take_answers(&mut self, bytes: &[u8]) {
        let Self { incoming, waiting, account, told, .. } = self;
        incoming.feed(bytes, told.current(), |record| {
            if waiting.pop_front() != Some(record.answers) {
                account.violation(format_args!("not the answer that was waited for: {record:?}"));
            }
            account.count(|totals| totals.answered += 1);
        });
    }

    /// A read was told of the break while a record was written in part. Who does not know that yet, as a `write_all`
    /// under way in another future, writes the rest, and must be told, too.
    async fn insist(&mut self) {
        let rest = self.outgoing.rest().to_vec();
        if let Waited::Done(outcome) = self.waits.wait("a write", None, self.conn.write(&rest)).await {
            let news = outcome.map_err(|error| self.told.error(&error, Direction::Write, &self.conn));
            if !matches!(news, Err(News::Again | News::Over)) {
                self.account.violation(format_args!("the rest of a record was not refused after a break: {news:?}"));
            }
        }
    }

    fn turn_page(&mut self, generation: u64) {
        self.outgoing.turn_page(generation);
        self.incoming.turn_page(generation, false);
        self.to_repeat += self.waiting.drain(..).len() as u64;
    }

    async fn wait_for_link(&mut self) {
        // An end is told by the next operation as well.
        let _ = self.waits.wait("connected()", None, self.conn.connected()).await;
    }
}
