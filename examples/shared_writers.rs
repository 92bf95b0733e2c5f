//! Several tasks write lines on one connection. A line that was not sent is sent again.
//!
//! `cargo run --example shared_writers -- 127.0.0.1:7777`, answered by `--example echo_server`.

use std::{io, time::Duration};

use perconn::{Conn, Error, SharedConn};

/// Sends a line, whole. That is no receipt: only an answer says that the server has read it.
pub async fn send(conn: &SharedConn, line: &str) -> io::Result<()> {
    loop {
        match conn.write_all(line.as_bytes()).await {
            // It was not sent, or cut. After a `ShortLink`, the lines before it may be lost as well.
            Err(error) if Error::of(&error).is_some_and(|error| !error.is_final()) => eprintln!("again: {error}"),
            outcome => return outcome,
        }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into());
    let (mut read, write) = Conn::builder(address).settle_time(Duration::from_secs(1)).build()?.into_split();
    let write = write.into_shared();
    for task in 1..=3 {
        let conn = write.clone(); // it remembers which link the task's last line was on
        tokio::spawn(async move {
            while send(&conn, &format!("task {task} is alive\n")).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
    loop {
        // Prints what the server sends on one link.
        match tokio::io::copy(&mut read, &mut tokio::io::stdout()).await {
            Err(error) if Error::of(&error).is_none_or(Error::is_final) => return Err(error),
            outcome => eprintln!("the link has ended: {outcome:?}"),
        }
    }
}
