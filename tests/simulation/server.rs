//! The dialer of a schedule, and the servers that send, stall and die.
//!
//! Next: `client.rs`, the program on the other side.

use std::io;
use std::time::Duration;

use perconn::Dial;
use tokio::time::{sleep, timeout};

use crate::choices::Choices;
use crate::journal::{End, Journal, Note};
use crate::network::{Link, Network, Stream};

/// The payload of an intended panic.
pub struct Simulated;

/// The dialer of a schedule.
pub struct Dialer {
    pub network: Network,
    pub choices: Choices,
    pub journal: Journal,
    pub dial_timeout: Duration,
}

/// Records a dial that panicked or was dropped.
struct DialGuard<'a>(Option<&'a Journal>);

impl Drop for DialGuard<'_> {
    fn drop(&mut self) {
        if let Some(journal) = self.0 {
            journal.write(if std::thread::panicking() { Note::DialFailed } else { Note::DialDropped });
        }
    }
}

impl Dial for Dialer {
    type Stream = Stream;

    async fn dial(&mut self) -> io::Result<Stream> {
        self.journal.write(Note::DialBegan);
        let mut guard = DialGuard(Some(&self.journal));
        let outcome = self.attempt().await;
        guard.0 = None;
        self.journal.write(match &outcome {
            Ok(link) => Note::DialSucceeded(link.lock().number),
            Err(_) => Note::DialFailed,
        });
        let link = outcome?;
        tokio::spawn(serve(link.clone(), self.network.clone(), self.choices.clone(), self.journal.clone()));
        Ok(self.network.stream(&link))
    }

    fn is_closed(stream: &Stream) -> bool {
        stream.is_closed()
    }
}

impl Dialer {
    /// The outcome of one dial, by chance.
    async fn attempt(&self) -> io::Result<Link> {
        let choices = &self.choices;
        if self.network.is_healthy() {
            return Ok(self.network.open_link());
        }
        match choices.below(12) {
            0..=4 => {}
            5..=6 => sleep(choices.time(self.dial_timeout)).await,
            // It is ready at the same moment as the timeout.
            7 => sleep(self.dial_timeout).await,
            8 => return Err(io::ErrorKind::ConnectionRefused.into()),
            9 => {
                sleep(choices.time(self.dial_timeout)).await;
                return Err(io::Error::other("the set-up failed"));
            }
            10 => {
                // Until the timeout, the close, or the end of the faults.
                self.network.sleep(Duration::MAX).await;
            }
            _ => std::panic::panic_any(Simulated),
        }
        Ok(self.network.open_link())
    }
}

/// The server of one link.
async fn serve(link: Link, network: Network, choices: Choices, journal: Journal) {
    // A server that accepts and closes, or one that lives for a while.
    let steps = if choices.chance(15) { 0 } else { 1 + choices.below(30) };
    for _ in 0..steps {
        if network.is_healthy() || link.lock().client_dropped {
            break;
        }
        match choices.below(10) {
            0..=2 => link.send(1 + choices.below(300)),
            3..=5 => link.take(1 + choices.below(300)),
            6 => network.sleep(choices.time(Duration::from_secs(10))).await,
            7 => {
                link.lock().stalled = true;
                network.sleep(choices.time(Duration::from_secs(30))).await;
                link.change(|state| state.stalled = false);
            }
            _ => {
                // Until the client changes something, or for a while.
                let _ = timeout(choices.time(Duration::from_secs(3)), link.changed()).await;
            }
        }
    }
    if !network.is_healthy() && choices.chance(85) {
        // With or without bytes in flight.
        if choices.chance(30) {
            link.send(1 + choices.below(100));
        }
        if choices.chance(70) {
            return link.end(choices.pick(&[End::Close, End::Reset]), &journal);
        }
        // It goes on reading until the client has dropped the link.
        link.half_close(&journal);
        while !link.lock().client_dropped {
            link.take(1 + choices.below(300));
            let _ = timeout(Duration::from_secs(1), link.changed()).await;
        }
        return;
    }
    // A healthy server, or one that is silent until the faults stop.
    while !link.lock().client_dropped {
        if network.is_healthy() {
            link.take(usize::MAX >> 1);
            link.send(10);
            if link.lock().client_shut {
                return link.end(End::Close, &journal);
            }
        }
        let _ = timeout(Duration::from_secs(1), link.changed()).await;
    }
}
