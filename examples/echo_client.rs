//! An echo client whose server keeps dying, and that loses nothing.
//!
//! ```text
//! cargo run --example echo_client                                # starts its own server: about 10 seconds
//! cargo run --example echo_client -- --connect 192.0.2.1:7777    # talks to a server of yours until Ctrl-C
//! cargo run --example echo_client -- --help
//! ```
//!
//! A [`Conn`] tells of each break of its link once, by an ordinary error or the end of the stream, and the next
//! operation works on a fresh link. What it cannot know is which of the bytes that were sent have arrived. So this
//! client numbers its messages and takes the echo of a message as the proof: when it is told of a break, it sends the
//! message without an echo again. That is all that a request-and-response protocol needs; see `Client::deliver`.
//!
//! The demo's server dies in five ways, once with its port closed for seconds. At the end the client counts the
//! messages for which no echo came; the exit status is 0 if there are none.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use perconn::{Address, Conn, Event};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

const HELP: &str = "\
Sends numbered lines to an echo server through a connection that outlives its sockets.

Usage: cargo run --example echo_client [-- OPTION]

Without an option it starts a server of its own, kills it several times, and ends after about 10 seconds.

Options:
  --connect HOST:PORT  talk to this server, one line a second, until Ctrl-C. One to try, stop and start again:
                       socat TCP-LISTEN:7777,reuseaddr,fork EXEC:cat
  -h, --help           print this text

Exit status: 0 if every message was echoed, 1 if one was lost, 2 if an argument is wrong.
The output has colours on a terminal, unless NO_COLOR is set.";

/// What the client has to do.
struct Plan {
    messages: u64,
    pause: Duration,
    time_limit: Duration,
}

const DEMO: Plan = Plan { messages: 30, pause: Duration::from_millis(150), time_limit: Duration::from_secs(18) };
const UNTIL_CTRL_C: Plan = Plan { messages: u64::MAX, pause: Duration::from_secs(1), time_limit: Duration::MAX };

// One thread is enough: the client, the server and the connection's actor are three tasks that mostly wait.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let screen = Arc::new(Screen::new());
    let outcome = match parse(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned())) {
        Ok(Mode::Help) => {
            screen.print(format_args!("{HELP}\n"));
            return ExitCode::SUCCESS;
        }
        Ok(Mode::Demo) => demo(&screen).await,
        Ok(Mode::Connect(address)) => talk(address, &screen, UNTIL_CTRL_C).await,
        Err(text) => Err(io::Error::new(io::ErrorKind::InvalidInput, text)),
    };
    outcome.unwrap_or_else(|error| {
        // Unlike `eprintln!`, this cannot panic if nobody listens.
        let mut stderr = io::stderr().lock();
        let _ = writeln!(stderr, "echo_client: {error}");
        // An argument, or perconn's `InvalidConfig` about the address.
        if error.kind() == io::ErrorKind::InvalidInput {
            let _ = writeln!(stderr, "Try --help.");
            return ExitCode::from(2);
        }
        ExitCode::FAILURE
    })
}

enum Mode {
    Demo,
    Connect(String),
    Help,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Mode, String> {
    let mut mode = Mode::Demo;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-h" | "--help" => return Ok(Mode::Help),
            "--connect" => {
                let address = args.next().filter(|value| !value.starts_with('-'));
                mode = Mode::Connect(address.ok_or("--connect: expected HOST:PORT after it")?);
            }
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    Ok(mode)
}

async fn demo(screen: &Arc<Screen>) -> io::Result<ExitCode> {
    let socket = bind(([127, 0, 0, 1], 0).into())?;
    let address = socket.local_addr()?;
    let server_screen = Arc::clone(screen);
    tokio::spawn(async move {
        if let Err(error) = serve(socket, &server_screen).await {
            // The client finds out for itself: it runs into its time limit.
            server_screen.line("server", Color::Red, format_args!("failed for good: {error}"));
        }
    });
    talk(address, screen, DEMO).await
}

async fn talk(address: impl Into<Address>, screen: &Arc<Screen>, plan: Plan) -> io::Result<ExitCode> {
    let mut client = Client::new(address.into(), screen)?;
    // Any of these drops the others at an await. For the client that is the end, so it need not be cancel safe.
    let ending = tokio::select! {
        outcome = client.converse(&plan) => outcome.map_or_else(Ending::Failed, |()| Ending::Complete),
        () = ctrl_c() => Ending::Interrupted,
        () = sleep(plan.time_limit) => Ending::Failed(io::Error::other("the time is up")),
    };
    client.conn.get_ref().close().await;
    Ok(client.sum_up(ending))
}

async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be installed; then Ctrl-C ends the process by itself.
        std::future::pending().await
    }
}

