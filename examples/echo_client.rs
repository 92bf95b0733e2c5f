//! An echo client whose server seems to die again and again, and that loses nothing.
//!
//! ```text
//! cargo run --example echo_client                                # starts its own server: about 10 seconds
//! cargo run --example echo_client -- --connect 192.0.2.1:7777    # talks to a server of yours until Ctrl-C
//! cargo run --example echo_client -- --help
//! ```
//!
//! A [`Conn`] reports each break of its link once, by an ordinary error, and the next operation works on a fresh link. It
//! cannot know which of the sent bytes have arrived. So this client numbers its messages and takes the echo of a message
//! as the proof. After a break it repeats the message that has no echo yet. See `Client::deliver`.
//!
//! The demo's server only echoes. A [`FaultProxy`] before it plays five deaths of it, the last one for seconds: see
//! `play_deaths`. In the end the client counts the messages for which no echo came; the exit status is 0 if there are
//! none.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perconn::acceptor::{Acceptor, Peer, Stream};
use perconn::testing::{Cut, FaultProxy, Link};
use perconn::{Address, Conn, Event};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};

const HELP: &str = "\
Sends numbered lines to an echo server through a connection that outlives its sockets.

Usage: cargo run --example echo_client [-- OPTION]

Without an option it starts a server of its own, behind a proxy that plays five deaths of it, and ends after about 10
seconds.

Options:
  --connect HOST:PORT  talk to this server, one line a second, until Ctrl-C. One to start and to kill:
                       socat TCP-LISTEN:7777,reuseaddr,fork EXEC:cat
  -h, --help           print this text

Exit status: 0 if every message was echoed, 1 if one was lost, 2 if an argument is wrong.
The output has colors on a terminal, unless NO_COLOR is set.";

/// What the client has to do.
struct Plan {
    messages: u64,
    pause: Duration,
    time_limit: Duration,
}

const DEMO: Plan = Plan { messages: 30, pause: Duration::from_millis(200), time_limit: Duration::from_secs(18) };
const UNTIL_CTRL_C: Plan = Plan { messages: u64::MAX, pause: Duration::from_secs(1), time_limit: Duration::MAX };

// One thread is enough: the client, the server and the connection's actor are tasks that mostly wait.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let screen = Arc::new(Screen::new());
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        _ if args.contains(&"--help") || args.contains(&"-h") => {
            screen.print(HELP);
            Ok(ExitCode::SUCCESS)
        }
        [] => demo(&screen).await,
        ["--connect"] => Err(wrong_usage("--connect: expected HOST:PORT after it")),
        ["--connect", address] => talk(address, &screen, UNTIL_CTRL_C).await,
        ["--connect", _, other, ..] | [other, ..] => Err(wrong_usage(&format!("unknown argument {other:?}"))),
    };
    outcome.unwrap_or_else(|error| {
        // perconn's `InvalidConfig`, which is about the address here, is of this kind, too.
        let is_usage = error.kind() == io::ErrorKind::InvalidInput;
        let hint = if is_usage { "\nTry --help." } else { "" };
        // Unlike `eprintln!`, this cannot panic if nobody reads.
        let _ = writeln!(io::stderr(), "echo_client: {error}{hint}");
        ExitCode::from(if is_usage { 2 } else { 1 })
    })
}

