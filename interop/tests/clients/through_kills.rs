//! Every client against a server that is killed again and again, at rest and in the middle of an answer.

use std::error::Error;
use std::io;

use perconn::Sessions;
use tokio::runtime;

use crate::servers::RealServer;
use crate::support::in_time;

pub type AnyError = Box<dyn Error + Send + Sync>;

/// A client, and the requests that the test sends through it.
pub trait Client: Sized {
    /// How to reach the server.
    type Config;

    /// Begins the next session, with everything that the protocol sends on a fresh link.
    async fn connect(config: &Self::Config, sessions: &mut Sessions) -> Result<Self, AnyError>;

    /// Whether the server reports that it is still starting.
    fn is_not_ready(error: &AnyError) -> bool {
        let _ = error;
        false
    }

    /// Sends a numbered request, and checks that the answer belongs to it.
    async fn request(&mut self, number: u32) -> Result<(), AnyError>;

    /// Sends a request that takes longer than the server lives, and calls `kill` while it is under way.
    async fn slow_request(&mut self, kill: impl FnOnce()) -> Result<(), AnyError>;

    /// Waits until the client's background task has ended.
    async fn wait_for_end(self);
}

/// How many requests are sent.
pub const REQUESTS: u32 = 60;
const KILLS: u32 = 6;

/// Runs a test on a runtime of one thread, and on one of two.
pub fn on_one_and_two_threads(test: impl AsyncFn()) {
    for threads in [1, 2] {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        runtime.block_on(test());
    }
}

/// Sends all requests in order, each until it is answered, while the server dies [`KILLS`] times. Every second time it dies
/// in the middle of an answer, otherwise at any moment. Returns what the client saw at the breaks.
pub async fn through_kills<C: Client>(config: &C::Config, server: &RealServer) -> Vec<AnyError> {
    let mut sessions = server.sessions();
    let mut seen = Vec::new();
    let mut client = None;
    for number in 0..REQUESTS {
        let mut is_kill_due = number % (REQUESTS / KILLS) == 3;
        loop {
            let mut current = match client.take() {
                Some(client) => client,
                None => match in_time("connect", C::connect(config, &mut sessions)).await {
                    Ok(client) => client,
                    // No other error is possible on a fresh link: it carries no bytes of the client before.
                    Err(error) => {
                        assert!(C::is_not_ready(&error), "{error:?}");
                        continue;
                    }
                },
            };
            if is_kill_due && number % (2 * REQUESTS / KILLS) == 3 {
                is_kill_due = false;
                let outcome = in_time("the slow request", current.slow_request(|| server.kill_and_restart())).await;
                seen.push(outcome.expect_err("the server is dead"));
            } else {
                if is_kill_due {
                    is_kill_due = false;
                    server.kill_and_restart();
                }
                match in_time("the request", current.request(number)).await {
                    Ok(()) => {
                        client = Some(current);
                        break;
                    }
                    Err(error) => seen.push(error),
                }
            }
            in_time("the end of the client", current.wait_for_end()).await;
        }
    }
    for error in &seen {
        println!("seen: {}", chain(&**error));
    }
    // The client sees each kill: a dead server answers no request.
    assert!(seen.len() >= KILLS as usize, "{} of {KILLS} kills were seen", seen.len());
    seen
}

/// An error, its cause, the cause of that, and so on.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The `perconn::Error` in an error or its causes.
fn of_perconn<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a perconn::Error> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(perconn::Error::of))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<_> = causes(error).map(|cause| cause.to_string()).collect();
    let perconn_error =
        of_perconn(error).map_or_else(String::new, |error| format!(" [perconn::Error perconn_error: {error}]"));
    format!("{}{perconn_error}", texts.join(": "))
}
