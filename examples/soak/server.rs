//! One connection's server: accepts its links, and does to each what the plan has drawn.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::account::Account;
use crate::compare::Served;
use crate::peer::Peer;
use crate::plan::{Fault, FaultKind, Habits};

pub(crate) const GREETING: &[u8; 15] = b"welcome, client";

/// How long a link may take to come to its fault. A client that was cut off in silence is given up then.
const TALK_LIMIT: Duration = Duration::from_secs(1);

pub(crate) struct Server {
    address: SocketAddr,
    habits: Habits,
    account: Arc<Account>,
    random: SmallRng,
    links: u64,
}

impl Server {
    /// Takes a port without listening on it.
    pub(crate) fn new(habits: Habits, account: &Arc<Account>, random: SmallRng) -> io::Result<(Self, TcpSocket)> {
        let socket = bind(([127, 0, 0, 1], 0).into(), &habits)?;
        let address = socket.local_addr()?;
        Ok((Self { address, habits, account: Arc::clone(account), random, links: 0 }, socket))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is set; then waits for the links that have not ended yet.
    pub(crate) async fn run(mut self, mut socket: TcpSocket, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let mut links = JoinSet::new();
        'listen: loop {
            let listener = socket.listen(64)?;
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stop.wait_for(|stop| *stop) => break 'listen,
                };
                while links.try_join_next().is_some() {}
                let Ok((stream, client)) = accepted else {
                    // The client is gone already, or no descriptor is free, which passes.
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let fault = Fault::draw(&mut self.random, self.habits.has_greeting);
                let link = self.link(stream, client.port(), fault);
                if fault.kind == FaultKind::Absence {
                    // From here on, dials are refused.
                    drop(listener);
                    socket = bind_again(self.address, &self.habits).await?;
                    link.await;
                    sleep(fault.time / 3).await;
                    break;
                }
                links.spawn(link);
            }
        }
        links.join_all().await;
        Ok(())
    }

    /// Serves one link.
    fn link(&mut self, stream: TcpStream, port: u16, fault: Fault) -> impl Future<Output = ()> + Send + use<> {
        self.links += 1;
        let (habits, account) = (self.habits, Arc::clone(&self.account));
        let random = SmallRng::seed_from_u64(self.random.random());
        let peer = Peer::new(stream, self.links, habits.has_halves, &account, random);
        async move {
            account.served(port, serve(peer, fault, habits.has_greeting).await);
        }
    }
}

/// Serves a link as planned, or until the client ends it.
async fn serve(mut peer: Peer, fault: Fault, has_greeting: bool) -> Served {
    match come_to(&mut peer, fault, has_greeting).await {
        Ok(End::Drain) => peer.close_and_drain().await,
        Ok(End::Close) => peer.close(true),
        Ok(End::Reset) => peer.close(false),
        Err(_) => peer.drain().await,
    }
}

/// How the server ends a link.
enum End {
    /// Closes its side, and reads what is still to come.
    Drain,
    Close,
    Reset,
}

/// Serves a link until it shall end. An error: the client has ended it before.
async fn come_to(peer: &mut Peer, fault: Fault, has_greeting: bool) -> io::Result<End> {
    let choose = |orderly| if fault.is_orderly { orderly } else { End::Reset };
    match fault.kind {
        FaultKind::AcceptAndClose => return Ok(choose(End::Close)),
        FaultKind::CutGreeting => {
            peer.send_plain(&GREETING[..GREETING.len() / 2]).await?;
            return Ok(choose(End::Close));
        }
        _ if has_greeting => peer.send_plain(GREETING).await?,
        _ => {}
    }
    peer.talk(fault.after, TALK_LIMIT).await?;
    Ok(match fault.kind {
        FaultKind::Close => End::Drain,
        FaultKind::AcceptAndClose | FaultKind::CutGreeting | FaultKind::Absence => choose(End::Drain),
        FaultKind::CloseUnread => {
            peer.wait_for_unread(fault.time / 10).await;
            // The kernel makes it a reset, unless nothing has come.
            End::Close
        }
        FaultKind::Reset => End::Reset,
        FaultKind::Stall => {
            sleep(fault.time).await;
            if fault.is_orderly {
                peer.talk(fault.after, TALK_LIMIT).await?;
            }
            choose(End::Drain)
        }
        FaultKind::HalfRecord => {
            peer.send_half_a_record().await?;
            End::Reset
        }
        FaultKind::SlowReads => {
            peer.read_slowly(Instant::now() + fault.time).await?;
            choose(End::Drain)
        }
        FaultKind::TimeLimit => {
            peer.talk(u64::MAX, TALK_LIMIT).await?;
            End::Drain
        }
    })
}

/// Takes a port without listening on it, so that dials are refused and nobody else gets it.
fn bind(address: SocketAddr, habits: &Habits) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Lets the port be taken again while earlier links linger. On Windows that needs no option, and this one would let
    // others take it, too.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    if let Some(size) = habits.buffer() {
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

/// Between the two, another connection's dial may get the port for its own end; it gives it back soon.
async fn bind_again(address: SocketAddr, habits: &Habits) -> io::Result<TcpSocket> {
    for _ in 0..2_000 {
        match bind(address, habits) {
            Err(_) => sleep(Duration::from_millis(5)).await,
            socket => return socket,
        }
    }
    bind(address, habits)
}
