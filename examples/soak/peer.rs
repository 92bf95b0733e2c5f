//! The server's end of one link.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::account::Account;
use crate::compare::Served;
use crate::record::{HEADER, Parser, Record};

/// Answers are short, so that a client which is still writing its requests need not read meanwhile.
const LONGEST_ANSWER: usize = 500;

/// How long to wait for the end of a client that ought to have ended.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) struct Peer {
    stream: TcpStream,
    /// Whether to send a stream of records, instead of an answer to each request.
    is_streaming: bool,
    receiving: Receiving,
    sending: Sending,
}

impl Peer {
    pub(crate) fn new(
        stream: TcpStream,
        link: u64,
        is_streaming: bool,
        account: &Arc<Account>,
        random: SmallRng,
    ) -> Self {
        let receiving = Receiving {
            account: Arc::clone(account),
            parser: Parser::default(),
            served: Served::new(Instant::now()),
            requests: Vec::new(),
        };
        let sending = Sending { link, records: 0, bytes: 0, rest: Vec::new(), random };
        Self { stream, is_streaming, receiving, sending }
    }

    /// Sends what is no record.
    pub(crate) async fn send_plain(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Takes up to this number of records, for a limited time, and sends answers or a stream of its own. An error: the client has
    /// ended the link.
    pub(crate) async fn talk(&mut self, records: u64, limit: Duration) -> io::Result<()> {
        let Self { stream, is_streaming, receiving, sending } = self;
        let enough = receiving.served.records.saturating_add(records);
        let (mut input, mut output) = stream.split();
        let talk = async {
            if *is_streaming {
                return tokio::select! {
                    outcome = receiving.receive(&mut input, enough) => outcome,
                    outcome = sending.stream(&mut output) => outcome,
                };
            }
            while receiving.served.records < enough {
                sending.push(&mut output).await?;
                receiving.read(&mut input, 32 * 1024).await?;
                sending.answer(receiving.requests.drain(..));
            }
            sending.push(&mut output).await
        };
        // The time limit is no error: the link comes to its fault with fewer records.
        timeout(limit, talk).await.unwrap_or(Ok(()))
    }

    pub(crate) async fn read_slowly(&mut self, end: Instant) -> io::Result<()> {
        let Self { stream, is_streaming, receiving, sending } = self;
        while Instant::now() < end {
            sleep(Duration::from_millis(sending.random.random_range(1..5))).await;
            let room = sending.random.random_range(1..2_000);
            let Ok(outcome) = timeout(Duration::from_millis(20), receiving.read(stream, room)).await else { continue };
            outcome?;
            if !*is_streaming {
                sending.answer(receiving.requests.drain(..));
                sending.push(stream).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn send_half_a_record(&mut self) -> io::Result<()> {
        let record = self.sending.next(0, 300);
        self.sending.rest.extend(&record[..HEADER + 100]);
        // The rest of an earlier record can stand before it, for which the client may take its time.
        timeout(Duration::from_secs(1), self.sending.push(&mut self.stream)).await.unwrap_or(Ok(()))
    }

    /// Waits for bytes that will not be read.
    pub(crate) async fn wait_for_unread(&mut self, limit: Duration) {
        let _ = timeout(limit, self.stream.peek(&mut [0])).await;
    }

    /// Ends this side, and reads on until the client has ended the other.
    pub(crate) async fn close_and_drain(mut self) -> Served {
        // It fails if the client was faster.
        let _ = self.stream.shutdown().await;
        self.receiving.served.closed = Some(Instant::now());
        self.drain().await
    }

    /// Closes without another look at what the client sends.
    pub(crate) fn close(mut self, is_orderly: bool) -> Served {
        if !is_orderly {
            // The kernel does not refuse it.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
        drop(self.stream);
        self.receiving.served.closed = Some(Instant::now());
        Served { sent: self.sending.bytes, ..self.receiving.served }
    }

    /// Reads what the client sent before it ended the link.
    pub(crate) async fn drain(mut self) -> Served {
        let Self { stream, receiving, .. } = &mut self;
        // It ends with an error, as the stream does.
        let _ = timeout(DRAIN, receiving.receive(stream, u64::MAX)).await;
        Served { sent: self.sending.bytes, ..self.receiving.served }
    }
}

/// What comes in.
struct Receiving {
    account: Arc<Account>,
    parser: Parser,
    served: Served,
    /// Those that have no answer yet.
    requests: Vec<Record>,
}

impl Receiving {
    async fn receive(&mut self, input: &mut (impl AsyncRead + Unpin), enough: u64) -> io::Result<()> {
        while self.served.records < enough {
            self.read(input, 32 * 1024).await?;
            self.requests.clear();
        }
        Ok(())
    }

    /// One read. The end of the stream is an error.
    async fn read(&mut self, input: &mut (impl AsyncRead + Unpin), room: usize) -> io::Result<()> {
        let mut buf = vec![0; room];
        let outcome = input.read(&mut buf).await;
        // The kernel gives all that it has before it says that there will be no more.
        self.served.is_complete = !matches!(outcome, Ok(1..));
        let n = outcome?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.served.bytes += n as u64;
        let Self { account, parser, served, requests } = self;
        let outcome = parser.feed(&buf[..n], |record| {
            let is_next = (served.generation, served.last + 1) == (record.link, record.number);
            if served.records == 0 {
                (served.generation, served.first) = (record.link, record.number);
            } else if !is_next {
                account.violation(format_args!(
                    "the server got {record:?} after number {} of generation {}",
                    served.last, served.generation
                ));
            }
            served.last = record.number;
            served.records += 1;
            requests.push(record);
        });
        outcome.inspect_err(|error| {
            let (records, generation) = (served.records, served.generation);
            account.violation(format_args!("the server got, after {records} records of {generation}: {error}"));
        })
    }
}

/// What goes out.
struct Sending {
    link: u64,
    records: u64,
    /// What the kernel has taken.
    bytes: u64,
    /// What it has not taken yet. A record that was begun must be ended before the next.
    rest: Vec<u8>,
    random: SmallRng,
}

impl Sending {
    fn next(&mut self, answers: u64, length: usize) -> Vec<u8> {
        let number = self.records;
        self.records += 1;
        Record { link: self.link, number, answers, length }.to_bytes()
    }

    fn answer(&mut self, requests: impl Iterator<Item = Record>) {
        for request in requests {
            let answer = self.next(request.number, request.length.min(LONGEST_ANSWER));
            self.rest.extend(answer);
        }
    }

    /// Sends records of its own, without end.
    async fn stream(&mut self, output: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            self.push(output).await?;
            sleep(Duration::from_millis(self.random.random_range(0..30))).await;
            let length = self.random.random_range(0..5_000);
            self.rest = self.next(0, length);
        }
    }

    /// Sends what is there. May be cancelled.
    async fn push(&mut self, output: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.rest.is_empty() {
            let n = output.write(&self.rest).await?;
            self.rest.drain(..n);
            self.bytes += n as u64;
        }
        Ok(())
    }
}
