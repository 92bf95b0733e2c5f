//! A whole connection that sends each record again until it is acknowledged.

use std::collections::HashSet;
use std::io;

use perconn::Error;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Chaos, record, seeds};
use crate::support::{in_time, reported_generation};

/// Nothing is lost, and exactly one operation reports each break.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_connection_with_retries_loses_nothing() {
    for seed in seeds() {
        let chaos = Chaos::start(seed).await;
        let mut conn = chaos.client().build().unwrap();
        let mut reported = Vec::new();
        let mut acknowledged = HashSet::new();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut number = 0;
        // As long as there are links to cut, and then 20 more.
        let mut after = 0;
        while after < 20 {
            let bytes = record(number, random.random_range(0..2_000));
            let outcome = async {
                conn.write_all(&bytes).await?;
                conn.read_u64().await
            };
            match in_time("an exchange", outcome).await {
                Ok(answer) => {
                    assert_eq!(answer, number, "an answer from another link");
                    acknowledged.insert(number);
                    number += 1;
                    after += usize::from(reported.len() as u64 + 1 >= chaos.last);
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && Error::of(&error).is_none() => {
                    // `read_u64` at the end of the stream: the read reported the break as `Ok(0)`.
                    reported.push(reported.last().map_or(1, |generation| generation + 1));
                }
                Err(error) => reported.push(reported_generation(&error)),
            }
        }
        drop(conn);
        let (seen, every) = chaos.end().await;
        assert_eq!(reported, every);
        assert_eq!(acknowledged.len() as u64, number, "records lost");
        let arrived: HashSet<_> = seen.iter().flatten().copied().collect();
        assert!(acknowledged.is_subset(&arrived));
    }
}
