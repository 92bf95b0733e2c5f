//! A clone that only writes learns that its jobs were lost on a link that broke before it was stable, and jobs can wait
//! until such a link has settled.

use std::io;
use std::time::Duration;

use perconn::{Conn, Error, SharedConn, WhenDown};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_test::task::spawn;

use super::wait_for_generation;
use crate::support::{Server, in_time, perconn_error, quick, reset, wait_for_disconnect};

const STABLE: Duration = Duration::from_secs(60);

/// A load balancer without a backend: it accepts each connection and closes it, at once or when a byte has arrived.
async fn balancer(waits_for_a_byte: bool) -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepts = async move {
        loop {
            let mut stream = listener.accept().await.unwrap().0;
            if waits_for_a_byte {
                let _ = stream.read(&mut [0]).await;
            }
        }
    };
    (address, tokio::spawn(accepts))
}

/// Writes one job on a link, and waits for its break.
async fn write_and_lose(conn: &SharedConn, server: &Server) {
    let peer = server.accept().await;
    in_time("the link", conn.connected()).await.unwrap();
    in_time("the first job", conn.write_all(b"first")).await.unwrap();
    drop(peer);
    in_time("the break", wait_for_disconnect(conn.watch_status())).await;
}

#[tokio::test]
async fn program_that_only_writes_learns_that_nobody_is_behind_the_balancer() {
    let (address, _balancer) = balancer(true).await;
    let conn = quick(Conn::builder(address)).stable_after(STABLE).connect().await.unwrap().into_shared();
    let mut outcomes = Vec::new();
    for _ in 0..10 {
        in_time("the next link", conn.connected()).await.unwrap();
        let is_ok = in_time("a job", conn.write_all(b"a line\n")).await.is_ok();
        if is_ok {
            in_time("the break", wait_for_disconnect(conn.watch_status())).await;
        }
        outcomes.push(is_ok);
    }
    let lost = outcomes.iter().filter(|is_ok| **is_ok).count();
    assert!(lost <= 5, "{lost} of {} jobs were lost silently: {outcomes:?}", outcomes.len());
}

#[tokio::test]
async fn next_job_reports_a_short_link_once_and_is_not_sent() {
    let server = Server::start().await;
    let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
    let other = conn.clone();
    write_and_lose(&conn, &server).await;
    let error = in_time("the next job", conn.write_all(b"second")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ShortLink { generation: 1, .. }), "{error:?}");
    let text = perconn_error(&error).with_causes().to_string();
    assert!(text.contains("this one was not sent") && text.contains("not sent: "), "{text}");
    let mut peer = server.accept().await;
    in_time("the same job again", conn.write_all(b"third")).await.unwrap();
    in_time("a job of a clone that had written nothing", other.write_all(b"other")).await.unwrap();
    let mut all = [0; 10];
    in_time("the peer", peer.read_exact(&mut all)).await.unwrap();
    assert_eq!(&all, b"thirdother");
}

