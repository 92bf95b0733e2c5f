//! The documented pattern of requests in frames, as `examples/` has it.

use std::time::Duration;

use perconn::Conn;
use perconn::codec::{Framed, Terminated};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::LinesCodec;

use crate::support::{SLOWNESS, Server, in_time, quick, server_that_hangs_once};

#[path = "../../examples/request_framed.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a program with a `main` of its own")]
mod request_framed;

const LIMIT: Duration = Duration::from_millis(150 * SLOWNESS as u64);

fn lines(conn: Conn) -> Framed<Terminated<LinesCodec>> {
    Framed::new(conn, Terminated(LinesCodec::new_with_max_length(1024)))
}

#[tokio::test]
async fn answers_belong_to_their_requests_after_a_timeout() {
    let conn = quick(Conn::builder(server_that_hangs_once().await)).connect().await.unwrap();
    let mut framed = lines(conn);
    for number in 0..8 {
        let request = format!("request {number}");
        let answer = in_time("an answer", request_framed::ask(&mut framed, &request, LIMIT)).await.unwrap();
        assert_eq!(answer, request);
    }
    assert_eq!(framed.get_ref().generation(), 2, "one link was given up");
}

#[tokio::test]
async fn half_an_answer_is_none_and_the_request_is_sent_once_on_each_link() {
    let server = Server::start().await;
    let mut framed = lines(server.client().build().unwrap());
    let asking = tokio::spawn(async move { request_framed::ask(&mut framed, "ask", Duration::from_secs(20)).await });
    for answer in ["half", ""] {
        let mut peer = server.accept().await;
        in_time("the request", peer.read_exact(&mut [0; 4])).await.unwrap();
        peer.write_all(answer.as_bytes()).await.unwrap();
    }
    let mut peer = server.accept().await;
    let mut request = [0; 4];
    in_time("the request", peer.read_exact(&mut request)).await.unwrap();
    peer.write_all(b"whole\n").await.unwrap();
    assert_eq!(in_time("the answer", asking).await.unwrap().unwrap(), "whole");
    let mut rest = Vec::new();
    in_time("the end", peer.read_to_end(&mut rest)).await.unwrap();
    assert_eq!((&request, &rest[..]), (b"ask\n", &b""[..]));
}
