//! Request and response as frames: `abandon` drops the frames of the old link, and its late answers with them.
//!
//! `cargo run --features codec --example request_framed -- 127.0.0.1:7777`, answered by `--example echo_server`.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use perconn::{Conn, codec::Framed, codec::Terminated};
use tokio::time::timeout;
use tokio_util::codec::LinesCodec;

type Lines = Framed<Terminated<LinesCodec>>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Asks until there is an answer. The server can get a request more than once.
pub async fn ask(framed: &mut Lines, request: &str, limit: Duration) -> Result<String, Failure> {
    loop {
        // The limit is for the answer, and not for an outage. Fails when the connection has ended.
        framed.get_ref().connected().await?;
        let exchange = async {
            framed.send(request).await?;
            framed.next().await.transpose()
        };
        match timeout(limit, exchange).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            outcome => eprintln!("asking {request:?} again after {outcome:?}"),
        }
        // Late, or an error: `send` and `next` would each report the break.
        framed.abandon();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into());
    let codec = Terminated(LinesCodec::new_with_max_length(1 << 16)); // alone, it would take half a line at a close
    let mut framed = Framed::new(Conn::builder(address).build()?, codec);
    println!("{}", ask(&mut framed, "how are you?", Duration::from_secs(2)).await?);
    Ok(framed.close().await?)
}
