//! What the clients have in common: how they write and read records, how long they wait, and what they enter into the
//! account.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::{Builder, Conn, Dial, TcpDialer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::account::{Account, HANG, RETRY_MAX, RETRY_MIN};
use crate::compare::{Reading, Writing};
use crate::plan::Habits;
use crate::record::{Parser, Record};
use crate::server::GREETING;

/// A connection with the settings that its habits ask for.
pub(crate) fn builder(
    address: std::net::SocketAddr,
    habits: &Habits,
    account: &Arc<Account>,
    jitter_seed: u64,
) -> Builder<impl Dial<Stream = TcpStream>> {
    let (has_greeting, buffer) = (habits.has_greeting, habits.buffer());
    let (dialing, telling) = (Arc::clone(account), Arc::clone(account));
    let dialer = TcpDialer::new(address).and_then(move |mut stream| {
        let account = Arc::clone(&dialing);
        async move {
            account.dialed_from(stream.local_addr()?.port());
            if let Some(size) = buffer {
                SockRef::from(&stream).set_send_buffer_size(size as usize)?;
            }
            if has_greeting {
                let mut greeting = [0; GREETING.len()];
                stream.read_exact(&mut greeting).await?;
                if greeting != *GREETING {
                    account.violation(format_args!("the greeting was {greeting:?}"));
                }
            }
            Ok(stream)
        }
    });
    let builder = Conn::builder(address)
        .dialer(dialer)
        .dial_timeout(Duration::from_secs(2))
        .retry_min(RETRY_MIN)
        .retry_max(RETRY_MAX)
        .stable_after(Duration::from_millis(50))
        .jitter_seed(jitter_seed)
        .when_down(habits.when_down)
        .idle_timeout(habits.idle_timeout)
        .logger(|_| {})
        .on_event(move |event| telling.event(event));
    match habits.user_timeout {
        Some(limit) => builder.user_timeout(limit),
        None => builder,
    }
}

// ===== waiting =====

/// What became of a wait.
pub(crate) enum Waited<T> {
    Done(T),
    /// The client's own time limit had passed, and it dropped the operation.
    Cancelled,
    /// It waited for so long that the promise is broken.
    Hung,
}

/// One task's waits.
pub(crate) struct Waits {
    account: Arc<Account>,
    /// When an operation last came to its end; by this, one that is cancelled again and again can be seen to hang.
    since: Instant,
}

impl Waits {
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), since: Instant::now() }
    }

    /// Waits for an operation, for as long as `time_limit` allows.
    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        time_limit: Option<Duration>,
        operation: impl Future<Output = T>,
    ) -> Waited<T> {
        let outcome = timeout(time_limit.unwrap_or(HANG), operation).await;
        match outcome {
            Ok(value) => {
                self.since = Instant::now();
                self.account.count(|totals| totals.operations += 1);
                Waited::Done(value)
            }
            Err(_) if self.since.elapsed() < HANG => {
                self.account.count(|totals| totals.cancelled += 1);
                Waited::Cancelled
            }
            Err(_) => {
                self.account.violation(format_args!("hangs: {what}, for {:.0?}", self.since.elapsed()));
                Waited::Hung
            }
        }
    }

    /// The program has made a pause of its own.
    pub(crate) fn restart(&mut self) {
        self.since = Instant::now();
    }
}

// ===== writing =====

/// The record that is being written, and what was written on this link before.
pub(crate) struct Outgoing {
    account: Arc<Account>,
    last_number: u64,
    bytes: Vec<u8>,
    done: usize,
    page: Writing,
}

impl Outgoing {
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        let account = Arc::clone(account);
        Self { account, last_number: 0, bytes: Vec::new(), done: 0, page: Writing::default() }
    }

    /// Begins the next record, and returns its number.
    pub(crate) fn begin(&mut self, generation: u64, length: usize) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        if self.page.begun == 0 {
            self.page.first = number;
        }
        self.page.begun += 1;
        self.bytes = Record { link: generation, number, answers: 0, length }.to_bytes();
        self.done = 0;
        number
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.done < self.bytes.len()
    }

    /// Whether a part of the record was written, and not all of it.
    pub(crate) fn is_begun(&self) -> bool {
        self.done > 0 && self.is_under_way()
    }

    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    /// Writes as much of the record as one call takes. May be cancelled; then the same bytes are still to be written.
    ///
    /// `write` and not `write_all`, so that every byte that the connection took is counted, whatever comes then.
    pub(crate) async fn write<W: AsyncWrite + Unpin>(&mut self, writer: &mut W, generation: u64) -> io::Result<()> {
        let known_broken = self.account.known_broken();
        let start = Instant::now();
        let written = writer.write(&self.bytes[self.done..]).await?;
        if generation <= known_broken {
            self.account.count(|totals| totals.silently_lost += 1);
            self.account.violation(format_args!("a write on generation {generation}, which is known to be broken"));
        }
        if self.account.announced() < generation {
            self.account.violation(format_args!("generation {generation} was written on before its event"));
        }
        self.done += written;
        self.page.bytes += written as u64;
        self.page.last_success = Some(start);
        self.page.whole += u64::from(!self.is_under_way());
        Ok(())
    }

    /// The link is over. What is left of the record belongs to it, and is not sent on another.
    pub(crate) fn next_link(&mut self, generation: u64) {
        self.bytes.clear();
        self.done = 0;
        self.account.written(generation, std::mem::take(&mut self.page));
    }
}

// ===== reading =====

/// What was read on this link.
pub(crate) struct Incoming {
    account: Arc<Account>,
    parser: Parser,
    /// The server's number of the link, once a record has said it.
    link: Option<u64>,
    records: u64,
    bytes: u64,
}

impl Incoming {
    pub(crate) fn new(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), parser: Parser::default(), link: None, records: 0, bytes: 0 }
    }

    /// Checks what was read: whole records, from the link's first one on, none left out, all of one link.
    pub(crate) fn feed(&mut self, bytes: &[u8], generation: u64, mut found: impl FnMut(Record)) {
        let Self { account, parser, link, records, bytes: sum } = self;
        *sum += bytes.len() as u64;
        let outcome = parser.feed(bytes, |record| {
            if *link.get_or_insert(record.link) != record.link || record.number != *records {
                account.violation(format_args!("generation {generation}: read {record:?} after {records} of {link:?}"));
            }
            *records += 1;
            found(record);
        });
        if let Err(error) = outcome {
            account.violation(format_args!("generation {generation}: read {error}"));
            parser.clear();
        }
    }

    /// The link is over: half a record is no record.
    pub(crate) fn next_link(&mut self, generation: u64, must_be_complete: bool) {
        self.parser.clear();
        (self.link, self.records) = (None, 0);
        let bytes = std::mem::take(&mut self.bytes);
        self.account.read(generation, Reading { bytes, must_be_complete });
    }
}
