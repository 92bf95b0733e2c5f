//! TLS sessions in a pool.

use std::io;
use std::time::Duration;

use perconn::pool::{CloseReason, Event, Pool};
use perconn::{Error, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::authority::{Authority, with};
use crate::common::echo;
use crate::support::in_time;

#[tokio::test]
async fn resource_speaks_tls_and_its_session_is_reused_and_closed_when_the_server_ends_it() {
    let authority = Authority::new();
    let acceptor = with(authority.server()).handler(echo).build().unwrap();
    let address = format!("localhost:{}", acceptor.local_addr().unwrap().port());
    let (closed, mut closes) = mpsc::unbounded_channel();
    let hook = move |event: &Event| {
        if let Event::Closed { reason, .. } = event {
            closed.send(*reason).unwrap();
        }
    };
    let pool = Pool::builder(2).check_idle_every(Duration::from_millis(5)).on_event(hook).build().unwrap();
    let tls = Tls::new().roots_pem(authority.certificate.as_str());
    let resource = pool.resource_tls(address.as_str(), tls).unwrap();
    for is_reused in [false, true, true] {
        let mut session = in_time("get", resource.get()).await.unwrap();
        assert_eq!(session.is_reused(), is_reused);
        session.write_all(b"ping").await.unwrap();
        session.flush().await.unwrap();
        in_time("an echo", session.read_exact(&mut [0; 4])).await.unwrap();
    }
    assert_eq!((resource.name(), pool.stats().opened), (address.as_str(), 1));
    drop(acceptor);
    assert_eq!(in_time("the close", closes.recv()).await, Some(CloseReason::Dead));
    assert_eq!(pool.stats().idle, 0);
}

#[tokio::test]
async fn resource_refuses_a_certificate_of_an_authority_that_it_does_not_trust() {
    let (authority, other) = (Authority::new(), Authority::new());
    let acceptor = with(authority.server()).handler(echo).logger(|_| {}).build().unwrap();
    let address = format!("localhost:{}", acceptor.local_addr().unwrap().port());
    let pool = Pool::new(2).unwrap();
    let tls = Tls::new().roots_pem(other.certificate.as_str());
    let resource = pool.resource_tls(address, tls).unwrap();
    let error = in_time("get", resource.get()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}", error.with_causes());
    // Settings that cannot work are named when the resource is made.
    let malformed = pool.resource_tls("localhost:4443", Tls::new().roots_file("/nonexistent/roots.pem"));
    assert!(matches!(malformed, Err(Error::InvalidConfig(_))), "{malformed:?}");
}
