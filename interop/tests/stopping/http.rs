//! hyper behind an acceptor, with `graceful_shutdown` and without it, beside hyper alone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::{http1 as client1, http2 as client2};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::graceful::GracefulShutdown;
use perconn::acceptor::{Acceptor, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::in_time;

/// Longer than all that the clients need.
const DEADLINE: Duration = Duration::from_secs(30);

/// How many clients of each kind there are.
const CLIENTS: usize = 8;

/// Which HTTP.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    One,
    Two,
}

/// What the requests of one client ask for. With HTTP/2, all of them at once.
const PATHS: [&[&str]; 4] = [&["/slow"], &["/stream"], &["/upload"], &["/quick", "/slow", "/stream"]];

/// An application, and how many requests have reached it.
#[derive(Clone)]
pub(crate) struct App {
    begun: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until this many requests have reached it.
    pub(crate) async fn wait_for(&self, count: usize) {
        in_time("the requests", self.begun.acquire_many(count as u32)).await.unwrap().forget();
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
        self.begun.add_permits(1);
        let whole = |text: String| Full::new(Bytes::from(text)).boxed();
        Ok(Response::new(match request.uri().path() {
            "/slow" => {
                sleep(Duration::from_millis(600)).await;
                whole("slow".to_owned())
            }
            "/stream" => {
                let pieces = stream::iter(0..6).then(async |piece| {
                    sleep(Duration::from_millis(100)).await;
                    Ok(Frame::data(Bytes::from(format!("{piece}"))))
                });
                BodyExt::boxed(StreamBody::new(Box::pin(pieces)))
            }
            "/upload" => {
                let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
                sleep(Duration::from_millis(300)).await;
                whole(format!("{}", body.unwrap_or_default()))
            }
            _ => whole("quick".to_owned()),
        }))
    }

    /// Serves a connection. Shuts it down gracefully when `stopping` is ready.
    async fn serve(
        self,
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        version: Version,
        stopping: impl Future<Output = ()>,
    ) -> hyper::Result<()> {
        let service = service_fn(move |request| self.clone().answer(request));
        let io = TokioIo::new(stream);
        let mut stopping = pin!(stopping);
        macro_rules! serve {
            ($session:expr) => {{
                let mut session = pin!($session);
                tokio::select! {
                    biased;
                    outcome = &mut session => return outcome,
                    () = &mut stopping => session.as_mut().graceful_shutdown(),
                }
                session.await
            }};
        }
        match version {
            Version::One => serve!(http1::Builder::new().serve_connection(io, service)),
            Version::Two => serve!(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service)),
        }
    }
}

/// How hyper is served.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Server {
    /// By hyper-util's `GracefulShutdown`.
    HyperUtil,
    /// By an acceptor whose handler waits for `stopping`.
    Stopping,
    /// By an acceptor whose handler does not know of the stop.
    Plain,
}

/// Starts a server of its own for each run. `stop` stops it, and waits until it has stopped.
async fn start(server: Server, version: Version, app: App) -> (SocketAddr, impl Future<Output = ()>) {
    let (address, acceptor, alone) = match server {
        Server::HyperUtil => {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            (address, None, Some((stop, tokio::spawn(hyper_util_server(listener, version, app, stopped)))))
        }
        Server::Stopping | Server::Plain => {
            let acceptor = acceptor(version, app, server == Server::Stopping);
            (acceptor.local_addr().unwrap(), Some(acceptor), None)
        }
    };
    let stop = async move {
        if let Some(acceptor) = acceptor {
            let stopped = in_time("stop", acceptor.stop(DEADLINE)).await;
            assert_eq!(stopped.cut, 0, "{server:?}, {version:?}: {stopped:?}");
        }
        if let Some((stop, task)) = alone {
            stop.send(()).unwrap();
            in_time("the end of hyper-util's server", task).await.unwrap();
        }
    };
    (address, stop)
}

pub(crate) fn acceptor(version: Version, app: App, waits_for_stop: bool) -> Acceptor {
    let serve = move |stream: Stream, _| {
        let app = app.clone();
        async move {
            if waits_for_stop {
                let stopping = stream.stopping();
                app.serve(stream, version, stopping).await.map_err(io::Error::other)
            } else {
                app.serve(stream, version, std::future::pending()).await.map_err(io::Error::other)
            }
        }
    };
    Acceptor::builder("127.0.0.1:0").handler(serve).logger(|_| {}).build().unwrap()
}

