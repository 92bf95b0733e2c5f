//! A thousand clients of lines at once: each connects, sends a line, reads the answer, closes, and connects again.
//!
//! The bare loop has a task for each connection, with a [`BufReader`] for its lines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use perconn::acceptor::{Acceptor, AcceptorBuilder, LineConn};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{ROUND, alternate, bare, report, with_limits};

const CLIENTS: usize = 1000;
const BACKLOG: u32 = 4096;

/// What each connection sends, one line after the other.
const LINES: [(&str, usize); 2] = [("a line", 1), ("ten lines", 10)];

const LINE: &[u8; 32] = b"measure channel 7 in millivolts\n";

pub(crate) fn run(server: &Runtime, clients: &Runtime, pairs: usize) {
    raise_descriptor_limit();
    let _server = server.enter();
    let bare = bare(listener(), answer_lines);
    let plain = build(Acceptor::builder("0.0.0.0:0"));
    let limited = build(with_limits(Acceptor::builder("0.0.0.0:0")));
    for (name, acceptor) in [("", &plain), (", with limits and a hook", &limited)] {
        for (what, lines) in LINES {
            let mut round = 0;
            let rounds = alternate(pairs, [bare, acceptor.local_addr().unwrap()], |mut address| {
                // Ports in TIME_WAIT belong to the address that was connected to.
                round += 1;
                address.set_ip(IpAddr::V4(Ipv4Addr::new(127, 0, 1, round)));
                clients.block_on(measure(address, lines))
            });
            report(&format!("1000 line clients, {what} each{name}"), "/s", &rounds);
        }
    }
}

/// In its queue there is room for all clients, and so there is in the acceptor's.
fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    socket.listen(BACKLOG).unwrap()
}

fn build(builder: AcceptorBuilder) -> Acceptor {
    let builder = builder.acceptors(2 * CLIENTS).backlog(BACKLOG);
    builder.line_handler(async |line, conn: LineConn| conn.send(line).await).build().unwrap()
}

/// Both ends of a connection are in this process.
fn raise_descriptor_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// The bare handler: answers each line with the same line.
async fn answer_lines(mut stream: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(mut line) = lines.next_line().await? {
        line.push('\n');
        writer.write_all(line.as_bytes()).await?;
    }
    Ok(())
}

/// Connections a second, of all clients together.
async fn measure(address: SocketAddr, lines: usize) -> f64 {
    let start = Instant::now();
    let clients: JoinSet<_> = (0..CLIENTS).map(|_| connections(address, lines, start + ROUND)).collect();
    let done: u64 = clients.join_all().await.into_iter().sum();
    done as f64 / start.elapsed().as_secs_f64()
}

async fn connections(address: SocketAddr, lines: usize, end: Instant) -> u64 {
    let mut done = 0;
    while Instant::now() < end {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..lines {
            stream.write_all(LINE).await.unwrap();
            let mut answer = [0; LINE.len()];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, LINE);
        }
        done += 1;
    }
    done
}
