//! What arrives when the server is killed again and again, and what arrives twice: `Outbox` beside what people write.
//!
//! The server is a process of its own: it reads lines, reports each that it has read, and then answers it, if the client asks for
//! that with its first line. The clients send
//! numbered lines at full speed while it is killed (SIGKILL) and started again, at the same moments of the stream for each client.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use perconn::codec::tokio_util::codec::LinesCodec;
use perconn::outbox::{Answer, Answers, Outbox, Resend};
use perconn::{Conn, SocketOptions};
use sdre_stubborn_io::StubbornTcpStream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// The argument with which this program is the server. The address follows.
pub(crate) const SERVER: &str = "--server-of-kills";

/// The length of a line.
const LINE: usize = 100;

/// The first line of a link whose lines are to be answered.
const ANSWER_ME: &[u8] = b"answer me\n";

/// After this time without a line, no more are expected.
const QUIET: Duration = Duration::from_millis(500);

/// Stands for a line that is not one of those that were sent.
const TORN: u64 = u64::MAX;

/// What a client does: sends the lines with these numbers, and returns when it believes that it is done.
type Client = fn(SocketAddr, u64) -> Pin<Box<dyn Future<Output = String> + Send>>;

const CLIENTS: [(&str, Client); 7] = [
    ("a loop: connect again, and send the line again that failed", |address, lines| Box::pin(by_hand(address, lines))),
    ("sdre-stubborn-io 0.7, which holds a write until it is connected", |address, lines| {
        Box::pin(stubborn(address, lines))
    }),
    ("perconn's `Conn`, and send the line again that failed", |address, lines| Box::pin(conn(address, lines))),
    ("`Outbox`, and the kernel takes what it can hold", |address, lines| {
        let unlimited = SocketOptions::new().notsent_lowat(i32::MAX as usize);
        Box::pin(outbox(address, lines, Resend::Interrupted, unlimited))
    }),
    ("`Outbox`", |address, lines| Box::pin(outbox(address, lines, Resend::Interrupted, SocketOptions::new()))),
    ("`Outbox` with `Unacknowledged`", |address, lines| {
        Box::pin(outbox(address, lines, Resend::Unacknowledged, SocketOptions::new()))
    }),
    ("`Outbox` with `Unanswered`", |address, lines| {
        let answers = Answers::new(|| LinesCodec::new_with_max_length(16), |_ok| Answer::Next);
        Box::pin(outbox(address, lines, Resend::Unanswered(answers), SocketOptions::new()))
    }),
];

/// What has become of the lines of one client.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) lines: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) torn: u64,
    /// What the client knows of it.
    pub(crate) says: String,
}

pub(crate) fn run(lines: u64, kills: u64) -> Vec<Outcome> {
    println!("\n{lines} lines of {LINE} bytes at full speed, through {kills} kills of the server\n");
    println!("| | lost | twice | torn | what the client knows of it |\n|---|---|---|---|---|");
    let outcomes = CLIENTS.map(|(name, client)| {
        let outcome = play(name, client, lines, kills);
        let percent = outcome.lost as f64 * 100.0 / lines as f64;
        println!(
            "| {name} | {} ({percent:.1} %) | {} | {} | {} |",
            outcome.lost, outcome.twice, outcome.torn, outcome.says
        );
        outcome
    });
    outcomes.into()
}

fn play(name: &'static str, client: Client, lines: u64, kills: u64) -> Outcome {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let received = Arc::new(Received::new(lines));
    let mut server = start(address, &received);
    let (done, is_done) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _ = done.send(runtime.block_on(async move { tokio::spawn(client(address, lines)).await.unwrap() }));
    });
    for number in 1..=kills {
        // All that is left may be lost by the kill before this one.
        if !received.waits_for(number * lines / (kills + 1)) {
            break;
        }
        kill(server);
        server = start(address, &received);
    }
    let says = is_done.recv().unwrap();
    received.waits_for(lines - 1);
    kill(server);
    received.outcome(name, says)
}

/// What the servers have reported.
struct Received {
    counts: Mutex<Vec<u32>>,
    torn: AtomicU64,
    highest: AtomicU64,
}

impl Received {
    fn new(lines: u64) -> Self {
        Self { counts: Mutex::new(vec![0; lines as usize]), torn: AtomicU64::new(0), highest: AtomicU64::new(0) }
    }

    fn report(&self, number: u64) {
        if number == TORN {
            self.torn.fetch_add(1, Ordering::Relaxed);
        } else if let Some(count) = self.counts.lock().unwrap().get_mut(number as usize) {
            *count += 1;
            self.highest.fetch_max(number, Ordering::Relaxed);
        }
    }

    /// Waits for a number, or a later one. Returns whether it has come: false if nothing has come for a while.
    fn waits_for(&self, number: u64) -> bool {
        let mut progress = (0, Instant::now());
        loop {
            let highest = self.highest.load(Ordering::Relaxed);
            if highest >= number {
                return true;
            }
            if highest > progress.0 {
                progress = (highest, Instant::now());
            }
            if progress.1.elapsed() > QUIET {
                return false;
            }
            thread::sleep(Duration::from_micros(100));
        }
    }

