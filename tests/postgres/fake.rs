//! A server that speaks as much of the protocol as a test wants, and no more.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Config;

use crate::support::in_time;

pub struct Fake {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub fn config(&self) -> Config {
        let mut config = self.config_without_host();
        config.host(self.address.ip().to_string()).port(self.address.port());
        config
    }

    pub fn config_without_host(&self) -> Config {
        let mut config = Config::new();
        config.user("fake");
        config
    }

    /// The next connection, of which nothing was read.
    pub async fn accept(&self) -> Talk {
        Talk(in_time("accept", self.listener.accept()).await.unwrap().0)
    }

    /// The next one, logged in.
    pub async fn welcome(&self) -> Talk {
        let mut talk = self.accept().await;
        talk.welcome().await;
        talk
    }

    /// Whether nobody dials for a while.
    pub async fn is_left_alone(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.listener.accept()).await.is_err()
    }
}

/// One connection, from the server's side.
pub struct Talk(pub TcpStream);

impl Talk {
    /// Reads the startup message and lets the client in.
    pub async fn welcome(&mut self) {
        self.startup().await;
        self.send(&[ok(), ready()].concat()).await;
    }

    pub async fn startup(&mut self) {
        let length = in_time("a startup message", self.0.read_u32()).await.unwrap();
        let mut message = vec![0; length as usize - 4];
        in_time("a startup message", self.0.read_exact(&mut message)).await.unwrap();
    }

    /// The next query; `None` if the client has said goodbye, or has gone without.
    pub async fn query(&mut self) -> Option<String> {
        let (kind, body) = in_time("a message", self.message()).await?;
        (kind == b'Q').then(|| String::from_utf8(body[..body.len() - 1].to_vec()).unwrap())
    }

    pub async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.0.read_u8().await.ok()?;
        let length = self.0.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        in_time("a write", self.0.write_all(bytes)).await.unwrap();
    }

    /// Reads a query and answers that all of its statements are done. Gives it.
    pub async fn obey(&mut self) -> String {
        let sql = self.query().await.expect("a query");
        self.send(&done(&sql)).await;
        sql
    }

    pub fn reset(self) {
        crate::support::reset(self.0);
    }

    /// Whether the client is gone.
    pub async fn is_over(&mut self) -> bool {
        in_time("the end", async { while self.message().await.is_some() {} }).await;
        true
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// AuthenticationOk.
pub fn ok() -> Vec<u8> {
    message(b'R', &[0; 4])
}

/// ReadyForQuery.
pub fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// The answers to a query's statements.
pub fn done(sql: &str) -> Vec<u8> {
    let statements = sql.split(';').filter(|statement| !statement.trim().is_empty());
    let mut bytes: Vec<u8> =
        statements.flat_map(|sql| message(b'C', format!("{}\0", sql.split(' ').next().unwrap()).as_bytes())).collect();
    if bytes.is_empty() {
        bytes = message(b'I', b"");
    }
    bytes.extend(ready());
    bytes
}

/// ErrorResponse; the connection goes on if it is an `ERROR`.
pub fn error(severity: &str, code: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0Mso it is\0\0").as_bytes())
}

pub fn notification(channel: &str, payload: &str) -> Vec<u8> {
    let mut body = 7_u32.to_be_bytes().to_vec();
    body.extend(format!("{channel}\0{payload}\0").as_bytes());
    message(b'A', &body)
}
