//! Who is compared.

use std::net::SocketAddr;
use std::time::Duration;

use perconn::Conn;
use stubborn_io::StubbornTcpStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Raw,
    Stubborn,
    Perconn,
}

pub(crate) const ALL: [Who; 3] = [Who::Raw, Who::Stubborn, Who::Perconn];

/// Work for one stream, whosoever.
pub(crate) trait Job {
    fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) -> impl Future<Output = Duration>;
}

/// Work for the two halves of a stream.
pub(crate) trait SplitJob {
    fn run<R, W>(&self, reader: R, writer: W) -> impl Future<Output = Duration>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static;
}

/// Runs a job on a fresh connection.
pub(crate) async fn run(who: Who, server: SocketAddr, job: &impl Job) -> Duration {
    match who {
        Who::Raw => job.run(raw(server).await).await,
        Who::Stubborn => job.run(stubborn(server).await).await,
        Who::Perconn => job.run(conn(server).await).await,
    }
}

/// Runs a job on the halves of a fresh connection.
pub(crate) async fn run_split(who: Who, server: SocketAddr, job: &impl SplitJob) -> Duration {
    match who {
        Who::Raw => {
            let (reader, writer) = raw(server).await.into_split();
            job.run(reader, writer).await
        }
        Who::Stubborn => {
            let (reader, writer) = tokio::io::split(stubborn(server).await);
            job.run(reader, writer).await
        }
        Who::Perconn => {
            let (reader, writer) = conn(server).await.into_split();
            job.run(reader, writer).await
        }
    }
}

pub(crate) async fn raw(server: SocketAddr) -> TcpStream {
    TcpStream::connect(server).await.expect("the server is there")
}

pub(crate) async fn stubborn(server: SocketAddr) -> StubbornTcpStream<SocketAddr> {
    StubbornTcpStream::connect(server).await.expect("the server is there")
}

pub(crate) async fn conn(server: SocketAddr) -> Conn {
    Conn::connect(server).await.expect("the server is there")
}
