//! The streams that are compared, and what they are made to do.

use std::net::SocketAddr;
use std::time::Duration;

use perconn::Conn;
use stubborn_io::StubbornTcpStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidate {
    Raw,
    Stubborn,
    Perconn,
}

pub(crate) const ALL: [Candidate; 3] = [Candidate::Raw, Candidate::Stubborn, Candidate::Perconn];

/// Work for one stream of any candidate.
pub(crate) trait Workload {
    fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) -> impl Future<Output = Duration>;
}

/// Work for the two halves of a stream.
pub(crate) trait SplitWorkload {
    fn run<R, W>(&self, reader: R, writer: W) -> impl Future<Output = Duration>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static;
}

/// Runs a workload on a fresh connection.
pub(crate) async fn run(candidate: Candidate, server: SocketAddr, work: &impl Workload) -> Duration {
    match candidate {
        Candidate::Raw => work.run(raw(server).await).await,
        Candidate::Stubborn => work.run(stubborn(server).await).await,
        Candidate::Perconn => work.run(conn(server).await).await,
    }
}

/// Runs a workload on the halves of a fresh connection.
pub(crate) async fn run_split(candidate: Candidate, server: SocketAddr, work: &impl SplitWorkload) -> Duration {
    match candidate {
        Candidate::Raw => {
            let (reader, writer) = raw(server).await.into_split();
            work.run(reader, writer).await
        }
        Candidate::Stubborn => {
            let (reader, writer) = tokio::io::split(stubborn(server).await);
            work.run(reader, writer).await
        }
        Candidate::Perconn => {
            let (reader, writer) = conn(server).await.into_split();
            work.run(reader, writer).await
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
