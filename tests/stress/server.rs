//! The server of one connection: a plain tokio program that does to each link what the plan says.
//!
//! Next: [`frame`](crate::frame), what it reads and answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::frame::{Ack, FrameReader};
use crate::jobs::LinkLog;
use crate::plan::{Course, LinkEnd, LinkPlan, Use};
use crate::play::{Phase, Play, resume};
use crate::totals::{Count, add, count};

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    play: Arc<Play>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start(play: &Arc<Play>) -> Self {
        let place = play.places.of(play.plan.server);
        let _runtime = place.enter();
        let listener = listen(play.plan.buffers).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = place.spawn(accept(Arc::clone(play), listener, stopped));
        Self { address, play: Arc::clone(play), stop, task }
    }

    /// Runs `client`, and fails as soon as the server fails.
    pub(crate) async fn beside(&mut self, client: impl Future<Output = ()>) {
        tokio::select! {
            () = client => {}
            outcome = &mut self.task => outcome.unwrap_or_else(resume),
        }
    }

    /// Ends the server after the client, whose links must all be gone.
    pub(crate) async fn end(self) {
        drop(self.stop);
        self.play.limit("the end of a link, after that of the client", self.task).await.unwrap_or_else(resume);
    }
}

fn listen(buffers: Option<u32>) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    if let Some(size) = buffers {
        socket.set_recv_buffer_size(size)?;
        socket.set_send_buffer_size(size)?;
    }
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    socket.listen(1024)
}

/// Serves one link after the other, or several at once while the client leaves earlier ones.
async fn accept(play: Arc<Play>, listener: TcpListener, mut stopped: oneshot::Receiver<()>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                links.spawn(Link::new(&play, accepted.unwrap().0).serve());
            }
            Some(outcome) = links.join_next() => outcome.unwrap_or_else(resume),
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    while let Some(outcome) = links.join_next().await {
        outcome.unwrap_or_else(resume);
    }
}

/// The server's end of one link.
struct Link {
    play: Arc<Play>,
    stream: TcpStream,
    /// From 1.
    number: u64,
    is_calm: bool,
    frames: FrameReader,
    answered: u64,
    buf: Vec<u8>,
}

impl Link {
    fn new(play: &Arc<Play>, stream: TcpStream) -> Self {
        count(Count::Links);
        let mut links = play.links.lock().unwrap();
        let is_calm = play.phase() == Phase::Calm;
        links.push(LinkLog { is_calm, ..LinkLog::default() });
        let (number, frames) = (links.len() as u64, FrameReader::default());
        Self { play: Arc::clone(play), stream, number, is_calm, frames, answered: 0, buf: vec![0; 16 * 1024] }
    }

    async fn serve(mut self) {
        if self.is_calm {
            count(Count::InCalm);
            // Until the client ends it.
            let _ = self.read(usize::MAX, u64::MAX).await;
            return;
        }
        let plan = LinkPlan::draw(&mut self.play.plan.generator(Use::Link, self.number));
        let play = Arc::clone(&self.play);
        let is_up = tokio::select! {
            outcome = self.take(&plan) => outcome.is_ok(),
            () = sleep(plan.limit) => true,
            () = play.is_calming_down() => true,
        };
        // Otherwise the client has ended it.
        if is_up {
            self.end(&plan).await;
        }
    }

    /// Does what the plan says before the end of the link. Fails if the client ends it first.
    async fn take(&mut self, plan: &LinkPlan) -> io::Result<()> {
        match plan.course {
            Course::AtOnce => Ok(()),
            Course::Serve => self.read(plan.bytes, u64::MAX).await,
            Course::AnswerOnce => self.read(usize::MAX, 1).await,
            Course::Stall(time) => {
                self.read(plan.bytes / 2, u64::MAX).await?;
                sleep(time).await;
                self.read(plan.bytes / 2, u64::MAX).await
            }
        }
    }

    async fn end(mut self, plan: &LinkPlan) {
        match plan.course {
            Course::AtOnce => count(Count::ClosedAtOnce),
            Course::AnswerOnce => count(Count::Answered),
            Course::Stall(_) => count(Count::Stalled),
            Course::Serve => {}
        }
        match plan.end {
            LinkEnd::Reset => {
                count(Count::Reset);
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            LinkEnd::Close => count(Count::Closed),
            LinkEnd::HalfClose => {
                count(Count::HalfClosed);
                if self.stream.shutdown().await.is_ok() {
                    let play = Arc::clone(&self.play);
                    let _ = play.limit("the client's end of a half-closed link", self.read_on()).await;
                }
            }
        }
    }

    /// Reads and answers until this many bytes were read or frames answered. Fails if the client ends the link.
    async fn read(&mut self, bytes: usize, answers: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 && self.answered < answers {
            let room = left.min(self.buf.len());
            let n = self.stream.read(&mut self.buf[..room]).await?;
            let answer = self.feed(n)?;
            left -= n;
            if self.play.plan.readers > 0 {
                self.stream.write_all(&answer).await?;
            }
        }
        Ok(())
    }

    /// Reads what the client still sends, without an answer.
    async fn read_on(&mut self) -> io::Result<()> {
        loop {
            let n = self.stream.read(&mut self.buf).await?;
            self.feed(n)?;
        }
    }

    /// Notes what has arrived, and returns the answers. Fails at the end of the stream.
    fn feed(&mut self, n: usize) -> io::Result<Vec<u8>> {
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        add(Count::BytesReceived, n as u64);
        let mut arrived = Vec::new();
        if let Err(violation) = self.frames.feed(&self.buf[..n], |frame| arrived.push(frame)) {
            self.play.fail(format_args!("link {}, after {} frames: {violation}", self.number, self.answered));
        }
        add(Count::JobsArrived, arrived.len() as u64);
        let mut answer = Vec::new();
        for frame in &arrived {
            if frame.client != self.play.client {
                self.play.fail(format_args!("link {}: a frame of another client: {frame:?}", self.number));
            }
            answer.extend(Ack { link: self.number, index: self.answered }.to_bytes());
            self.answered += 1;
        }
        let arrived = arrived.iter().map(|frame| (frame.task, frame.job));
        let mut links = self.play.links.lock().unwrap();
        let log = &mut links[self.number as usize - 1];
        log.arrived.extend(arrived);
        log.cut = self.frames.cut();
        drop(links);
        self.play.note_change();
        Ok(answer)
    }
}
