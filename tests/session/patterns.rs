//! The documented pattern of requests over sessions, as `examples/` has it.

use std::time::Duration;

use perconn::{Conn, Sessions};

use crate::support::{in_time, quick, server_that_hangs_once};

#[path = "../../examples/request_session.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is a program with a `main` of its own")]
mod request_session;

#[tokio::test]
async fn answers_belong_to_their_requests_after_a_timeout() {
    let conn = quick(Conn::builder(server_that_hangs_once().await)).connect().await.unwrap();
    let requests: Vec<_> = (0..8).map(|number| format!("request {number}")).collect();
    let asked = request_session::ask_all(Sessions::new(conn), &requests, Duration::from_millis(150));
    let answers = in_time("the answers", asked).await.unwrap();
    assert_eq!(answers, requests.iter().map(|request| format!("{request}\n")).collect::<Vec<_>>());
}