#[tokio::test]
async fn stable_link_and_a_link_that_the_program_broke_are_not_reported() {
    let server = Server::start().await;
    let conn = server.client().stable_after(Duration::ZERO).build().unwrap().into_shared();
    write_and_lose(&conn, &server).await;
    let _second = server.accept().await;
    in_time("a job after a stable link", conn.write_all(b"x")).await.unwrap();

    let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
    let _first = server.accept().await;
    in_time("a job", conn.write_all(b"x")).await.unwrap();
    conn.break_link(1);
    let _second = server.accept().await;
    in_time("a job after a break by the program", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
async fn queued_jobs_of_an_outage_are_sent_and_not_failed() {
    let server = Server::start().await;
    let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
    let clones: Vec<_> = (0..5).map(|_| conn.clone()).collect();
    write_and_lose(&conn, &server).await;
    let jobs: Vec<_> =
        clones.into_iter().map(|clone| tokio::spawn(async move { clone.write_all(b"job").await })).collect();
    let mut peer = server.accept().await;
    in_time("the peer", peer.read_exact(&mut [0; 15])).await.unwrap();
    for job in jobs {
        in_time("a job", job).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn jobs_wait_until_the_link_after_a_short_one_has_settled() -> io::Result<()> {
    let (address, balancer) = balancer(false).await;
    let builder = quick(Conn::builder(address)).stable_after(STABLE).settle_time(Duration::from_millis(200));
    let conn = builder.connect().await.unwrap().into_shared();
    wait_for_generation(&conn, 3).await;
    let job = tokio::spawn({
        let conn = conn.clone();
        async move { conn.write_all(b"waits for a backend").await }
    });
    wait_for_generation(&conn, 10).await;
    assert!(!job.is_finished(), "it is sent on no link that is closed at once");
    balancer.abort();
    let _ = balancer.await;
    let listener = TcpListener::bind(address).await?;
    let mut peer = in_time("a dial to the backend", listener.accept()).await?.0;
    let mut all = [0; 19];
    in_time("the job", peer.read_exact(&mut all)).await?;
    assert_eq!(&all, b"waits for a backend");
    in_time("the job's end", job).await.unwrap()
}

#[tokio::test]
async fn job_whose_future_was_dropped_in_the_middle_counts_for_the_next_one() {
    let server = Server::start().await;
    let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
    let mut peer = server.accept().await;
    let huge = vec![1; HUGE];
    {
        let mut dropped = spawn(conn.write_all(&huge));
        assert!(dropped.poll().is_pending());
        in_time("its first bytes", peer.read_exact(&mut [0; 5])).await.unwrap();
    }
    in_time("the whole job", peer.read_exact(&mut vec![0; HUGE - 5])).await.unwrap();
    drop(peer);
    in_time("the break", wait_for_disconnect(conn.watch_status())).await;
    let error = in_time("the next job", conn.write_all(b"x")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ShortLink { generation: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn wait_for_a_link_that_settles_has_a_limit() {
    let (address, _balancer) = balancer(false).await;
    let limit = Duration::from_millis(300);
    let builder = quick(Conn::builder(address)).stable_after(STABLE).settle_time(Duration::from_secs(60));
    let conn = builder.when_down(WhenDown::WaitFor(limit)).build().unwrap().into_shared();
    wait_for_generation(&conn, 2).await;
    let began = conn.generation();
    let error = in_time("a job", conn.write_all(b"waits for a backend")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::WaitTimeout { .. }), "{error:?}");
    assert!(conn.generation() > began + 1, "there was no other link in that time");
}

#[tokio::test]
async fn job_that_must_not_wait_fails_while_a_link_settles() {
    let server = Server::start().await;
    let builder = server.client().stable_after(STABLE).settle_time(Duration::from_secs(60));
    let conn = builder.when_down(WhenDown::Fail).build().unwrap().into_shared();
    let other = conn.clone();
    write_and_lose(&conn, &server).await;
    let _second = server.accept().await;
    in_time("the second link", conn.connected()).await.unwrap();
    let error = in_time("a job", other.write_all(b"x")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::Down { .. }), "{error:?}");
}

#[tokio::test]
async fn short_link_is_reported_after_any_number_of_further_short_links() {
    for broken_by_program in [None, Some(20)] {
        let server = Server::start().await;
        let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
        write_and_lose(&conn, &server).await;
        for generation in 2..42 {
            let peer = server.accept().await;
            wait_for_generation(&conn, generation).await;
            if Some(generation) == broken_by_program {
                conn.break_link(generation);
            }
            drop(peer);
        }
        let _last = server.accept().await;
        wait_for_generation(&conn, 42).await;
        match (broken_by_program, in_time("the next job", conn.write_all(b"x")).await) {
            (None, Err(error)) => {
                assert!(matches!(perconn_error(&error), Error::ShortLink { generation: 1, .. }), "{error:?}");
            }
            // Whether the first link was short is not known any more.
            (Some(_), Ok(())) => {}
            (_, outcome) => panic!("{outcome:?}"),
        }
    }
}

/// More than any socket buffers.
const HUGE: usize = 16 << 20;

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn short_link_is_reported_even_if_a_queued_job_went_on_to_the_next_link() {
    let server = Server::start().await;
    let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
    let mut peer = server.accept().await;
    in_time("a job that may be lost", conn.write_all(b"lost")).await.unwrap();
    let (other, huge) = (conn.clone(), vec![1; HUGE]);
    let mut huge_job = spawn(other.write_all(&huge));
    assert!(huge_job.poll().is_pending());
    in_time("its first bytes", peer.read_exact(&mut [0; 5])).await.unwrap();
    let mut queued = spawn(conn.write_all(b"queued"));
    assert!(queued.poll().is_pending());
    reset(peer);
    let _second = server.accept().await;
    in_time("the queued job", queued).await.unwrap();
    assert!(in_time("the job that was cut", huge_job).await.is_err());
    let error = in_time("the next job", conn.write_all(b"x")).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::ShortLink { generation: 1, .. }), "{error:?}");
    in_time("the same job again", conn.write_all(b"x")).await.unwrap();
}

#[tokio::test]
#[cfg_attr(windows, ignore = "Windows takes a write whole, however long it is")]
async fn link_that_cut_a_job_is_not_reported_again() {
    let server = Server::start().await;
    let conn = server.client().stable_after(STABLE).build().unwrap().into_shared();
    let mut peer = server.accept().await;
    in_time("a job that may be lost", conn.write_all(b"lost")).await.unwrap();
    let huge = vec![1; HUGE];
    let mut job = spawn(conn.write_all(&huge));
    assert!(job.poll().is_pending());
    in_time("its first bytes", peer.read_exact(&mut [0; 5])).await.unwrap();
    reset(peer);
    assert!(in_time("the job that was cut", job).await.is_err());
    let _second = server.accept().await;
    in_time("the next job", conn.write_all(b"x")).await.unwrap();
}
