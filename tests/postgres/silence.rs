//! A server that says nothing, and one that only seems to.

use std::time::{Duration, Instant};

use perconn::postgres::Error;

use crate::fake::{Fake, done, notification};
use crate::server::Postgres;
use crate::support::in_time;
use crate::world::{Diary, connected, on_one_and_two_threads, outage, payload, quick};

const BEAT: Duration = Duration::from_millis(400);
const LIMIT: Duration = Duration::from_millis(600);

#[test]
fn server_that_is_stopped_is_found_and_found_again_when_it_goes_on() {
    let Some(server) = Postgres::start("server_that_is_stopped") else { return };
    on_one_and_two_threads(async || {
        let mut listener = connected(quick(server.config()).heartbeat(BEAT).ping_timeout(LIMIT)).await;
        in_time("listen", listener.listen("a")).await.unwrap();
        server.freeze();
        let begin = Instant::now();
        // What this side says is no sign of life.
        let handle = listener.handle();
        let talking = tokio::spawn(async move {
            while handle.is_connected() {
                let _ = tokio::time::timeout(Duration::from_millis(50), handle.listen("b")).await;
            }
        });
        in_time("the loss", talking).await.unwrap();
        let took = begin.elapsed();
        println!("found after {took:?}, of {:?} at least", LIMIT);
        assert!(took >= LIMIT, "{took:?}");
        server.thaw();
        let cause = outage(&mut listener).await;
        assert!(matches!(*cause, Error::Silent { .. }), "{cause:?}");
        server.client().await.notify("a", "back").await.unwrap();
        assert_eq!(payload(&mut listener).await, "back");
    });
}

#[test]
fn ping_that_nobody_answers_says_so_in_time_and_the_link_is_given_up() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let mut listener = quick(fake.config()).heartbeat(None).ping_timeout(LIMIT).build().unwrap();
        let mut talk = fake.welcome().await;
        let begin = Instant::now();
        let handle = listener.handle();
        while matches!(handle.ping().await, Err(Error::Down)) {
            tokio::task::yield_now().await;
        }
        assert!(begin.elapsed() >= LIMIT);
        talk.query().await.unwrap();
        let _talk = fake.welcome().await;
        assert!(matches!(*outage(&mut listener).await, Error::Silent { .. }));
    });
}

#[test]
fn ping_without_a_connection_says_so_at_once() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let listener = quick(fake.config()).build().unwrap();
        assert!(matches!(in_time("ping", listener.ping()).await, Err(Error::Down)));
    });
}

#[test]
fn anything_that_comes_in_is_a_sign_of_life() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let diary = Diary::default();
        let builder = quick(fake.config()).heartbeat(BEAT).ping_timeout(LIMIT);
        let mut listener = builder.on_event(diary.hook()).build().unwrap();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(listener.listen("a"), talk.obey());
        listened.unwrap();
        // It is asked, and never answers; but a notification dribbles in, a byte now and then.
        let message = notification("a", "slowly but surely");
        let begin = Instant::now();
        for byte in message.chunks(1) {
            talk.send(byte).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        assert!(begin.elapsed() > 2 * (BEAT + LIMIT));
        assert_eq!(payload(&mut listener).await, "slowly but surely");
        assert_eq!(diary.words(), ["connected"]);
    });
}

#[test]
fn program_that_could_not_run_does_not_blame_the_server() {
    on_one_and_two_threads(async || {
        let fake = Fake::start().await;
        let diary = Diary::default();
        let builder = quick(fake.config()).heartbeat(BEAT).ping_timeout(LIMIT);
        let mut listener = builder.on_event(diary.hook()).build().unwrap();
        let mut talk = fake.welcome().await;
        let (listened, _) = tokio::join!(listener.listen("a"), talk.obey());
        listened.unwrap();
        // The server answers from a thread of its own, and this program stands still when it is just about to be asked.
        let stream = talk.0.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut message = [0; 6];
            let mut stream = stream;
            while stream.read_exact(&mut message).is_ok() && stream.write_all(&done("")).is_ok() {}
            stream.write_all(&[])
        });
        for _ in 0..3 {
            tokio::time::sleep(BEAT - Duration::from_millis(20)).await;
            // All of the runtime's threads, as on a machine that is suspended.
            let blocked: Vec<_> = (0..2)
                .map(|_| tokio::spawn(async { std::thread::sleep(BEAT + LIMIT + Duration::from_millis(200)) }))
                .collect();
            for blocked in blocked {
                in_time("it runs again", blocked).await.unwrap();
            }
        }
        assert_eq!(diary.words(), ["connected"]);
        in_time("close", listener.close()).await;
        assert!(listener.recv().await.is_err());
        let _ = server.join().unwrap();
    });
}
