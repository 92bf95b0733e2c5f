//! Any delays and limits: they are refused with an error, or every delay of a long outage is within its window.
//!
//! Next: `src/backoff.rs`, which draws the delays.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use perconn::{Conn, Error, Event, dial_fn};

/// A duration of any size.
fn duration(bytes: &[u8]) -> Duration {
    let seconds = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    Duration::new(seconds, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], 0]))
}

pub(crate) fn check(bytes: &[u8]) {
    let Some(bytes) = bytes.get(..26) else { return };
    let (min, max) = (duration(&bytes[..11]), duration(&bytes[11..22]));
    let stable_after = Duration::from_millis(u64::from(bytes[22]) << (bytes[23] % 50));
    let (max_retries, seed) = (u32::from(bytes[24]), u64::from(bytes[25]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let delays: Arc<Mutex<Vec<Option<Duration>>>> = Arc::default();
        let recorded = Arc::clone(&delays);
        let dialer = dial_fn(|| async { Err::<tokio::io::DuplexStream, _>(io::ErrorKind::ConnectionRefused.into()) });
        let built = Conn::builder("any")
            .dialer(dialer)
            .retry_min(min)
            .retry_max(max)
            .stable_after(stable_after)
            .max_retries(max_retries)
            .jitter_seed(seed)
            .logger(|_| {})
            .on_event(move |event| {
                if let Event::DialFailed { retry_in, .. } = event {
                    recorded.lock().unwrap().push(*retry_in);
                }
            })
            .build();
        let conn = match built {
            Ok(conn) => conn,
            Err(Error::InvalidConfig(text)) => {
                assert!(min.is_zero() || max < min, "{text}");
                return;
            }
            Err(other) => panic!("{other}"),
        };
        assert!(!min.is_zero() && min <= max);
        // The clock cannot advance through such long delays; only the first one is checked.
        if max < Duration::from_secs(1 << 20) {
            let mut status = conn.watch_status();
            let _ = status.wait_for(|status| status.is_final()).await;
            assert_eq!(delays.lock().unwrap().len(), max_retries as usize + 1);
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut upper = min;
        for delay in delays.lock().unwrap().iter().flatten() {
            upper = upper.saturating_mul(2).min(max);
            assert!(min <= *delay && *delay <= upper, "{delay:?} is outside {min:?}..={upper:?}");
        }
    });
}
