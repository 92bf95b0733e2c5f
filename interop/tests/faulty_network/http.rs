//! hyper-util's client with its pool of connections, against an HTTP server of the test.

use std::error::Error;
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use perconn::testing::{Cut, Direction, FaultProxy, Link, LinkEnd};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::support::in_time;
use crate::{ledger_after_ends, through_random_weather};

/// How much of an answer of 23 bytes arrives, if it is cut behind "first half".
const HALF_ANSWER: u64 = "HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\nfirst half".len() as u64;

/// Answers each request with its own body, until the client goes.
async fn serve(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
    }
}

/// A proxy in front of a server.
async fn proxy() -> FaultProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    FaultProxy::start(server).await.unwrap()
}

/// A client of the pool, and where it asks.
struct Http(Client<HttpConnector, Full<Bytes>>, String);

impl Http {
    fn new(proxy: &FaultProxy) -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http(), format!("http://{}/", proxy.addr()))
    }

    /// One request. A wrong answer is a panic.
    async fn ask(&self, question: &str) -> Result<(), Box<dyn Error>> {
        let request = Request::post(&self.1).body(Full::from(question.to_owned()))?;
        in_time(question, async {
            let answer = self.0.request(request).await?;
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.into_body().collect().await?.to_bytes(), question);
            Ok(())
        })
        .await
    }

    /// The same with the client's timeout, which has to end it. The time starts when the stall is there.
    async fn times_out(&self, question: &str, stall: impl Future<Output = ()>) {
        let limit = in_time("the stall", stall).then(|()| sleep(Duration::from_millis(300)));
        tokio::select! {
            result = self.ask(question) => panic!("{result:?}"),
            () = limit => {}
        }
    }
}

#[tokio::test]
async fn http_reset_in_the_middle_of_an_answer() {
    let proxy = proxy().await;
    proxy.script([Link::pass().cut_at_from_server("first half", Cut::Reset)]);
    let client = Http::new(&proxy);
    client.ask("first half, second half").await.unwrap_err();
    client.ask("first half, second half").await.unwrap();
    let cut = &ledger_after_ends(&proxy, 1).await[0];
    assert!(matches!(cut.end, Some(LinkEnd::Cut(Cut::Reset))) && cut.to_client == HALF_ANSWER, "{cut}");
}

#[tokio::test]
async fn http_behind_a_load_balancer_without_a_backend() {
    let proxy = proxy().await;
    proxy.script([Link::accept_and_close(), Link::accept_and_close(), Link::accept_and_reset()]);
    let client = Http::new(&proxy);
    while client.ask("is anybody there?").await.is_err() {
        assert!(proxy.ledger().len() <= 3, "the fourth link passes");
    }
    for link in &ledger_after_ends(&proxy, 3).await[..3] {
        assert!(matches!(link.end, Some(LinkEnd::Cut(_))) && link.to_server == 0, "{link}");
    }
}

#[tokio::test]
async fn http_refused_dials() {
    let proxy = proxy().await;
    let client = Http::new(&proxy);
    client.ask("fair weather").await.unwrap();
    proxy.refuse();
    proxy.cut(Cut::Close);
    for _ in 0..3 {
        client.ask("refused").await.unwrap_err();
    }
    let links = proxy.ledger().len();
    proxy.heal();
    client.ask("open again").await.unwrap();
    assert_eq!(proxy.ledger().len(), links + 1, "refused dials are no links");
}

#[tokio::test]
async fn http_stall_until_the_client_s_timeout() {
    let proxy = proxy().await;
    proxy.script([Link::pass().cut_at_from_server("first half", Cut::Stall)]);
    let client = Http::new(&proxy);
    client.times_out("first half, second half", proxy.wait_for_bytes(Direction::ToClient, HALF_ANSWER)).await;
    client.ask("on a new link").await.unwrap();
    assert!(proxy.ledger()[0].end.is_none(), "a stalled link has not ended");
    proxy.stall();
    client.times_out("late", async {}).await;
    proxy.heal();
    client.ask("later").await.unwrap();
}

#[tokio::test]
async fn http_through_random_weather() {
    let proxy = proxy().await;
    let client = Http::new(&proxy);
    let question = |number| format!("{number} {}", "x".repeat(number % 10 * 300));
    let failed = through_random_weather(&proxy, async |number| client.ask(&question(number)).await.is_ok()).await;
    assert!(failed >= 10, "{failed} failed");
}
