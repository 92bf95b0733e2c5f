//! Names that a function of the program resolves.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Server, in_time, perconn_error, quick, refused_address, wait_for_generation};
use perconn::{Builder, Conn, Dial, Error, TcpDialer};
use tokio::io::AsyncReadExt;

/// A builder whose name a function resolves to this answer.
fn answered(answer: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Builder {
    quick(Conn::builder("db.example:5432")).resolver(move |_, _| {
        let answer = answer();
        async { answer }
    })
}

/// The text and the kind of the failure of a first dial.
async fn failure(builder: Builder<impl Dial>) -> (String, io::ErrorKind) {
    match in_time("connect", builder.connect()).await {
        Err(error @ Error::DialFailure { .. }) => (error.with_causes().to_string(), error.kind()),
        Err(other) => panic!("expected DialFailure: {other:?}"),
        Ok(_) => panic!("expected a failure, but the dial has succeeded"),
    }
}

#[tokio::test]
async fn own_resolver_is_asked_for_each_dial_and_decides_where_it_goes() {
    let (old, new) = (Server::start().await, Server::start().await);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (questions, answers) = (Arc::clone(&asked), [old.address, new.address]);
    let builder = quick(Conn::builder("db.example:5432")).resolver(move |host, port| {
        let mut asked = questions.lock().unwrap();
        let answer = answers[asked.len().min(1)];
        asked.push((host, port));
        async move { Ok(vec![answer]) }
    });
    let mut conn = in_time("connect", builder.connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), old.address);
    // The service moves.
    drop(old.accept().await);
    assert_eq!(in_time("the end", conn.read(&mut [0])).await.unwrap(), 0);
    wait_for_generation(&conn, 2).await;
    assert_eq!(conn.peer_addr().unwrap(), new.address);
    assert_eq!(*asked.lock().unwrap(), vec![("db.example".to_owned(), 5432); 2]);
}

#[tokio::test]
async fn literal_address_is_not_resolved() {
    let server = Server::start().await;
    let never = |_, _| async { panic!("a literal address was resolved") };
    let conn = in_time("connect", Conn::builder(server.address).resolver(never).connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
    // One with a zone goes to the system, which knows the interfaces.
    let port = refused_address().await.port();
    for literal in [format!("[::1]:{port}"), format!("[::1%1]:{port}")] {
        let (text, _) = failure(quick(Conn::builder(literal)).resolver(never)).await;
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[tokio::test]
async fn addresses_of_the_answer_are_tried_until_one_connects() {
    let (dead, server) = (refused_address().await, Server::start().await);
    let alive = server.address;
    let conn = in_time("connect", answered(move || Ok(vec![dead, dead, alive])).connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), alive);
    let other = refused_address().await;
    let (text, kind) = failure(answered(move || Ok(vec![dead, other, dead]))).await;
    assert_eq!(kind, io::ErrorKind::ConnectionRefused);
    let refused = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
    let expected = format!("no address answered: {dead}: {refused}; {other}: {refused}");
    assert_eq!(text, format!("dial 1 to db.example:5432 failed: {expected}"));
}

#[tokio::test]
async fn port_zero_of_an_answer_is_the_port_of_the_name() {
    let server = Server::start().await;
    let name = format!("db.example:{}", server.address.port());
    let builder = Conn::builder(name).resolver(|_, _| async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) });
    let conn = in_time("connect", builder.connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), server.address);
}

/// SRV: the answer has the ports of the record, and the servers of the first priority come first.
#[tokio::test]
async fn service_record_leads_to_its_servers_by_priority() {
    /// A DNS library with one record for the service: priority, host, port.
    async fn look_up_srv(service: &str, record: [(u16, &'static str, u16); 3]) -> io::Result<Vec<(u16, String, u16)>> {
        assert_eq!(service, "_db._tcp.example");
        Ok(record.map(|(priority, host, port)| (priority, host.to_owned(), port)).to_vec())
    }
    let (dead, first, second) = (refused_address().await, Server::start().await, Server::start().await);
    let record = [
        (20, "127.0.0.1", second.address.port()),
        (10, "127.0.0.1", dead.port()),
        (10, "127.0.0.1", first.address.port()),
    ];
    let builder = quick(Conn::builder("example:5432")).resolver(move |host, _| async move {
        let mut found = look_up_srv(&format!("_db._tcp.{host}"), record).await?;
        found.sort_by_key(|(priority, ..)| *priority);
        let mut addresses = Vec::new();
        for (_, host, port) in found {
            addresses.extend(tokio::net::lookup_host((host, port)).await?);
        }
        Ok(addresses)
    });
    let conn = in_time("connect", builder.connect()).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), first.address);
}