fn wrong_usage(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

async fn demo(screen: &Arc<Screen>) -> io::Result<ExitCode> {
    let server = Acceptor::builder("127.0.0.1:0").handler(echo).build()?;
    let proxy = Arc::new(FaultProxy::start(server.local_addr()?).await?);
    tokio::spawn(play_deaths(Arc::clone(&proxy), Arc::clone(screen)));
    talk(proxy.addr(), screen, DEMO).await
}

async fn talk(address: impl Into<Address>, screen: &Arc<Screen>, plan: Plan) -> io::Result<ExitCode> {
    let mut client = Client::new(address.into(), screen)?;
    // The first one that is ready drops the others at an await. The client ends then, so it need not be cancel safe.
    let (is_success, ending) = tokio::select! {
        outcome = client.converse(&plan) => match outcome {
            Ok(()) => (true, "done".to_owned()),
            Err(error) => (false, chain(&error)),
        },
        () = sleep(plan.time_limit) => (false, format!("not done within {:?}", plan.time_limit)),
        () = ctrl_c() => match client.tally.unanswered.pop_last() {
            // It is not lost: it would have been sent again.
            Some(number) => (true, format!("interrupted, message {number} was waiting for its echo")),
            None => (true, "interrupted".to_owned()),
        },
    };
    let conn = client.conn.get_ref();
    conn.close().await;
    // The first link is no reconnect.
    let lost = client.tally.sum_up(&ending, conn.generation().saturating_sub(1), screen);
    Ok(if is_success && lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        // No handler could be installed, so Ctrl-C ends the process by itself.
        std::future::pending::<()>().await;
    }
}

// ===== the client =====

/// A server that is connected but silent for this long counts as dead.
const ECHO_TIMEOUT: Duration = Duration::from_secs(5);

struct Client {
    conn: BufReader<Conn>,
    screen: Arc<Screen>,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    sent: u64,
    resent: u64,
    echoed: u64,
    errors: u64,
    /// The messages begun whose echo has not come.
    unanswered: BTreeSet<u64>,
}

impl Client {
    fn new(address: Address, screen: &Arc<Screen>) -> Result<Self, perconn::Error> {
        let event_screen = Arc::clone(screen);
        let conn = Conn::builder(address)
            // Short, so that there is something to see. Against a server that others use as well, keep the defaults.
            .retry_min(Duration::from_millis(100))
            .retry_max(Duration::from_secs(1))
            .stable_after(Duration::from_millis(500))
            // In the middle of an echo, the server's close is a break like any other.
            .close_as_error(true)
            // The events say what the default logger says, and more.
            .logger(|_| {})
            .on_event(move |event| show(event, &event_screen))
            // Not `connect()`, for which the first dial must succeed: a server that is not up yet is waited for, too.
            .build()?;
        Ok(Self { conn: BufReader::new(conn), screen: Arc::clone(screen), tally: Tally::default() })
    }

    async fn converse(&mut self, plan: &Plan) -> io::Result<()> {
        for number in 1..=plan.messages {
            self.deliver(number).await?;
            sleep(plan.pause).await;
        }
        Ok(())
    }

    /// Sends a message until its echo has come. The server can get it twice, which does no harm here; elsewhere it
    /// would know a repeat by its number.
    async fn deliver(&mut self, number: u64) -> io::Result<()> {
        self.tally.unanswered.insert(number);
        let line = format!("message {number}\n");
        let mut is_repeat = false;
        while let Err(error) = self.exchange(&line, &mut is_repeat).await {
            self.tally.errors += 1;
            self.say(Color::Red, "error", format_args!("{} [message {number}]", chain(&error)));
            if self.conn.get_ref().status().is_final() {
                // Not here, but `max_retries` would put an end to it.
                return Err(error);
            }
            // What is left of the old link's bytes must not pass for the new link's.
            let left = self.conn.buffer().len();
            self.conn.consume(left);
        }
        self.tally.echoed += u64::from(self.tally.unanswered.remove(&number));
        self.say(Color::Green, "echoed", line.trim_end());
        Ok(())
    }

    /// Sends a line and reads until it comes back, all on one link; fails when that breaks.
    async fn exchange(&mut self, line: &str, is_repeat: &mut bool) -> io::Result<()> {
        // During an outage, this is where the client waits for the next link.
        self.conn.write_all(line.as_bytes()).await?;
        let (count, verb) = match std::mem::replace(is_repeat, true) {
            false => (&mut self.tally.sent, "sent"),
            true => (&mut self.tally.resent, "resent"),
        };
        *count += 1;
        self.say(Color::Cyan, verb, line.trim_end());
        if let Ok(outcome) = timeout(ECHO_TIMEOUT, self.read_echo(line)).await {
            return outcome;
        }
        // A machine that is cut off breaks no link. Only the program can know that an answer is overdue. What may still
        // arrive on this link is not the answer to the next message.
        self.conn.get_mut().abandon();
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no echo for {ECHO_TIMEOUT:?}, so the link is abandoned")))
    }

    async fn read_echo(&mut self, line: &str) -> io::Result<()> {
        loop {
            // A buffer for each line: the half that a break leaves goes away with the error.
            let mut bytes = Vec::new();
            self.conn.read_until(b'\n', &mut bytes).await?;
            let text = String::from_utf8_lossy(&bytes);
            if text == line {
                return Ok(());
            }
            self.say(Color::Yellow, "ignored", format_args!("{text:?}, which is no echo"));
        }
    }

    fn say(&self, color: Color, verb: &str, what: impl Display) {
        self.screen.line("client", color, format_args!("{verb:<7}  {what}"));
    }
}

impl Tally {
    /// Returns how many messages were lost.
    fn sum_up(&self, ending: &str, reconnects: u64, screen: &Screen) -> usize {
        let Self { sent, resent, echoed, errors, unanswered } = self;
        let lost = unanswered.len();
        let color = if lost == 0 { Color::Green } else { Color::Red };
        screen.line("summary", color, ending);
        let messages = format!("messages sent: {sent}, resent: {resent}, echoed: {echoed}");
        let breaks = format!("errors: {errors}, reconnects: {reconnects}");
        screen.line("summary", color, format_args!("{messages}, {breaks}, lost: {lost}"));
        lost
    }
}

/// The event hook. It runs on the connection's own task, so it must be quick.
fn show(event: &Event, screen: &Screen) {
    let color = match event {
        Event::Disconnected { .. } | Event::DialFailed { .. } => Color::Yellow,
        _ => Color::Blue,
    };
    screen.line("link", color, event);
}

/// An error and its causes. Each one says only its own part.
fn chain(error: &(dyn Error + 'static)) -> String {
    let levels = std::iter::successors(Some(error), |&error| error.source());
    levels.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

// ===== the server and its deaths =====

/// Sends back what it gets.
async fn echo(stream: Stream, _: Peer) -> io::Result<()> {
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await.map(drop)
}

/// Plays five deaths of the server, one on each link.
async fn play_deaths(proxy: Arc<FaultProxy>, screen: Arc<Screen>) {
    proxy.script([
        Link::pass().cut_at("message 6\n", Cut::Close),
        Link::pass().cut_at("message 11\n", Cut::Reset),
        // 11 bytes each: five echoes, and half of the sixth.
        Link::pass().cut_after_from_server(60, Cut::Close),
        Link::pass(),
        Link::pass().cut_at("message 26\n", Cut::Reset),
    ]);
    let say = |what: &str| screen.line("proxy", Color::Magenta, what);
    say(&format!("up on {}, before an echo server whose deaths it plays", proxy.addr()));

    five_echoes(&proxy, 1).await;
    say("will close, with the next message unanswered");
    five_echoes(&proxy, 2).await;
    say("will crash at the next message, which resets the connection");
    five_echoes(&proxy, 3).await;
    say("will close in the middle of the next echo");
    five_echoes(&proxy, 4).await;
    say("closes between two messages, while nobody reads or writes");
    proxy.cut(Cut::Close);
    five_echoes(&proxy, 5).await;
    say("will crash at the next message, and refuse dials for 3 seconds");
    // The link goes on, until the script resets it.
    proxy.refuse();
    proxy.wait_for_ends(5).await;
    sleep(Duration::from_secs(3)).await;
    say("takes dials again");
    proxy.heal();
}

/// Waits until the client has five echoes on this link and pauses before its next message.
async fn five_echoes(proxy: &FaultProxy, link: usize) {
    // An echo has 10 or 11 bytes.
    proxy.wait_for(move |links| links.get(link - 1).is_some_and(|link| link.to_client >= 50)).await;
    sleep(DEMO.pause / 2).await;
}

// ===== the screen =====

/// Standard output, in lines that begin with the time.
struct Screen {
    start: Instant,
    has_color: bool,
}

/// The numbers are the terminal's.
#[derive(Clone, Copy)]
enum Color {
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

    fn line(&self, source: &str, color: Color, text: impl Display) {
        let start = format!("{:>7.3}s  {source:<7}", self.start.elapsed().as_secs_f64());
        match self.has_color {
            true => self.print(format_args!("{start}  \x1b[{}m{text}\x1b[0m", color as u8)),
            false => self.print(format_args!("{start}  {text}")),
        }
    }

    fn print(&self, text: impl Display) {
        let mut stdout = io::stdout().lock();
        // Flushed, so that a pipe gets each line at once.
        if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            // That nobody reads any more, as after `| head -3`, is no failure. Either way there is nothing left to do.
            std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
        }
    }
}
