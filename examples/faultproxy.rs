//! A faulty network for tests in any language: a proxy that takes its orders on standard input.
//!
//! ```text
//! cargo run --features testing --example faultproxy -- --upstream 127.0.0.1:6379 --script "pass cut-after 64 reset; refuse 1s"
//! cargo run --features testing --example faultproxy -- --help
//! ```

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use perconn::testing::{Cut, Direction, FaultProxy, Link};

const USAGE: &str = "\
A proxy between a client and a real server that plays faults. It takes one order from each line of standard input, and
answers each with some lines, the last of which is `ok` or begins with `error`. It ends at the end of standard input.

Usage: faultproxy --upstream HOST:PORT [OPTION]...

Options:
  --upstream HOST:PORT   the real server
  --listen IP:PORT       where the clients dial (127.0.0.1:0 unless given, any free port of the loopback)
  --script SCRIPT        what happens to the first links
  -h, --help             print this text

A SCRIPT is entries with semicolons between them, one for each link; when it is at its end, every link passes:
  pass                                      followed by any number of
    cut-after N CUT  cut-at TEXT CUT        cut behind N bytes, or behind a text without spaces, of the client
    cut-after-from-server N CUT  cut-at-from-server TEXT CUT                        the same of the server
    latency DELAY [JITTER]  bandwidth BYTES_PER_SECOND
  refuse [TIME]                             dials are refused until TIME after the link before (200ms unless given)
  accept-and-close  accept-and-reset  accept-and-stall
  random SEED COUNT                         COUNT random links, the same for the same SEED
  CUT is close, reset, half-close or stall; times are 5ms or 2s.

Orders:
  script SCRIPT          from the next link on
  cut CUT                cuts all links now
  latency DELAY [JITTER]  bandwidth BYTES_PER_SECOND  stall  refuse  black-hole to-server|to-client
                         hold for all links until
  heal                   which ends all of them
  wait-for-links N [TIME]  wait-for-ends N [TIME]   answer when N links were accepted, or have ended, or after TIME (10s)
  ledger                 answers a line for each link
  quit                   ends the proxy

A complete session; > marks what is typed:
  $ faultproxy --upstream 127.0.0.1:6379 --script 'pass cut-after 20 reset; accept-and-close'
  listening on 127.0.0.1:40123
  > wait-for-links 3
  ok
  > ledger
  link 1: accepted at 1.204s, 20 bytes to the server, 5 bytes back, cut (reset) at 1.310s
  link 2: accepted at 1.312s, 0 bytes to the server, 0 bytes back, cut (close) at 1.312s
  link 3: accepted at 1.420s, 54 bytes to the server, 15 bytes back, still open
  ok
  > black-hole to-server
  ok
  > quit
  ok";

struct Args {
    listen: SocketAddr,
    upstream: String,
    script: Vec<Link>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        say(USAGE);
        return ExitCode::SUCCESS;
    }
    let Args { listen, upstream, script } = match parse(args) {
        Ok(args) => args,
        Err(text) => {
            let _ = writeln!(io::stderr(), "faultproxy: {text}\nTry --help.");
            return ExitCode::from(2);
        }
    };
    match FaultProxy::start_at(listen, upstream.as_str()).await {
        Ok(proxy) => {
            proxy.script(script);
            say(format_args!("listening on {}", proxy.addr()));
            // The proxy has a thread of its own, so this one may block.
            take_orders(&proxy);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "faultproxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: Vec<String>) -> Result<Args, String> {
    let (mut listen, mut upstream, mut script) = (SocketAddr::from(([127, 0, 0, 1], 0)), None, Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg}: expected a value after it"));
        match arg.as_str() {
            "--listen" => listen = number(&value()?, "an address such as 127.0.0.1:7000")?,
            "--upstream" => upstream = Some(value()?),
            "--script" => script = parse_script(&value()?)?,
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    Ok(Args { listen, upstream: upstream.ok_or("expected --upstream HOST:PORT, the real server")?, script })
}

// ===== orders =====

fn take_orders(proxy: &FaultProxy) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let mut words = Words::new(&line);
        let Some(order) = words.next() else { continue };
        match carry_out(proxy, order, &mut words).and_then(|()| words.end()) {
            Ok(()) => say("ok"),
            Err(text) => say(format_args!("error: {text}")),
        }
        if order == "quit" {
            return;
        }
    }
}