// ===== the client =====

/// A server that is connected but silent this long counts as dead.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);

struct Client {
    conn: BufReader<Conn>,
    screen: Arc<Screen>,
    links: Arc<LinkTally>,
    tally: Tally,
}

/// What the client itself counts.
#[derive(Default)]
struct Tally {
    sent: u64,
    resent: u64,
    echoed: u64,
    errors_told: u64,
    /// The messages begun for which no echo has come.
    unanswered: BTreeSet<u64>,
}

/// What the connection's events count.
#[derive(Default)]
struct LinkTally {
    reconnects: AtomicU64,
    failed_dials: AtomicU64,
}

enum Ending {
    Complete,
    Interrupted,
    Failed(io::Error),
}

impl Client {
    fn new(address: Address, screen: &Arc<Screen>) -> Result<Self, perconn::Error> {
        let links = Arc::new(LinkTally::default());
        let conn = Conn::builder(address)
            // Short, so that there is something to see. Against a server that others use as well, keep the defaults.
            .retry_min(Duration::from_millis(100))
            .retry_max(Duration::from_secs(1))
            .stable_after(Duration::from_millis(500))
            .dial_timeout(Duration::from_secs(5))
            // The events say the same as the default logger, and more.
            .logger(|_| {})
            .on_event({
                let (screen, links) = (Arc::clone(screen), Arc::clone(&links));
                move |event| links.note(event, &screen)
            })
            // Not `connect()`, which wants the first dial to succeed: a server that is not up yet is waited for, too.
            .build()?;
        Ok(Self { conn: BufReader::new(conn), screen: Arc::clone(screen), links, tally: Tally::default() })
    }

    async fn converse(&mut self, plan: &Plan) -> io::Result<()> {
        for number in 1..=plan.messages {
            self.deliver(number).await?;
            sleep(plan.pause).await;
        }
        Ok(())
    }

    /// Sends a message until its echo has come. A server can get it more than once, and here that does no harm;
    /// elsewhere the number would let the server find the repeats.
    async fn deliver(&mut self, number: u64) -> io::Result<()> {
        self.tally.unanswered.insert(number);
        let line = format!("message {number}\n");
        let mut times_sent = 0;
        while let Err(error) = self.exchange(&line, &mut times_sent).await {
            self.tally.errors_told += 1;
            self.screen.line("client", Color::Red, format_args!("told: {} [message {number}]", chain(&error)));
            if self.conn.get_ref().status().borrow().is_final() {
                // With `max_retries` there would be a time to stop trying.
                return Err(error);
            }
            // What is left of the old link's bytes must not be taken for the new link's.
            let left = self.conn.buffer().len();
            self.conn.consume(left);
        }
        self.tally.unanswered.remove(&number);
        self.tally.echoed += 1;
        self.screen.line("client", Color::Green, format_args!("echoed   message {number}"));
        Ok(())
    }

