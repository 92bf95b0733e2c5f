//! The events of `tracing` go to a server as JSON lines, through its restarts: a writer of tracing-subscriber over an outbox.
//!
//! ```text
//! nc -lk 7777
//! cargo run -p perconn-interop --example tracing_over_outbox -- 127.0.0.1:7777
//! ```

use std::error::Error;
use std::io;
use std::time::Duration;

use perconn::Conn;
use perconn::outbox::blocking::Outbox;
use perconn::outbox::{self, WhenFull};
use tracing_subscriber::fmt::MakeWriter;

/// Gets each event as one line, by one call of `write`.
#[derive(Clone)]
struct Lines(Outbox);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Never waits: without room, the oldest line is dropped, and counted.
        self.0.try_send(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("expected the address of a server of lines, such as 127.0.0.1:7777")?;
    let builder = outbox::Outbox::builder(Conn::builder(address)).when_full(WhenFull::DropOldest);
    let outbox = builder.start_blocking()?;
    tracing_subscriber::fmt().json().with_writer(Lines(outbox.clone())).init();
    for number in 1..=100 {
        tracing::info!(number, "reading");
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{}", outbox.close(Duration::from_secs(5))?);
    Ok(())
}
