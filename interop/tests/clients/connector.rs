//! A connector for the pooled client of hyper-util, so that its connections have this crate's proxies, names and socket options.
//!
//! Such a client pools plain connections: it opens one when it needs it, and drops one that has failed. So it takes a dialer. A `Conn`
//! would come back under it, and the client would go on with the state of the link before.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use perconn::{Dial, Proxy, ProxyDialer};
use tower_service::Service;

use crate::servers::{self, RealServer, program};
use crate::support::in_time;

/// Dials each connection by the dialer that a function makes for its host and port.
#[derive(Clone)]
struct Connector<F>(F);

impl<F, D> Service<Uri> for Connector<F>
where
    F: Fn(String, u16) -> D,
    D: Dial,
{
    type Response = TokioIo<D::Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let host = uri.host().unwrap_or_default().to_owned();
        let mut dialer = self.0(host, uri.port_u16().unwrap_or(80));
        Box::pin(async move {
            dialer.check()?;
            // `dial_timeout` belongs to the builder of a connection.
            tokio::time::timeout(Duration::from_secs(10), dialer.dial()).await?.map(TokioIo::new)
        })
    }
}

#[tokio::test]
async fn pooled_http_client_goes_through_a_proxy() {
    let Some(microsocks) = program("connector", "microsocks", &[]) else { return };
    let Some(nginx) = servers::nginx("connector", "", |_| String::new()) else { return };
    let proxy = RealServer::start("microsocks", |_, port| {
        move || {
            let mut command = Command::new(&microsocks);
            command.args(["-i", "127.0.0.1", "-p"]).arg(port.to_string());
            command
        }
    });
    let address = proxy.address;
    let connector =
        Connector(move |host: String, port| ProxyDialer::new(Proxy::socks5(address), (host.as_str(), port)));
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    for number in 1..=6 {
        let uri: Uri = format!("http://localhost:{}/answer?n={number}", nginx.address.port()).parse().unwrap();
        let answer = async {
            loop {
                // A connection of the pool that a kill has ended fails once; another is dialed.
                match client.get(uri.clone()).await {
                    Ok(answer) => break answer,
                    Err(error) => println!("{error}: {:?}", std::error::Error::source(&error)),
                }
            }
        };
        let answer = in_time("an answer", answer).await.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, format!("answer {number}"));
        match number {
            2 => {
                nginx.kill();
                nginx.start_again();
            }
            4 => {
                proxy.kill();
                let refused = in_time("a refusal", client.get(uri)).await;
                println!("without a proxy: {refused:?}");
                refused.unwrap_err();
                proxy.start_again();
            }
            _ => {}
        }
    }
}
