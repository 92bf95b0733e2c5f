//! A server that speaks only as much of the protocol as a test needs.
//!
//! Next: `listening`, which shows how tests use it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Config;

use crate::support::in_time;

pub struct ScriptedServer {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl ScriptedServer {
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

    /// Accepts the next connection and reads nothing from it.
    pub async fn accept(&self) -> ServerConn {
        ServerConn(in_time("accept", self.listener.accept()).await.unwrap().0)
    }

    /// Accepts the next connection and completes its login.
    pub async fn accept_login(&self) -> ServerConn {
        let mut peer = self.accept().await;
        peer.accept_login().await;
        peer
    }

    /// True if nothing dials for this time.
    pub async fn sees_no_dial(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.listener.accept()).await.is_err()
    }
}

/// The server's end of one connection.
pub struct ServerConn(pub TcpStream);

impl ServerConn {
    /// Reads the startup message and completes the login.
    pub async fn accept_login(&mut self) {
        self.read_startup().await;
        self.send(&[authentication_ok(), ready_for_query()].concat()).await;
    }

    pub async fn read_startup(&mut self) {
        let length = in_time("a startup message", self.0.read_u32()).await.unwrap();
        let mut message = vec![0; length as usize - 4];
        in_time("a startup message", self.0.read_exact(&mut message)).await.unwrap();
    }

    /// Reads the next query. `None` if the client has ended the session or the connection.
    pub async fn read_query(&mut self) -> Option<String> {
        let (kind, body) = in_time("a message", self.read_message()).await?;
        (kind == b'Q').then(|| String::from_utf8(body[..body.len() - 1].to_vec()).unwrap())
    }

    /// Reads the next message: its kind and its body. `None` if the client has ended the connection.
    pub async fn read_message(&mut self) -> Option<(u8, Vec<u8>)> {
        let kind = self.0.read_u8().await.ok()?;
        let length = self.0.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some((kind, body))
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        in_time("a write", self.0.write_all(bytes)).await.unwrap();
    }

    /// Reads a query, and answers that all of its statements are complete. Returns the query.
    pub async fn answer_query(&mut self) -> String {
        let sql = self.read_query().await.expect("a query");
        self.send(&command_complete(&sql)).await;
        sql
    }

    pub fn reset(self) {
        crate::support::reset(self.0);
    }

    /// Reads until the client has closed the connection.
    pub async fn wait_for_close(&mut self) {
        in_time("the end", async { while self.read_message().await.is_some() {} }).await;
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

/// AuthenticationOk.
pub fn authentication_ok() -> Vec<u8> {
    message(b'R', &[0; 4])
}

/// ReadyForQuery.
pub fn ready_for_query() -> Vec<u8> {
    message(b'Z', b"I")
}

/// The answers to the statements of a query: CommandComplete for each (or EmptyQueryResponse), then ReadyForQuery.
pub fn command_complete(sql: &str) -> Vec<u8> {
    let statements = sql.split(';').filter(|statement| !statement.trim().is_empty());
    let mut bytes: Vec<u8> =
        statements.flat_map(|sql| message(b'C', format!("{}\0", sql.split(' ').next().unwrap()).as_bytes())).collect();
    if bytes.is_empty() {
        bytes = message(b'I', b"");
    }
    bytes.extend(ready_for_query());
    bytes
}

/// ErrorResponse. The connection stays up if the severity is `ERROR`.
pub fn error_response(severity: &str, code: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0V{severity}\0C{code}\0Mscripted error\0\0").as_bytes())
}

/// ErrorResponse as PgBouncer makes it: without the field V.
pub fn error_response_without_v(severity: &str, code: &str) -> Vec<u8> {
    message(b'E', format!("S{severity}\0C{code}\0Mscripted error\0\0").as_bytes())
}

/// NotificationResponse, from process 7.
pub fn notification(channel: &str, payload: &str) -> Vec<u8> {
    let mut body = 7_u32.to_be_bytes().to_vec();
    body.extend(format!("{channel}\0{payload}\0").as_bytes());
    message(b'A', &body)
}
