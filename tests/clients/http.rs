//! HTTP/1 with hyper, against nginx.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use perconn::Sessions;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::servers::{self, SLOW_FILE, slow_byte};
use crate::support::in_time;
use crate::through_kills::{AnyError, Client, on_one_and_two_threads, through_kills};

pub struct Http {
    requests: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<hyper::Result<()>>,
}

impl Http {
    pub async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> hyper::Result<Self> {
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { requests, connection: tokio::spawn(connection) })
    }

    async fn get(&mut self, path: &str) -> hyper::Result<Response<Incoming>> {
        self.requests.ready().await?;
        let request = Request::get(path).header("host", "localhost").body(Empty::new()).unwrap();
        let response = self.requests.send_request(request).await?;
        assert_eq!(response.status(), StatusCode::OK);
        Ok(response)
    }

    pub async fn ask(&mut self, number: u32) -> Result<(), AnyError> {
        let answer = self.get(&format!("/answer?n={number}")).await?.into_body().collect().await?.to_bytes();
        assert_eq!(answer, format!("answer {number}"));
        Ok(())
    }

    pub async fn ask_for_long(&mut self, kill: impl FnOnce()) -> Result<(), AnyError> {
        let mut body = self.get("/slow").await?.into_body();
        let mut kill = Some(kill);
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            for byte in frame?.into_data().unwrap() {
                assert_eq!(byte, slow_byte(received), "byte {received}");
                received += 1;
            }
            assert!(received < SLOW_FILE, "it did not take long");
            if let Some(kill) = kill.take() {
                kill();
            }
        }
        Ok(())
    }

    pub async fn ended(self) {
        println!("the connection's task: {:?}", self.connection.await.unwrap());
    }
}

impl Client for Http {
    type Config = ();

    async fn connect((): &(), sessions: &mut Sessions) -> Result<Self, AnyError> {
        Ok(Self::over(sessions.next().await?).await?)
    }

    async fn ask(&mut self, number: u32) -> Result<(), AnyError> {
        self.ask(number).await
    }

    async fn ask_for_long(&mut self, kill: impl FnOnce()) -> Result<(), AnyError> {
        self.ask_for_long(kill).await
    }

    async fn ended(self) {
        self.ended().await;
    }
}

#[test]
fn http_requests_are_answered_through_kills_of_nginx() {
    let Some(server) = servers::nginx("http", "", |_| String::new()) else { return };
    on_one_and_two_threads(async || {
        for error in through_kills::<Http>(&(), &server).await {
            let error = error.downcast_ref::<hyper::Error>().expect("an error of hyper");
            assert!(!error.is_parse() && !error.is_user(), "{error:?}");
        }
    });
}

#[tokio::test]
async fn idle_http_connection_ends_at_the_kill() {
    let Some(server) = servers::nginx("idle http", "", |_| String::new()) else { return };
    let mut sessions = server.sessions();
    let mut client = Http::over(sessions.next().await.unwrap()).await.unwrap();
    client.ask(1).await.unwrap();
    server.kill_and_restart();
    in_time("the connection ends", async {
        while !client.requests.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = client.ask(2).await.unwrap_err();
    println!("seen by the next request: {error}");
    let mut client = Http::over(in_time("next", sessions.next()).await.unwrap()).await.unwrap();
    client.ask(3).await.unwrap();
}
