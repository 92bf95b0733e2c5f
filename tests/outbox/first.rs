//! The obvious programs.

use std::time::Duration;

use perconn::Conn;
use perconn::outbox::{Answer, Answers, Fate, Outbox, Resend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::LinesCodec;

use crate::support::{Server, in_time};

#[tokio::test]
async fn lines_arrive_in_order_and_the_tally_says_so() {
    let server = Server::start().await;
    let outbox = Outbox::builder(Conn::builder(server.address)).start().unwrap();
    for number in 1..=10_000 {
        assert_eq!(outbox.send(format!("{number}\n")).await.unwrap(), number);
    }
    let reader = tokio::spawn(async move {
        let mut all = String::new();
        server.accept().await.read_to_string(&mut all).await.unwrap();
        all
    });
    in_time("flush", outbox.flush()).await;
    let tally = in_time("close", outbox.close(Duration::from_secs(5))).await;
    assert_eq!(tally.to_string(), "10000 accepted: 10000 written");
    let all = in_time("the reader", reader).await.unwrap();
    assert!(all.lines().map(|line| line.parse::<u64>().unwrap()).eq(1..=10_000));
    assert!(outbox.send("x").await.unwrap_err().is_final());
}

#[tokio::test]
async fn with_answers_each_message_is_answered() {
    let server = Server::start().await;
    let answers = Answers::new(LinesCodec::new, |line| (line == "ok").then_some(Answer::Next));
    let outbox = Outbox::builder(Conn::builder(server.address)).resend(Resend::Unanswered(answers)).start().unwrap();
    let wait = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.send_and_wait("hello\n").await }
    });
    let mut stream = server.accept().await;
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(outbox.tally().waiting, 1);
    stream.write_all(b"what?\nok\n").await.unwrap();
    assert_eq!(in_time("the fate", wait).await.unwrap().unwrap(), Fate::Answered);
    assert_eq!(in_time("close", outbox.close(Duration::from_secs(5))).await.to_string(), "1 accepted: 1 answered");
}
