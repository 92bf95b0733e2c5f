//! What the program says of itself while it runs: a line that is written over on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use perconn::outbox::Outbox;

pub(crate) struct StatusLine {
    is_terminal: bool,
    /// The time between two lines.
    period: Duration,
    /// When the last line was written, and how many messages had their fate then.
    last: (Instant, u64),
    is_on_screen: bool,
}

impl StatusLine {
    pub(crate) fn new() -> Self {
        let is_terminal = stderr().is_terminal();
        let period = Duration::from_secs(if is_terminal { 1 } else { 10 });
        Self { is_terminal, period, last: (Instant::now(), 0), is_on_screen: false }
    }

    /// Writes the line if it is time. To be called each second.
    pub(crate) fn tick(&mut self, outbox: &Outbox) {
        // A tick that is a little early is in time.
        if self.last.0.elapsed() + Duration::from_millis(500) < self.period {
            return;
        }
        let tally = outbox.tally();
        let link = if outbox.status().is_connected() { "link up" } else { "no link" };
        let (since, before) = std::mem::replace(&mut self.last, (Instant::now(), tally.settled()));
        let rate = (tally.settled() - before) as f64 / since.elapsed().as_secs_f64().max(0.001);
        let line = format!("ship: {link}; {rate:.0} lines/s; {tally}");
        let mut out = stderr().lock();
        // Nobody has to read it.
        let _ = if self.is_terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
        let _ = out.flush();
        self.is_on_screen = self.is_terminal;
    }

    /// Makes room for other output.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.is_on_screen) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
