//! One task that reads lines and sends a heartbeat, with `select!`: one subscription for each link.
//!
//! `cargo run --example heartbeat_select -- 127.0.0.1:7777`, answered by `--example echo_server`.

use std::{io, mem, time::Duration};

use perconn::{Builder, Conn, Error};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// Passes each line to `on_line`, until the connection has ended.
pub async fn run(builder: Builder, every: Duration, mut on_line: impl FnMut(&[u8])) -> io::Result<()> {
    // The peer's close has to be an error, as otherwise `read_until` returns half a line for it.
    let mut conn = BufReader::new(builder.close_as_error(true).build()?);
    let mut heartbeat = tokio::time::interval(every);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay); // not all at once after an outage
    loop {
        let mut line = Vec::new();
        let mut outcome = conn.write_all(b"SUBSCRIBE\n").await;
        while outcome.is_ok() {
            outcome = tokio::select! {
                _ = heartbeat.tick() => conn.write_all(b"PING\n").await,
                // Unlike `read_line`, it keeps what it has read when it is dropped.
                received = conn.read_until(b'\n', &mut line) => received.map(|_| on_line(&mem::take(&mut line))),
            };
        }
        match outcome {
            Err(error) if Error::of(&error).is_some_and(Error::is_final) => return Err(error),
            outcome => eprintln!("subscribing again after {outcome:?}"),
        }
        // The dropped read or write would report the same break again.
        conn.get_mut().abandon();
        conn.consume(conn.buffer().len());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into());
    run(Conn::builder(address), Duration::from_secs(10), |line| print!("{}", String::from_utf8_lossy(line))).await
}