fn carry_out(proxy: &FaultProxy, order: &str, words: &mut Words<'_>) -> Result<(), String> {
    match order {
        "script" => proxy.script(parse_script(&words.rest())?),
        "cut" => proxy.cut(words.cut()?),
        "latency" => {
            let (delay, jitter) = words.latency()?;
            proxy.latency(delay, jitter);
        }
        "bandwidth" => proxy.bandwidth(words.bandwidth()?),
        "stall" => proxy.stall(),
        "refuse" => proxy.refuse(),
        "heal" => proxy.heal(),
        "black-hole" => proxy.black_hole(match words.next() {
            Some("to-server") => Direction::ToServer,
            Some("to-client") => Direction::ToClient,
            other => return Err(format!("{}: expected to-server or to-client", quoted(other))),
        }),
        "wait-for-links" | "wait-for-ends" => {
            let count = words.number("how many links")?;
            let limit = words.time_if_any()?.unwrap_or(Duration::from_secs(10));
            let wait = if order == "wait-for-links" { proxy.wait_for_links(count) } else { proxy.wait_for_ends(count) };
            if !wait.block_within(limit) {
                return Err(format!("not within {limit:?}"));
            }
        }
        "ledger" => proxy.ledger().iter().for_each(say),
        "quit" => {}
        _ => return Err(format!("unknown order {order:?}; --help has a list")),
    }
    Ok(())
}

// ===== the language of scripts =====

fn parse_script(text: &str) -> Result<Vec<Link>, String> {
    let mut script = Vec::new();
    for entry in text.split(';') {
        let mut words = Words::new(entry);
        match words.next() {
            None => {}
            Some("random") => {
                let (seed, count) = (words.number("a seed")?, words.number("how many links")?);
                script.extend(Link::random_weather(seed).take(count));
            }
            Some(word) => script.push(words.link(word)?),
        }
        words.end()?;
    }
    Ok(script)
}

/// The words of an order or an entry.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self(text.split_whitespace().peekable())
    }

    fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }

    fn rest(&mut self) -> String {
        self.0.by_ref().collect::<Vec<_>>().join(" ")
    }

    fn end(&mut self) -> Result<(), String> {
        self.next().map_or(Ok(()), |word| Err(format!("unexpected {word:?}")))
    }

    fn link(&mut self, entry: &str) -> Result<Link, String> {
        Ok(match entry {
            "pass" => {
                let mut link = Link::pass();
                while let Some(word) = self.next() {
                    link = self.modify(link, word)?;
                }
                link
            }
            "refuse" => self.time_if_any()?.map_or_else(Link::refuse, |time| Link::refuse().lasting(time)),
            "accept-and-close" => Link::accept_and_close(),
            "accept-and-reset" => Link::accept_and_reset(),
            "accept-and-stall" => Link::accept_and_stall(),
            _ => return Err(format!("unknown entry {entry:?} in a script; --help has a list")),
        })
    }

    fn modify(&mut self, link: Link, word: &str) -> Result<Link, String> {
        Ok(match word {
            "cut-after" => link.cut_after(self.number("a number of bytes")?, self.cut()?),
            "cut-after-from-server" => link.cut_after_from_server(self.number("a number of bytes")?, self.cut()?),
            "cut-at" => link.cut_at(self.next().ok_or("expected a text after cut-at")?, self.cut()?),
            "cut-at-from-server" => {
                link.cut_at_from_server(self.next().ok_or("expected a text after cut-at-from-server")?, self.cut()?)
            }
            "latency" => {
                let (delay, jitter) = self.latency()?;
                link.latency(delay, jitter)
            }
            "bandwidth" => link.bandwidth(self.bandwidth()?),
            _ => return Err(format!("unknown word {word:?} after pass; --help has a list")),
        })
    }

    fn cut(&mut self) -> Result<Cut, String> {
        match self.next() {
            Some("close") => Ok(Cut::Close),
            Some("reset") => Ok(Cut::Reset),
            Some("half-close") => Ok(Cut::HalfClose),
            Some("stall") => Ok(Cut::Stall),
            other => Err(format!("{}: expected close, reset, half-close or stall", quoted(other))),
        }
    }

    fn latency(&mut self) -> Result<(Duration, Duration), String> {
        let delay = self.time_if_any()?.ok_or("expected a delay such as 50ms")?;
        Ok((delay, self.time_if_any()?.unwrap_or_default()))
    }

    fn bandwidth(&mut self) -> Result<u64, String> {
        match self.number("bytes per second")? {
            0 => Err("bandwidth 0: expected at least 1 byte per second; with stall, nothing passes".into()),
            speed => Ok(speed),
        }
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        number(self.next().ok_or_else(|| format!("expected {what}"))?, what)
    }

    /// The next word, if it begins with a digit.
    fn time_if_any(&mut self) -> Result<Option<Duration>, String> {
        let Some(text) = self.0.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit())) else { return Ok(None) };
        let time = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(ms), _) => ms.parse().ok().map(Duration::from_millis),
            (None, Some(s)) => s.parse().ok().map(Duration::from_secs),
            _ => None,
        };
        time.map(Some).ok_or_else(|| format!("{text:?}: expected a time such as 5ms or 2s"))
    }
}

fn number<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?}: expected {what}"))
}

fn quoted(word: Option<&str>) -> String {
    word.map_or_else(|| "nothing".to_owned(), |word| format!("{word:?}"))
}

/// Prints a line. Ends the program if nobody reads it any more.
fn say(line: impl std::fmt::Display) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
