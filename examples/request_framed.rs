//! Request and response as frames: `abandon` drops the frames of the old link, and its late answers with them.
//!
//! ```text
//! cargo run --features codec --example request_framed -- 127.0.0.1:7777        # answered by `--example echo_server`
//! ```

use std::{error::Error, time::Duration};

use futures_util::{SinkExt, StreamExt};
use perconn::{Conn, codec::Framed};
use tokio::time::{sleep, timeout};
use tokio_util::codec::LinesCodec;

/// Asks until there is an answer. The server can get a request more than once.
pub async fn ask(framed: &mut Framed<LinesCodec>, request: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    loop {
        let exchange = async {
            framed.send(request).await?;
            framed.next().await.transpose()
        };
        match timeout(Duration::from_secs(2), exchange).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) => return Err("the connection has ended".into()),
            Ok(Err(error)) if error.is_final() => return Err(error.into()),
            outcome => eprintln!("asking {request:?} again after {outcome:?}"),
        }
        framed.abandon();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into());
    let mut framed = Framed::new(Conn::builder(address).build()?, LinesCodec::new_with_max_length(1 << 16));
    loop {
        println!("{}", ask(&mut framed, "how are you?").await?);
        sleep(Duration::from_secs(1)).await;
    }
}
