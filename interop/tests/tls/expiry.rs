//! Certificates that have expired, or expire soon: the operator learns of it.

use std::time::{Duration, SystemTime};

use perconn::acceptor::{AcceptorBuilder, Event, ServerTls};
use tokio::sync::mpsc;

use crate::authority::{Authority, exchange, with};
use crate::common::{event, figures, recorder};
use crate::support::in_time;

/// The lines for the logger, with their causes.
fn logged(builder: AcceptorBuilder) -> (AcceptorBuilder, mpsc::UnboundedReceiver<String>) {
    let (sender, lines) = mpsc::unbounded_channel();
    (builder.logger(move |error| drop(sender.send(error.with_causes().to_string()))), lines)
}

/// Files with a certificate that is valid for this number of days from now, of 90.
fn files(authority: &Authority, days: i64) -> ServerTls {
    let (certificate, key) = authority.issue_valid(90 - days.unsigned_abs(), days);
    ServerTls::from_files(authority.file("chain.pem", &certificate), authority.file("key.pem", &key)).reload_every(None)
}

/// The next report of an expiry, after events that are none.
async fn reported(events: &mut mpsc::UnboundedReceiver<Event>) -> (SystemTime, Duration, String) {
    event(events, |event| match event {
        Event::CertificateExpires { not_after, left, .. } => Some((*not_after, *left, event.to_string())),
        _ => None,
    })
    .await
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn expired_certificate_is_reported_at_the_start_and_served() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    let (builder, mut lines) = logged(with(files(&authority, -1)).on_event(hook));
    let acceptor = builder.build().unwrap();
    let (not_after, left, text) = reported(&mut events).await;
    assert_eq!((left, &text[..]), (Duration::ZERO, "the certificate has expired"));
    let ago = SystemTime::now().duration_since(not_after).unwrap();
    assert!((DAY..DAY + Duration::from_secs(60)).contains(&ago), "{ago:?}");
    let line = in_time("the logger", lines.recv()).await.unwrap();
    assert!(line.contains("chain.pem\" has expired"), "{line}");
    // The client refuses, and not the server.
    let error = authority.session(&acceptor).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

#[tokio::test]
async fn certificate_that_expires_soon_is_reported_after_a_reload() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    let (builder, mut lines) = logged(with(files(&authority, 20)).on_event(hook));
    let acceptor = builder.build().unwrap();
    for (days, expected) in [(13, Some("expires in 13 days")), (40, None), (1, Some("expires within 24 hours"))] {
        drop(files(&authority, days));
        in_time("a reload", acceptor.reload_tls()).await.unwrap();
        exchange(&mut authority.session(&acceptor).await.unwrap()).await;
        match expected {
            Some(expected) => {
                let (_, left, text) = reported(&mut events).await;
                assert_eq!(text, format!("the certificate {expected}"));
                let days = DAY * u32::try_from(days).unwrap();
                assert!(left <= days && left > days - Duration::from_secs(60), "{left:?}");
                let line = in_time("the logger", lines.recv()).await.unwrap();
                assert!(line.ends_with(&format!("chain.pem\" {expected}")), "{line}");
            }
            None => assert!(lines.try_recv().is_err()),
        }
    }
}

#[tokio::test]
async fn issuer_in_the_chain_that_expires_first_is_the_one_reported() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue_valid(10, 80);
    let issuer = authority.issue_valid(85, 5).0;
    let (hook, mut events) = recorder();
    let tls = ServerTls::from_pem(certificate + &issuer, key);
    let _acceptor = with(tls).on_event(hook).build().unwrap();
    assert_eq!(reported(&mut events).await.2, "the certificate expires in 5 days");
}

#[tokio::test]
async fn certificate_is_reported_once_a_day_while_the_acceptor_runs() {
    let authority = Authority::new();
    let (hook, mut events) = recorder();
    let (certificate, key) = authority.issue_valid(89, 1);
    let (builder, mut lines) = logged(with(ServerTls::from_pem(certificate, key)).on_event(hook));
    let acceptor = builder.build().unwrap();
    reported(&mut events).await;
    // All tasks of the acceptor have run, and from here on, nothing waits for a socket.
    exchange(&mut authority.session(&acceptor).await.unwrap()).await;
    figures(&acceptor, "it is gone", |stats| stats.busy == 0 && stats.accepted == 1).await;
    while events.try_recv().is_ok() {}
    tokio::time::pause();
    for _ in 0..3 {
        assert!(events.try_recv().is_err());
        tokio::time::advance(DAY + Duration::from_millis(10)).await;
        reported(&mut events).await;
    }
    tokio::time::resume();
    in_time("stop", acceptor.stop(Duration::ZERO)).await;
    in_time("its end", acceptor.closed()).await.unwrap();
    drop(acceptor);
    let mut count = 0;
    while in_time("the logger's end", lines.recv()).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 4);
}