    fn outcome(&self, name: &'static str, says: String) -> Outcome {
        let counts = self.counts.lock().unwrap();
        Outcome {
            name,
            lines: counts.len() as u64,
            lost: counts.iter().filter(|count| **count == 0).count() as u64,
            twice: counts.iter().map(|count| u64::from(count.saturating_sub(1))).sum(),
            torn: self.torn.load(Ordering::Relaxed),
            says,
        }
    }
}

/// Kills the server, and waits until all that it has reported is counted.
fn kill((mut process, reports): (Child, JoinHandle<()>)) {
    process.kill().unwrap();
    process.wait().unwrap();
    reports.join().unwrap();
}

/// Starts the server, and waits until it listens.
fn start(address: SocketAddr, received: &Arc<Received>) -> (Child, JoinHandle<()>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([SERVER, &address.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reports = BufReader::new(child.stdout.take().unwrap());
    reports.read_line(&mut String::new()).unwrap();
    let received = Arc::clone(received);
    let reader = thread::spawn(move || {
        let mut number = [0; 8];
        while reports.read_exact(&mut number).is_ok() {
            received.report(u64::from_le_bytes(number));
        }
    });
    (child, reader)
}

/// The server's process.
pub(crate) fn serve(address: &str) {
    let listener = TcpListener::bind(address).unwrap();
    println!("listening");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || read_lines(&mut stream));
    }
}

fn read_lines(stream: &mut TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut reports, mut answers) = (Vec::new(), Vec::new(), false);
    loop {
        line.clear();
        // The part of a line before an end is not one.
        if !matches!(lines.read_until(b'\n', &mut line), Ok(1..)) || line.last() != Some(&b'\n') {
            return;
        }
        if line == ANSWER_ME {
            answers = true;
            continue;
        }
        reports.extend_from_slice(&number_of(&line).unwrap_or(TORN).to_le_bytes());
        if lines.buffer().len() < LINE {
            // First what was done with them, then the answers.
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&reports).and_then(|()| stdout.flush()).unwrap();
            if answers {
                let _ = stream.write_all(&b"ok\n".repeat(reports.len() / 8));
            }
            reports.clear();
        }
    }
}

/// The number of a whole line.
fn number_of(line: &[u8]) -> Option<u64> {
    let is_whole = line.len() == LINE && line[9..LINE - 1].iter().all(|byte| *byte == b'x');
    is_whole.then(|| std::str::from_utf8(&line[..8]).ok()?.parse().ok())?
}

fn line(number: u64) -> Vec<u8> {
    format!("{number:08} {}\n", "x".repeat(LINE - 10)).into_bytes()
}

async fn by_hand(address: SocketAddr, lines: u64) -> String {
    let mut failed = 0;
    let mut stream: Option<tokio::net::TcpStream> = None;
    for number in 0..lines {
        let line = line(number);
        loop {
            if stream.is_none() {
                match tokio::net::TcpStream::connect(address).await {
                    Ok(new) => stream = Some(new),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            } else if let Some(writer) = &mut stream {
                if writer.write_all(&line).await.is_ok() {
                    break;
                }
                failed += 1;
                stream = None;
            }
        }
    }
    if let Some(mut writer) = stream {
        let _ = writer.shutdown().await;
    }
    format!("{failed} failed writes")
}

/// Sends each line until a write of it succeeds.
async fn send_again(mut writer: impl AsyncWrite + Unpin, lines: u64) -> String {
    let mut failed = 0;
    for number in 0..lines {
        while writer.write_all(&line(number)).await.is_err() {
            failed += 1;
        }
    }
    let _ = writer.shutdown().await;
    format!("{failed} failed writes")
}

async fn stubborn(address: SocketAddr, lines: u64) -> String {
    let options = sdre_stubborn_io::ReconnectOptions::new()
        .with_retries_generator(|| std::iter::repeat(Duration::from_millis(10)))
        .with_exit_if_first_connect_fails(false);
    send_again(StubbornTcpStream::connect_with_options(address, options).await.unwrap(), lines).await
}

fn quick<D>(builder: perconn::Builder<D>) -> perconn::Builder<D> {
    builder.retry_min(Duration::from_millis(10)).retry_max(Duration::from_millis(20))
}

async fn conn(address: SocketAddr, lines: u64) -> String {
    send_again(quick(Conn::builder(address)).build().unwrap(), lines).await
}

async fn outbox(address: SocketAddr, lines: u64, resend: Resend, options: SocketOptions) -> String {
    let is_answered = matches!(resend, Resend::Unanswered(_));
    let conn = quick(Conn::builder(address)).socket_options(options).and_then(move |mut stream| async move {
        if is_answered {
            stream.write_all(ANSWER_ME).await?;
        }
        Ok(stream)
    });
    let outbox = Outbox::builder(conn).resend(resend).start().unwrap();
    for number in 0..lines {
        outbox.send(line(number)).await.unwrap();
    }
    outbox.close(Duration::from_secs(60)).await.to_string()
}
