//! Models of a connection: handles on threads of their own, and what the actor does to them, in every order of the steps.
//!
//! There is no actor: the model calls what the actor calls. The streams are of a type of their own.
//!
//! Next: [`crate::sync::modelled`], which says how a model is played.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::runtime::Handle;

use super::{Conn, ConnContext};
use crate::conn_state::{Command, ConnState, End};
use crate::fault::Cause;
use crate::sync::modelled::{AtomicU64, Mutex, check, check_up_to, thread, wait};
use crate::{Dial, Error, Op, Status, WhenDown};

/// A stream whose other end is the model's.
#[derive(Clone, Default)]
pub(super) struct Stream(Arc<Pipe>);

#[derive(Default)]
struct Pipe {
    /// The bytes that have arrived and were not read.
    arrived: AtomicU64,
    /// The bytes that it takes before it is full.
    room: AtomicU64,
    /// The tasks that wait, for a read and for a write.
    wakers: Mutex<[Option<Waker>; 2]>,
}

impl Stream {
    /// A byte arrives.
    pub(super) fn arrive(&self) {
        self.0.arrived.fetch_add(1, Ordering::AcqRel);
        self.wake(0);
    }

    /// There is room for this many bytes more.
    pub(super) fn make_room(&self, bytes: u64) {
        self.0.room.fetch_add(bytes, Ordering::AcqRel);
        self.wake(1);
    }

