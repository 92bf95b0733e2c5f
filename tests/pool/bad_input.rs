//! Settings and addresses that cannot work.

use std::time::Duration;

use perconn::Error;
use perconn::pool::{GetError, Pool};

#[track_caller]
fn invalid<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(error @ Error::InvalidConfig(_)) => error.to_string(),
        Err(other) => panic!("expected InvalidConfig: {other:?}"),
        Ok(_) => panic!("expected InvalidConfig, got a value"),
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let text = invalid(Pool::new(0));
    assert!(text.contains("a pool of 0 slots: expected at least 1"), "{text}");
    let zero = Duration::ZERO;
    let text = invalid(Pool::builder(1).retry_min(zero).build());
    assert!(text.contains("retry_min 0ns: expected more than zero"), "{text}");
    let text = invalid(Pool::builder(1).retry_min(Duration::from_secs(11)).build());
    assert!(text.contains("retry_max 10s: expected at least retry_min, which is 11s"), "{text}");
    for (name, builder) in [
        ("dial_timeout", Pool::builder(1).dial_timeout(zero)),
        ("idle_timeout", Pool::builder(1).idle_timeout(zero)),
        ("max_age", Pool::builder(1).max_age(zero)),
        ("check_idle_every", Pool::builder(1).check_idle_every(zero)),
    ] {
        let text = invalid(builder.build());
        assert!(text.contains(&format!("{name} 0ns: expected more than zero")), "{text}");
    }
}

#[test]
fn malformed_address_is_named_when_the_resource_is_made() {
    let pool = Pool::new(1).unwrap();
    for address in ["", "host", "host:", "host:99999", ":80"] {
        let text = invalid(pool.resource(address));
        assert!(text.contains(&format!("{address:?}")) || text.contains(address), "{text}");
    }
}

#[test]
fn limits_beyond_the_range_of_the_clock_mean_no_limit() {
    let pool = Pool::builder(1).idle_timeout(Duration::MAX).max_age(Duration::MAX).dial_timeout(Duration::MAX);
    let pool = pool.build().unwrap();
    let resource = pool.resource_fn("one", || std::future::ready(Ok(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drop(resource.get_timeout(Duration::MAX).await.unwrap());
        assert!(resource.get().await.unwrap().is_reused());
    });
}

#[test]
fn dial_outside_of_a_runtime_is_an_error_and_not_a_panic() {
    let pool = Pool::new(1).unwrap();
    let resource = pool.resource("127.0.0.1:9").unwrap();
    for outcome in [
        tokio_test::task::spawn(resource.get()).poll(),
        tokio_test::task::spawn(resource.get_timeout(Duration::from_secs(1))).poll(),
    ] {
        let std::task::Poll::Ready(Err(error)) = outcome else { panic!("no error") };
        assert!(matches!(error, GetError::Dial { .. }), "{error:?}");
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn limit_that_ends_with_the_clock_means_no_limit() {
    let now = tokio::time::Instant::now();
    let longer = |limit: Duration, bit| {
        let more = limit + Duration::from_secs(1_u64 << bit);
        if now.checked_add(more).is_some() { more } else { limit }
    };
    let limit = (0..63).rev().fold(Duration::ZERO, longer);
    let pool = Pool::builder(1).idle_timeout(limit).dial_timeout(limit).build().unwrap();
    let resource = pool.resource_fn("one", || std::future::ready(Ok(1)));
    for _ in 0..3 {
        drop(resource.get().await.unwrap());
        tokio::task::yield_now().await;
    }
    assert_eq!((pool.stats().opened, pool.stats().reused), (1, 2));
}