    /// Sends a line on the link and reads until it comes back; or fails, at the latest when the link breaks.
    async fn exchange(&mut self, line: &str, times_sent: &mut u64) -> io::Result<()> {
        // During an outage, this is where the client waits for the next link.
        self.conn.write_all(line.as_bytes()).await?;
        *times_sent += 1;
        let verb = if *times_sent == 1 {
            self.tally.sent += 1;
            "sent   "
        } else {
            self.tally.resent += 1;
            "re-sent"
        };
        self.screen.line("client", Color::Cyan, format_args!("{verb}  {}", line.trim_end()));
        if let Ok(outcome) = timeout(ECHO_TIMEOUT, self.read_echo(line)).await {
            return outcome;
        }
        // A peer whose machine is gone breaks no link; only the program can know that an answer is overdue.
        self.screen.line("client", Color::Yellow, format_args!("no echo for {ECHO_TIMEOUT:?}: breaks the link"));
        self.conn.get_ref().reconnect();
        self.read_echo(line).await
    }

    async fn read_echo(&mut self, line: &str) -> io::Result<()> {
        loop {
            // A buffer for each line: the half of one that a break leaves goes away with the error.
            let mut bytes = Vec::new();
            self.conn.read_until(b'\n', &mut bytes).await?;
            let text = String::from_utf8_lossy(&bytes);
            match text.strip_suffix('\n') {
                _ if text == line => return Ok(()),
                Some(other) => {
                    self.screen.line("client", Color::Yellow, format_args!("ignored  {other:?}, which is no echo"));
                }
                // `Ok(0)` from the connection: the server closed in good order, which is a break like any other.
                None if text.is_empty() => return Err(end_of_stream("end of the stream".into())),
                None => return Err(end_of_stream(format!("end of the stream after half a line, {text:?}"))),
            }
        }
    }

