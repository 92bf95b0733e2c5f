//! Models of a `SharedConn`: callers and the write task on threads of their own.
//!
//! Next: [`crate::sync::modelled`], which says how a model is played.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use super::write_task::WriteTask;
use super::writer::{CONTENTION_ROUNDS, Writer};
use super::{SharedConn, SharedInner};
use crate::conn::models::{Stream, conn};
use crate::conn_state::ConnState;
use crate::fault::Cause;
use crate::sync::modelled::{check, check_up_to, thread, wait};
use crate::{Error, Op};

/// A connection for callers, and its write task, which the model runs. The callers queue their jobs.
fn shared(capacity: usize) -> (SharedConn<Stream>, WriteTask<Stream>, Arc<ConnState<Stream>>) {
    let (conn, conn_state) = conn();
    let (reader, mut half) = conn.into_split();
    drop(reader);
    half.dir.is_for_jobs = true;
    let writer = Arc::new(Writer::new(half, capacity, true));
    writer.lock().contention = CONTENTION_ROUNDS;
    let task = WriteTask::new(Arc::clone(&writer));
    let inner = SharedInner { conn_state: Arc::clone(&conn_state), reader: None, writer };
    (SharedConn::of(Arc::new(inner), 0), task, conn_state)
}

fn run(mut task: WriteTask<Stream>) -> thread::JoinHandle<()> {
    thread::spawn(move || wait(poll_fn(|cx| task.poll(cx))))
}

fn write(conn: &SharedConn<Stream>) -> std::io::Result<()> {
    wait(Box::pin(conn.write_all(&[0])))
}

/// The same in another thread, by a clone.
fn write_beside(conn: &SharedConn<Stream>) -> thread::JoinHandle<std::io::Result<()>> {
    let conn = conn.clone();
    thread::spawn(move || write(&conn))
}

/// A link that takes this many bytes.
fn link_with_room(conn_state: &ConnState<Stream>, bytes: u64) {
    let stream = Stream::default();
    stream.make_room(bytes);
    conn_state.hand_over(1, stream);
}

/// Two callers write beside the task. Without contention, the first writes directly.
fn two_callers_write(contention: u8) {
    check_up_to(2, move || {
        let (conn, task, conn_state) = shared(8);
        conn.inner.writer.lock().contention = contention;
        link_with_room(&conn_state, 2);
        let task = run(task);
        let other = write_beside(&conn);
        write(&conn).unwrap();
        other.join().unwrap().unwrap();
        drop(conn);
        task.join().unwrap();
    });
}

/// Two callers queue their jobs.
#[test]
fn every_job_is_sent() {
    two_callers_write(CONTENTION_ROUNDS);
}

/// A caller that is alone writes directly. The link takes its bytes only later.
#[test]
fn job_is_sent_when_there_is_room() {
    check_up_to(3, || {
        let (conn, task, conn_state) = shared(8);
        conn.inner.writer.lock().contention = 0;
        let stream = Stream::default();
        conn_state.hand_over(1, stream.clone());
        let task = run(task);
        let writes = thread::spawn(move || write(&conn).unwrap());
        stream.make_room(1);
        writes.join().unwrap();
        task.join().unwrap();
    });
}

/// A caller finds the permit taken and queues its job, while another one writes directly.
#[test]
fn job_that_is_queued_during_a_direct_write_is_sent() {
    two_callers_write(0);
}

/// A queue of one job: a caller that leaves makes room for the next.
#[test]
fn caller_that_leaves_makes_room() {
    check_up_to(2, || {
        let (conn, task, conn_state) = shared(1);
        link_with_room(&conn_state, 3);
        let task = run(task);
        let leaves = thread::spawn({
            let conn = conn.clone();
            move || {
                let mut write = Box::pin(conn.write_all(&[0]));
                wait(poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx).is_ready())));
            }
        });
        write(&conn).unwrap();
        leaves.join().unwrap();
        drop(conn);
        task.join().unwrap();
    });
}

/// The link breaks while a job waits for room on it. The next link takes it.
#[test]
fn job_is_sent_on_the_next_link() {
    check_up_to(2, || {
        let (conn, task, conn_state) = shared(8);
        conn_state.hand_over(1, Stream::default());
        let task = run(task);
        let writes = thread::spawn(move || write(&conn).unwrap());
        conn_state.record_break(1, Op::Write, || Cause::Requested).unwrap();
        let next = Stream::default();
        next.make_room(1);
        conn_state.hand_over(2, next);
        writes.join().unwrap();
        task.join().unwrap();
    });
}

/// A close waits for the jobs.
#[test]
fn close_waits_for_the_jobs() {
    check_up_to(2, || {
        let (conn, task, conn_state) = shared(8);
        link_with_room(&conn_state, 1);
        let task = run(task);
        let writes = write_beside(&conn);
        wait(Box::pin(conn.inner.writer.drain(std::time::Duration::from_secs(5))));
        drop(conn);
        if let Err(error) = writes.join().unwrap() {
            assert!(matches!(Error::of(&error), Some(Error::ClosedConnection)), "{error:?}");
        }
        task.join().unwrap();
    });
}

/// The runtime drops the task while a caller waits for it.
#[test]
fn end_of_the_task_fails_the_jobs() {
    check(|| {
        let (conn, task, conn_state) = shared(8);
        conn_state.hand_over(1, Stream::default());
        let writes = thread::spawn(move || write(&conn).unwrap_err());
        drop(task);
        writes.join().unwrap();
    });
}