async fn hyper_util_server(listener: TcpListener, version: Version, app: App, mut stopped: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => TokioIo::new(accepted.unwrap().0),
            _ = &mut stopped => break,
        };
        let app = app.clone();
        let service = service_fn(move |request| app.clone().answer(request));
        match version {
            Version::One => {
                tokio::spawn(graceful.watch(http1::Builder::new().serve_connection(stream, service)));
            }
            Version::Two => {
                let session = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service);
                tokio::spawn(graceful.watch(session));
            }
        }
    }
    graceful.shutdown().await;
}

/// Sends requests, and returns the texts of the answers.
pub(crate) async fn ask(address: SocketAddr, version: Version, paths: &[&str]) -> hyper::Result<Vec<String>> {
    let request = |path: &str| {
        let body = if path == "/upload" { vec![b'x'; 100_000] } else { Vec::new() };
        Request::post(format!("http://server{path}"))
            .header("host", "server")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let text = async |response: Response<Incoming>| -> hyper::Result<String> {
        let body = response.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    };
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let mut answers = Vec::new();
    match version {
        Version::One => {
            let (mut sender, session) = client1::handshake(stream).await?;
            tokio::spawn(session);
            for path in paths {
                sender.ready().await?;
                answers.push(text(sender.send_request(request(path)).await?).await?);
            }
        }
        Version::Two => {
            let (mut sender, session) = client2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(session);
            let responses: Vec<_> = paths.iter().map(|path| sender.send_request(request(path))).collect();
            for response in responses {
                answers.push(text(response.await?).await?);
            }
        }
    }
    Ok(answers)
}

/// What a client gets that is served.
pub(crate) fn expected(paths: &[&str]) -> Vec<String> {
    let answer = |path: &&str| match *path {
        "/slow" => "slow",
        "/stream" => "012345",
        "/upload" => "100000",
        _ => "quick",
    };
    paths.iter().map(|path| answer(path).to_owned()).collect()
}

/// Stops a server while requests are under way. Returns how many clients were served.
async fn served(server: Server, version: Version, paths: &'static [&'static str]) -> usize {
    let app = App::new();
    let (address, stop) = start(server, version, app.clone()).await;
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(ask(address, version, paths));
    }
    app.wait_for(CLIENTS * paths.len()).await;
    // An idle client, which must not hold up the stop. (hyper waits for ever until it has begun with HTTP/2.)
    let idle = match version {
        Version::One => Some(TcpStream::connect(address).await.unwrap()),
        Version::Two => None,
    };
    sleep(Duration::from_millis(100)).await;
    stop.await;
    drop(idle);
    let outcomes = in_time("the clients", clients.join_all()).await;
    outcomes.into_iter().filter(|outcome| outcome.as_ref().is_ok_and(|answers| *answers == expected(paths))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hyper_serves_the_same_clients_as_with_its_own_graceful_shutdown() {
    for version in [Version::One, Version::Two] {
        for paths in PATHS {
            // HTTP/1 has one request under way at a time.
            let paths = if matches!(version, Version::One) { &paths[..1] } else { paths };
            for server in [Server::HyperUtil, Server::Stopping, Server::Plain] {
                let served = served(server, version, paths).await;
                println!("{version:?} {paths:?} {server:?}: {served} of {CLIENTS} clients were served");
                assert_eq!(served, CLIENTS, "{version:?} {paths:?} {server:?}");
            }
        }
    }
}

/// The first poll of each session comes after the stop has begun, as on a busy machine.
#[tokio::test]
async fn requests_that_arrived_before_the_first_poll_of_their_session_are_answered() {
    let app = App::new();
    let (reached, mut handlers) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |stream: Stream, _| {
        let (app, reached) = (app.clone(), reached.clone());
        async move {
            let stopping = stream.stopping();
            let _ = reached.send(());
            stopping.clone().await;
            app.serve(stream, Version::One, stopping).await.map_err(io::Error::other)
        }
    };
    let acceptor = Acceptor::builder("127.0.0.1:0").handler(handler).logger(|_| {}).build().unwrap();
    let mut clients = JoinSet::new();
    for _ in 0..4 * CLIENTS {
        let mut client = TcpStream::connect(acceptor.local_addr().unwrap()).await.unwrap();
        client.write_all(b"GET /quick HTTP/1.1\r\nhost: server\r\n\r\n").await.unwrap();
        in_time("a handler", handlers.recv()).await.unwrap();
        clients.spawn(async move {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.map(|_| answer)
        });
    }
    in_time("stop", acceptor.stop(DEADLINE)).await;
    for answer in in_time("the clients", clients.join_all()).await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("quick"), "{answer:?}");
    }
}
