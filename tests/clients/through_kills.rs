//! What every client has to stand: a server that is killed again and again, at rest and in the middle of an answer.

use std::error::Error;
use std::io;

use perconn::Sessions;
use tokio::runtime;

use crate::servers::RealServer;
use crate::support::in_time;

pub type AnyError = Box<dyn Error + Send + Sync>;

/// A client, and the questions that the test asks through it.
pub trait Client: Sized {
    /// How to reach the server.
    type Config;

    /// Begins the next session, with all that the protocol says on a fresh link.
    async fn connect(config: &Self::Config, sessions: &mut Sessions) -> Result<Self, AnyError>;

    /// Whether the server says that it has not finished starting.
    fn is_not_ready(error: &AnyError) -> bool {
        let _ = error;
        false
    }

    /// Asks a numbered question, and checks that the answer is the one to this question.
    async fn ask(&mut self, number: u32) -> Result<(), AnyError>;

    /// Asks for what takes longer than the server lives, and calls `kill` when that is under way.
    async fn ask_for_long(&mut self, kill: impl FnOnce()) -> Result<(), AnyError>;

    /// Waits until what works for the client in the background has ended.
    async fn ended(self);
}

/// How many questions are asked.
pub const QUESTIONS: u32 = 60;
const KILLS: u32 = 6;

/// Runs a test on a runtime of one thread, and on one of two.
pub fn on_one_and_two_threads(test: impl AsyncFn()) {
    for threads in [1, 2] {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
        runtime.block_on(test());
    }
}

/// Asks all questions in order, each until it is answered, while the server dies [`KILLS`] times: each second time in the
/// middle of an answer, the other times at any moment. Gives what the client saw at the breaks.
pub async fn through_kills<C: Client>(config: &C::Config, server: &RealServer) -> Vec<AnyError> {
    let mut sessions = server.sessions();
    let mut seen = Vec::new();
    let mut client = None;
    for number in 0..QUESTIONS {
        let mut is_kill_due = number % (QUESTIONS / KILLS) == 3;
        loop {
            let mut asked = match client.take() {
                Some(client) => client,
                None => match in_time("connect", C::connect(config, &mut sessions)).await {
                    Ok(client) => client,
                    // Nothing else is wrong with a fresh link: no word of the client before was said on it.
                    Err(error) => {
                        assert!(C::is_not_ready(&error), "{error:?}");
                        continue;
                    }
                },
            };
            if is_kill_due && number % (2 * QUESTIONS / KILLS) == 3 {
                is_kill_due = false;
                let outcome = in_time("the long question", asked.ask_for_long(|| server.kill_and_restart())).await;
                seen.push(outcome.expect_err("the server is dead"));
            } else {
                if is_kill_due {
                    is_kill_due = false;
                    server.kill_and_restart();
                }
                match in_time("the question", asked.ask(number)).await {
                    Ok(()) => {
                        client = Some(asked);
                        break;
                    }
                    Err(error) => seen.push(error),
                }
            }
            in_time("the end of the client", asked.ended()).await;
        }
    }
    for error in &seen {
        println!("seen: {}", chain(&**error));
    }
    // Each kill is seen: no question is answered by a server that was dead when it was asked.
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

/// The connection's own error in an error or its causes.
fn of_perconn<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a perconn::Error> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().and_then(perconn::Error::of))
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<_> = causes(error).map(|cause| cause.to_string()).collect();
    let inside = of_perconn(error).map_or_else(String::new, |error| format!(" [perconn::Error inside: {error}]"));
    format!("{}{inside}", texts.join(": "))
}