    fn sum_up(mut self, ending: Ending) -> ExitCode {
        let (color, text) = match &ending {
            Ending::Complete => (Color::Green, "done".into()),
            Ending::Interrupted => (Color::Yellow, "interrupted".into()),
            Ending::Failed(error) => (Color::Red, format!("stopped: {}", chain(error))),
        };
        self.screen.line("summary", color, text);
        if matches!(ending, Ending::Interrupted) {
            // The message that was under way is not lost: it had no time left to be sent again.
            if let Some(number) = self.tally.unanswered.pop_last() {
                self.screen.line("summary", color, format_args!("message {number} was still waiting for its echo"));
            }
        }
        let lost = self.tally.unanswered.len() as u64;
        for (name, count) in [
            ("messages sent", self.tally.sent),
            ("echoed", self.tally.echoed),
            ("errors told", self.tally.errors_told),
            ("failed dials", self.links.failed_dials.load(Ordering::Relaxed)),
            ("reconnects", self.links.reconnects.load(Ordering::Relaxed)),
            ("resent", self.tally.resent),
        ] {
            self.screen.line("summary", Color::Plain, format_args!("{name}: {count}"));
        }
        let color = if lost == 0 { Color::Green } else { Color::Red };
        self.screen.line("summary", color, format_args!("lost: {lost}"));
        if lost > 0 || matches!(ending, Ending::Failed(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl LinkTally {
    /// The event hook. It runs on the connection's own task, so it must be quick.
    fn note(&self, event: &Event, screen: &Screen) {
        match event {
            Event::Reconnected { .. } => {
                self.reconnects.fetch_add(1, Ordering::Relaxed);
            }
            Event::DialFailed { .. } => {
                self.failed_dials.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        match event {
            Event::Disconnected { cause, .. } | Event::DialFailed { cause, .. } => {
                screen.line("link", Color::Yellow, format_args!("{event} [{}]", chain(&**cause)));
            }
            Event::Connected { .. } | Event::Reconnected { .. } => screen.line("link", Color::Blue, event),
            _ => screen.line("link", Color::Plain, event),
        }
    }
}

fn end_of_stream(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

/// An error and its causes: each message of perconn says its own level only.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

// ===== the server =====

/// How the server goes, and how long it then stays away.
const DEATHS: [(Death, Duration); 5] = [
    (Death::Close, Duration::ZERO),
    (Death::Reset, Duration::ZERO),
    (Death::HalfLine, Duration::ZERO),
    (Death::Idle, Duration::ZERO),
    (Death::Reset, Duration::from_secs(3)),
];

/// Lines that are echoed in each life but the last. They take longer than `stable_after`, so the redial is prompt.
const LINES_PER_LIFE: u64 = 5;

#[derive(Clone, Copy)]
enum Death {
    /// In good order, but with a line unanswered.
    Close,
    /// Without a word to the client, as after a crash: its end of the socket fails with "connection reset".
    Reset,
    /// In the middle of an echo.
    HalfLine,
    /// Between two lines, while nobody reads or writes.
    Idle,
}

/// Echoes lines and dies, again and again; the last life has no end.
async fn serve(mut socket: TcpSocket, screen: &Screen) -> io::Result<()> {
    let address = socket.local_addr()?;
    for (death, absence) in DEATHS {
        screen.line("server", Color::Magenta, format_args!("up on {address}"));
        let listener = socket.listen(16)?;
        let mut stream = BufReader::new(listener.accept().await?.0);
        echo(&mut stream, LINES_PER_LIFE).await?;
        let mut last_line = Vec::new();
        if !matches!(death, Death::Idle) {
            // An orderly close needs this: one with unread bytes is turned into a reset.
            stream.read_until(b'\n', &mut last_line).await?;
        }
        // A bound socket refuses dials until it listens, and nobody else gets the port meanwhile.
        drop(listener);
        socket = bind(address)?;
        die(stream, death, &last_line, screen).await?;
        sleep(absence).await;
    }
    screen.line("server", Color::Magenta, format_args!("up on {address}, to stay"));
    let listener = socket.listen(16)?;
    loop {
        echo(&mut BufReader::new(listener.accept().await?.0), u64::MAX).await?;
    }
}

/// Takes a port, without listening on it yet.
fn bind(address: std::net::SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // A port can be taken again while connections of the last life linger. On Windows, where that needs no option,
    // this one would allow to steal it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn echo(stream: &mut BufReader<TcpStream>, lines: u64) -> io::Result<()> {
    for _ in 0..lines {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            break;
        }
        stream.write_all(&line).await?;
    }
    Ok(())
}

/// Ends a connection by dropping it.
async fn die(mut stream: BufReader<TcpStream>, death: Death, last_line: &[u8], screen: &Screen) -> io::Result<()> {
    let how = match death {
        Death::Close => "closes in good order, a line unanswered",
        Death::Idle => "closes in good order, nothing under way",
        Death::Reset => {
            stream.get_ref().set_zero_linger()?;
            "crashes: resets the connection"
        }
        Death::HalfLine => {
            stream.write_all(&last_line[..last_line.len() / 2]).await?;
            "dies in the middle of an echo"
        }
    };
    screen.line("server", Color::Magenta, how);
    Ok(())
}

// ===== the screen =====

/// Standard output, in lines that begin with the time.
struct Screen {
    start: Instant,
    has_color: bool,
}

/// The number is the terminal's code.
#[derive(Clone, Copy)]
enum Color {
    Plain = 0,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Magenta = 35,
    Cyan = 36,
}

impl Screen {
    fn new() -> Self {
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { start: Instant::now(), has_color: io::stdout().is_terminal() && !is_unwanted }
    }

    fn line(&self, who: &str, color: Color, text: impl Display) {
        let time = self.start.elapsed().as_secs_f64();
        if self.has_color {
            self.print(format_args!("{time:>7.3}s  {who:<7}  \x1b[{}m{text}\x1b[0m", color as u8));
        } else {
            self.print(format_args!("{time:>7.3}s  {who:<7}  {text}"));
        }
    }

    fn print(&self, text: impl Display) {
        let mut stdout = io::stdout().lock();
        // Flushed, so that a pipe gets each line at once.
        if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            // Nobody reads any more, as after `| head -3`: no failure, and nothing left to do.
            let is_unread = error.kind() == io::ErrorKind::BrokenPipe;
            std::process::exit(if is_unread { 0 } else { 1 });
        }
    }
}
