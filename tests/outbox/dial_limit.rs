//! An outbox shares a limit of dials by the settings of its connection.

use std::time::Duration;

use perconn::DialLimit;
use perconn::outbox::Outbox;

use crate::support::{Server, in_time};

#[tokio::test]
async fn outboxes_share_a_limit_by_their_connections() {
    let server = Server::start().await;
    let limit = DialLimit::new(1, 10_000).unwrap();
    // The dial ends with its set-up, which waits for the server's greeting.
    let greeted = || {
        server.client().dial_limit(&limit).and_then(|mut stream| async move {
            tokio::io::AsyncReadExt::read_u8(&mut stream).await?;
            Ok(stream)
        })
    };
    let outboxes = [(); 3].map(|()| Outbox::builder(greeted()).start().unwrap());
    let mut peers = Vec::new();
    for number in 1..=3 {
        let mut peer = server.accept().await;
        in_time("the others wait", async {
            while (limit.dialing(), limit.waiting()) != (1, 3 - number) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        tokio::io::AsyncWriteExt::write_u8(&mut peer, 1).await.unwrap();
        peers.push(peer);
    }
    for outbox in outboxes {
        outbox.send("a line\n").await.unwrap();
        in_time("a close", outbox.close(Duration::from_secs(5))).await;
    }
    assert_eq!((limit.dialing(), limit.waiting()), (0, 0));
}
