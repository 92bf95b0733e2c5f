//! The strategies of `backon` as the backoff of a connection.

use std::time::Duration;

use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder};
use perconn::{Conn, Error, Event, dial_fn};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const S: Duration = Duration::from_secs(1);

/// The delays of a connection whose dials all fail, until it gives up.
async fn delays<B>(strategy: impl FnMut() -> B + Send + 'static) -> Vec<Duration>
where
    B: IntoIterator<Item = Duration>,
    B::IntoIter: Send + 'static,
{
    let (sender, mut delays) = mpsc::unbounded_channel();
    let dialer = dial_fn(|| std::future::ready(Err::<TcpStream, _>(std::io::ErrorKind::ConnectionRefused.into())));
    let conn = Conn::builder("refused").dialer(dialer).exact_backoff(strategy).on_event(move |event| {
        if let Event::DialFailed { retry_in: Some(delay), .. } = event {
            let _ = sender.send(*delay);
        }
    });
    let error = conn.build().unwrap().connected().await.unwrap_err();
    assert!(matches!(error, Error::GaveUp { .. }), "{error:?}");
    std::iter::from_fn(|| delays.try_recv().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn strategies_of_backon_are_followed_to_their_end() {
    let constant = ConstantBuilder::new().with_delay(2 * S).with_max_times(4);
    assert_eq!(delays(move || constant.build()).await, [2 * S; 4]);
    let exponential = ExponentialBuilder::new().with_min_delay(S).with_max_delay(5 * S).with_max_times(4);
    assert_eq!(delays(move || exponential.build()).await, [1, 2, 4, 5].map(Duration::from_secs));
}
