//! Request and response over `Sessions`: a session ends with its link, and so do the late answers.
//!
//! `cargo run --features session --example request_session -- 127.0.0.1:7777`, answered by `--example echo_server`.

use std::{io, time::Duration};

use perconn::{Conn, Session, Sessions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

async fn ask(session: &mut BufReader<Session>, request: &str) -> io::Result<String> {
    session.write_all(format!("{request}\n").as_bytes()).await?;
    let mut answer = String::new();
    session.read_line(&mut answer).await?;
    // A session ends like a `TcpStream`: half a line has no line end.
    if answer.ends_with('\n') { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Asks each request until it has an answer. The server can get a request more than once.
pub async fn ask_all(mut sessions: Sessions, requests: &[String], limit: Duration) -> io::Result<Vec<String>> {
    let mut answers = Vec::new();
    while answers.len() < requests.len() {
        let mut session = BufReader::new(sessions.next().await?); // the place for a login
        // After a timeout or an error, the next session begins. That breaks the link of this one.
        while let Some(request) = requests.get(answers.len()) {
            let Ok(Ok(answer)) = timeout(limit, ask(&mut session, request)).await else { break };
            answers.push(answer);
        }
    }
    Ok(answers)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7777".into());
    let sessions = Sessions::new(Conn::builder(address).build()?);
    print!("{}", ask_all(sessions, &["one".into(), "two".into()], Duration::from_secs(2)).await?.concat());
    Ok(())
}
