//! The program's log goes to a server, through its restarts: a backend of the `log` crate over an outbox.

use std::error::Error;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use perconn::Conn;
use perconn::outbox::blocking::Outbox;
use perconn::outbox::{self, WhenFull};

struct Backend(Outbox);

impl Log for Backend {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Info
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // Never waits: without room, the oldest line is dropped, and counted.
            let _ = self.0.try_send(format!("{} {}: {}\n", record.level(), record.target(), record.args()));
        }
    }

    fn flush(&self) {
        let _ = self.0.flush(Duration::from_secs(1));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("expected the address of a server of lines, such as 127.0.0.1:7777")?;
    let builder = outbox::Outbox::builder(Conn::builder(address)).when_full(WhenFull::DropOldest);
    let outbox = builder.start_blocking()?;
    log::set_logger(Box::leak(Box::new(Backend(outbox.clone())))).expect("no other backend is set");
    log::set_max_level(LevelFilter::Info);
    for number in 1..=100 {
        log::info!("reading {number}");
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{}", outbox.close(Duration::from_secs(5))?);
    Ok(())
}