    fn wake(&self, direction: usize) {
        let waker = self.0.wakers.lock()[direction].take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes some of what is left. Pending if there is nothing.
    fn poll_take(&self, left: &AtomicU64, most: usize, direction: usize, cx: &Context<'_>) -> Poll<usize> {
        let replaced = self.0.wakers.lock()[direction].replace(cx.waker().clone());
        drop(replaced);
        let most = most as u64;
        let taken = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| Some(left - left.min(most)));
        match taken.unwrap_or_default().min(most) {
            0 => Poll::Pending,
            n => Poll::Ready(n as usize),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_take(&self.0.arrived, buf.remaining(), 0, cx).map(|n| {
            buf.put_slice(&vec![0; n]);
            Ok(())
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_take(&self.0.room, bytes.len(), 1, cx).map(Ok)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Names the type of the streams. It dials nothing.
pub(super) struct NoDialer;

impl Dial for NoDialer {
    type Stream = Stream;

    async fn dial(&mut self) -> io::Result<Stream> {
        unreachable!("a model has no actor")
    }
}

/// A connection without an actor.
pub(super) fn conn() -> (Conn<Stream>, Arc<ConnState<Stream>>) {
    let conn_state = Arc::new(ConnState::new("a:1".to_owned(), Duration::ZERO, Duration::ZERO));
    let context = ConnContext::new::<NoDialer>(
        Arc::clone(&conn_state),
        WhenDown::Wait,
        None,
        true,
        8,
        Duration::ZERO,
        Handle::current(),
    );
    (Conn::new(context), conn_state)
}

fn read(conn: &mut Conn<Stream>) -> io::Result<usize> {
    wait(Box::pin(conn.read(&mut [0])))
}

/// The link breaks while a task waits for a byte on it.
#[test]
fn break_wakes_a_read() {
    check(|| {
        let (mut conn, conn_state) = conn();
        conn_state.hand_over(1, Stream::default());
        let reads = thread::spawn(move || read(&mut conn));
        conn_state.record_break(1, Op::Read, || Cause::Requested).unwrap();
        let error = reads.join().unwrap().unwrap_err();
        assert!(matches!(Error::of(&error), Some(Error::IoError { generation: 1, .. })), "{error:?}");
    });
}

/// The same for the second wait of a task, for which it takes no lock any more: its waker is stored already.
#[test]
fn break_of_the_next_link_wakes_the_same_read() {
    check_up_to(4, || {
        let (mut conn, conn_state) = conn();
        conn_state.hand_over(1, Stream::default());
        let reads = thread::spawn(move || {
            wait(Box::pin(async move {
                for expected in [1, 2] {
                    let error = conn.read(&mut [0]).await.unwrap_err();
                    let error = Error::of(&error);
                    assert!(matches!(error, Some(Error::IoError { generation, .. }) if *generation == expected));
                }
            }));
        });
        conn_state.record_break(1, Op::Read, || Cause::Requested).unwrap();
        conn_state.hand_over(2, Stream::default());
        conn_state.record_break(2, Op::Read, || Cause::Requested).unwrap();
        reads.join().unwrap();
    });
}

/// A read moves to another task, with another waker, while the link breaks.
#[test]
fn break_wakes_the_task_that_reads_now() {
    check_up_to(4, || {
        let (mut conn, conn_state) = conn();
        conn_state.hand_over(1, Stream::default());
        let reads = thread::spawn(move || {
            let mut buf = [0];
            let mut read = Box::pin(conn.read(&mut buf));
            match wait(poll_fn(|cx| Poll::Ready(read.as_mut().poll(cx)))) {
                Poll::Ready(outcome) => outcome.unwrap_err(),
                Poll::Pending => wait(read).unwrap_err(),
            }
        });
        conn_state.record_break(1, Op::Read, || Cause::Requested).unwrap();
        reads.join().unwrap();
    });
}

/// A link comes up while a task waits for one.
#[test]
fn next_link_wakes_a_read() {
    check(|| {
        let (mut conn, conn_state) = conn();
        let stream = Stream::default();
        stream.arrive();
        let reads = thread::spawn(move || read(&mut conn));
        conn_state.hand_over(1, stream);
        assert_eq!(reads.join().unwrap().unwrap(), 1);
    });
}

/// The connection ends while a task waits for a link or on one.
#[test]
fn end_wakes_a_read() {
    check(|| {
        let (mut conn, conn_state) = conn();
        let reads = thread::spawn(move || read(&mut conn));
        conn_state.hand_over(1, Stream::default());
        conn_state.end(End::RuntimeShutdown);
        let error = reads.join().unwrap().unwrap_err();
        assert!(matches!(Error::of(&error), Some(Error::RuntimeShutdown)), "{error:?}");
    });
}

/// A handle finds a break while the actor waits for a command, and the actor hands over the next link.
#[test]
fn break_reaches_the_actor_and_its_link_the_handle() {
    check(|| {
        let (mut conn, conn_state) = conn();
        conn_state.hand_over(1, Stream::default());
        let actor = thread::spawn({
            let conn_state = Arc::clone(&conn_state);
            move || {
                let command = wait(poll_fn(|cx| conn_state.poll_command(cx)));
                assert!(matches!(command, Command::Redial(_)), "{command:?}");
                let next = Stream::default();
                next.arrive();
                conn_state.hand_over(2, next);
            }
        });
        conn_state.record_break(1, Op::Write, || Cause::PeerClosed).unwrap();
        assert!(read(&mut conn).is_err());
        assert_eq!(read(&mut conn).unwrap(), 1);
        actor.join().unwrap();
    });
}

/// A program waits for a status while links come and go.
#[test]
fn change_wakes_who_waits_for_a_status() {
    check(|| {
        let (conn, conn_state) = conn();
        let waits = thread::spawn({
            let mut watch = conn_state.watch_status();
            move || wait(Box::pin(async move { watch.wait_for(|status| *status == Status::Closed).await }))
        });
        conn_state.hand_over(1, Stream::default());
        drop(conn);
        waits.join().unwrap();
    });
}

/// The two halves wait on one link.
#[test]
fn break_wakes_both_halves() {
    check_up_to(3, || {
        let (mut conn, conn_state) = conn();
        conn_state.hand_over(1, Stream::default());
        conn.handle.take_link(crate::conn_state::Direction::Read);
        let (mut reads, mut writes) = conn.into_split();
        let reads = thread::spawn(move || wait(Box::pin(async move { reads.read(&mut [0]).await })).unwrap_err());
        let writes = thread::spawn(move || wait(Box::pin(async move { writes.write(&[0]).await })).unwrap_err());
        conn_state.record_break(1, Op::Read, || Cause::Requested).unwrap();
        reads.join().unwrap();
        writes.join().unwrap();
    });
}
