//! Standard output: a line of progress that is rewritten in place on a terminal, and plain lines elsewhere.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

pub(crate) struct Screen {
    is_terminal: bool,
    has_color: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { is_terminal, has_color: is_terminal && !is_unwanted }
    }

    /// How often to show progress.
    pub(crate) fn interval(&self, time: Duration) -> Duration {
        match self.is_terminal {
            true => Duration::from_millis(500),
            // Some dozens of lines a run.
            false => (time / 40).clamp(Duration::from_secs(5), Duration::from_secs(300)),
        }
    }

    pub(crate) fn progress(&self, text: impl Display) {
        match self.is_terminal {
            true => Self::put(format_args!("\r\x1b[K{text}")),
            false => self.line(text),
        }
    }

    /// Makes room for what comes after the progress.
    pub(crate) fn end_progress(&self) {
        if self.is_terminal {
            Self::put("\r\x1b[K");
        }
    }

    pub(crate) fn line(&self, text: impl Display) {
        Self::put(format_args!("{text}\n"));
    }

    /// In red where there is colour.
    pub(crate) fn alarming(&self, text: impl Display) -> String {
        if self.has_color { format!("\x1b[31m{text}\x1b[0m") } else { text.to_string() }
    }

    fn put(text: impl Display) {
        let mut stdout = io::stdout().lock();
        // Flushed, so that a pipe gets each line at once.
        if let Err(error) = write!(stdout, "{text}").and_then(|()| stdout.flush()) {
            // That nobody reads any more, as after `| head -3`, is no failure. Either way there is nothing left to do.
            std::process::exit(if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 });
        }
    }
}