#[tokio::test]
async fn each_of_several_addresses_is_resolved_whichever_setting_comes_first() {
    let (dead, server) = (refused_address().await, Server::start().await);
    let alive = server.address;
    let resolve = move |host: String, _| async move { Ok(vec![if host == "one.example" { dead } else { alive }]) };
    let names = ["one.example:1", "two.example:2"];
    for builder in [
        Conn::builder("cluster").resolver(resolve).addresses(names),
        Conn::builder("cluster").addresses(names).resolver(resolve),
        Conn::builder("cluster").dialer(TcpDialer::with_addresses(names).resolver(resolve)),
    ] {
        let conn = in_time("connect", quick(builder).connect()).await.unwrap();
        assert_eq!(conn.peer_addr().unwrap(), alive);
    }
}

#[tokio::test]
async fn answers_that_lead_nowhere_are_clear_errors() {
    let (text, kind) = failure(answered(|| Ok(Vec::new()))).await;
    assert_eq!(
        (text.as_str(), kind),
        ("dial 1 to db.example:5432 failed: the name has no addresses", io::ErrorKind::NotFound)
    );
    let (text, kind) = failure(answered(|| Err(io::Error::new(io::ErrorKind::HostUnreachable, "SERVFAIL")))).await;
    assert_eq!(text, "dial 1 to db.example:5432 failed: name resolution: SERVFAIL");
    assert_eq!(kind, io::ErrorKind::HostUnreachable);
    let thousands = || (1..5000).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
    let (text, kind) = failure(answered(move || Ok(thousands()))).await;
    assert!(text.ends_with("failed: the resolver returned 4999 addresses: expected at most 1000"), "{text}");
    assert_eq!(kind, io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn panic_of_the_resolver_fails_the_dial_and_the_next_one_asks_again() {
    let server = Server::start().await;
    let alive = server.address;
    let call = |_, _| -> std::future::Ready<io::Result<Vec<SocketAddr>>> { panic!("as the test wants it") };
    let (in_the_call, _) = failure(quick(Conn::builder("db.example:5432")).resolver(call)).await;
    let future = |_, _| async { panic!("as the test wants it") };
    let (in_the_future, _) = failure(quick(Conn::builder("db.example:5432")).resolver(future)).await;
    for text in [in_the_call, in_the_future] {
        let expected = "name resolution: the resolver panicked: as the test wants it";
        assert_eq!(text, format!("dial 1 to db.example:5432 failed: {expected}"));
    }
    let calls = AtomicUsize::new(0);
    let builder = answered(move || match calls.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("as the test wants it"),
        _ => Ok(vec![alive]),
    });
    let conn = builder.build().unwrap();
    in_time("the second dial", conn.connected()).await.unwrap();
}

#[tokio::test]
async fn resolver_that_does_not_answer_is_dropped_at_the_dial_timeout_and_named() {
    struct Question(Arc<AtomicUsize>);

    impl Drop for Question {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let builder = quick(Conn::builder("db.example:5432")).resolver(move |_, _| {
        let question = Question(Arc::clone(&counter));
        async move {
            let _question = question;
            pending().await
        }
    });
    let (text, kind) = failure(builder.dial_timeout(Duration::from_millis(20))).await;
    assert_eq!(text, "dial 1 to db.example:5432 failed: name resolution: the dial took longer than 20ms");
    assert_eq!((kind, dropped.load(Ordering::Relaxed)), (io::ErrorKind::TimedOut, 1));
}

/// The name is found, and the set-up is slow: nothing is said of the name.
#[tokio::test]
async fn slow_step_after_the_resolution_is_not_blamed_on_it() {
    let server = Server::start().await;
    let alive = server.address;
    let builder = answered(move || Ok(vec![alive])).and_then(|_| pending::<io::Result<tokio::net::TcpStream>>());
    let (text, _) = failure(builder.dial_timeout(Duration::from_millis(20))).await;
    assert_eq!(text, "dial 1 to db.example:5432 failed: the dial took longer than 20ms");
}

#[tokio::test]
async fn fatal_error_of_the_resolver_ends_the_connection() {
    let mut conn = answered(|| Err(perconn::fatal("there is no such service"))).build().unwrap();
    let error = in_time("the end", conn.read(&mut [0])).await.unwrap_err();
    assert!(matches!(perconn_error(&error), Error::GaveUp { .. }), "{error:?}");
}
