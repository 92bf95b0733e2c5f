//! Request and response with a timeout: no late answer is taken for the answer to a later request.
//!
//! `cargo run --example request_timeout -- 127.0.0.1:7777`, answered by `--example echo_server`.

use std::{io, time::Duration};

use perconn::Conn;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{sleep, timeout};

/// Asks until there is an answer. The server can get a request more than once.
pub async fn ask(conn: &mut BufReader<Conn>, request: &str, limit: Duration) -> io::Result<String> {
    loop {
        // The limit is for the answer, and not for an outage. Fails when the connection has ended.
        conn.get_ref().connected().await?;
        let exchange = async {
            conn.write_all(format!("{request}\n").as_bytes()).await?;
            let mut answer = String::new();
            conn.read_line(&mut answer).await.map(|_| answer)
        };
        match timeout(limit, exchange).await {
            // Without `close_as_error`, `read_line` returns half a line when the peer closes.
            Ok(Ok(answer)) if answer.ends_with('\n') => return Ok(answer),
            outcome => eprintln!("asking {request:?} again after {outcome:?}"),
        }
        // This link may still bring the answer to the old request: give it up, with what was received.
        conn.get_mut().abandon();
        conn.consume(conn.buffer().len());
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into());
    let mut conn = BufReader::new(Conn::builder(address).close_as_error(true).build()?);
    loop {
        print!("{}", ask(&mut conn, "how are you?", Duration::from_secs(2)).await?);
        sleep(Duration::from_secs(1)).await;
    }
}
