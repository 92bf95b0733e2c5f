//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use perconn::outbox::WhenFull;

pub(crate) const USAGE: &str = "\
Ships lines to a log server: those of standard input, or of a file that grows. It lives
through restarts of the server, and accounts for every line.

Usage: ship [OPTION]... SERVER

SERVER is one of
  relp://HOST:PORT      rsyslog's imrelp: each line is answered, and sent again until it is
  syslog://HOST:PORT    syslog over TCP (RFC 5424 in RFC 6587): lines that the server's kernel
                        had and its program had not read are lost with a killed server
  tcp://HOST:PORT       the lines as they are, with the same loss

Options:
  --file PATH           follow this file as `tail -F` does, through rotation and truncation;
                        it has to be there at the start
  --once                with --file: end at the end of the file
  --position PATH       where the position in the file is kept over restarts
                        (the file's path and `.position` unless given)
  --capacity LINES      how many lines wait at most (10000)
  --when-full POLICY    what happens to a line without room: wait, drop-oldest, drop-newest
                        (wait: then the lines stay where they come from)
  --drain TIME          how long the end may take (5s)
  --tag NAME            the name of the program in syslog lines (ship)
  -h, --help            print this text

Lines that were sent and not answered at the end are sent again by the next run, if they
come from a file. The position is saved once a second and at the end, so that a ship that
is killed sends again what was answered since. If a file is rotated twice while nobody
follows it, the lines between are not found.

It ends at the end of standard input, at SIGTERM and at Ctrl-C. The exit status is 0 if
each line has arrived as far as the server says, 1 if not, and 2 if the arguments are wrong.

A complete session:
  $ cat relp.conf
  module(load=\"imrelp\")
  ruleset(name=\"relp\" queue.type=\"Direct\") {
    action(type=\"omfile\" file=\"/tmp/shipped.log\")
  }
  input(type=\"imrelp\" port=\"2514\" ruleset=\"relp\")
  $ rsyslogd -f $PWD/relp.conf -i /tmp/rsyslogd.pid
  $ seq 100000 | ship relp://127.0.0.1:2514
  ship: connected: generation 1, dial 1
  ship: 100000 accepted: 100000 answered";

pub(crate) enum Server {
    Relp(String),
    Syslog(String),
    Lines(String),
}

pub(crate) struct Args {
    pub(crate) server: Server,
    pub(crate) source: Source,
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) drain: Duration,
    pub(crate) tag: String,
}

pub(crate) enum Source {
    StandardInput,
    File { path: PathBuf, position: PathBuf, once: bool },
}

pub(crate) fn parse(args: impl IntoIterator<Item = String>) -> Result<Args, String> {
    let mut args = args.into_iter();
    let (mut server, mut file, mut position, mut once) = (None, None::<PathBuf>, None, false);
    let (mut capacity, mut when_full, mut drain) = (10_000, WhenFull::Wait, Duration::from_secs(5));
    let mut tag = "ship".to_owned();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg}: expected a value after it"));
        match arg.as_str() {
            "--file" => file = Some(PathBuf::from(value()?)),
            "--position" => position = Some(PathBuf::from(value()?)),
            "--once" => once = true,
            "--capacity" => capacity = number(&arg, &value()?, "a number of lines")?,
            "--when-full" => when_full = policy(&value()?)?,
            "--drain" => drain = time(&value()?)?,
            "--tag" => tag = name(value()?)?,
            _ if arg.starts_with('-') => return Err(format!("unknown option {arg:?}")),
            _ if server.is_some() => return Err(format!("unexpected {arg:?} after the server")),
            _ => server = Some(parse_server(&arg)?),
        }
    }
    let server = server.ok_or("expected a server, such as relp://127.0.0.1:2514")?;
    let source = match file {
        None if once || position.is_some() => return Err("--once and --position are for a --file".to_owned()),
        None => Source::StandardInput,
        Some(path) => {
            let beside = || PathBuf::from(format!("{}.position", path.display()));
            let position = position.unwrap_or_else(beside);
            Source::File { path, position, once }
        }
    };
    Ok(Args { server, source, capacity, when_full, drain, tag })
}

fn parse_server(text: &str) -> Result<Server, String> {
    let (scheme, address) = text.split_once("://").unwrap_or(("", text));
    let address = address.trim_end_matches('/').to_owned();
    match scheme {
        "relp" => Ok(Server::Relp(address)),
        "syslog" => Ok(Server::Syslog(address)),
        "tcp" => Ok(Server::Lines(address)),
        _ => Err(format!("{text:?}: expected relp://HOST:PORT, syslog://HOST:PORT or tcp://HOST:PORT")),
    }
}

fn policy(text: &str) -> Result<WhenFull, String> {
    match text {
        "wait" => Ok(WhenFull::Wait),
        "drop-oldest" => Ok(WhenFull::DropOldest),
        "drop-newest" => Ok(WhenFull::DropNewest),
        _ => Err(format!("--when-full {text:?}: expected wait, drop-oldest or drop-newest")),
    }
}

/// The APP-NAME of RFC 5424: up to 48 printable characters without spaces.
fn name(text: String) -> Result<String, String> {
    let is_valid = (1..=48).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid {
        Ok(text)
    } else {
        Err(format!("--tag {text:?}: expected 1 to 48 printable characters without spaces"))
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let expected = || format!("--drain {text:?}: expected a time such as 500ms or 5s");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?);
    let count = digits.parse().map_err(|_| expected())?;
    match unit {
        "ms" => Ok(Duration::from_millis(count)),
        "s" => Ok(Duration::from_secs(count)),
        _ => Err(expected()),
    }
}

fn number<T: FromStr>(option: &str, text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option} {text:?}: expected {expected}"))
}
