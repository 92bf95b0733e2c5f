//! What awaits the client: the outcome of each dial, and a server on each wire that talks, stalls and dies.

use std::io;
use std::time::Duration;

use perconn::Dial;
use tokio::time::{sleep, timeout};

use crate::choices::Choices;
use crate::journal::{End, Journal, Note};
use crate::network::{Network, Stream, Wire};

/// A panic on purpose.
pub struct Simulated;

/// The dialer of a schedule.
pub struct Dialer {
    pub network: Network,
    pub choices: Choices,
    pub journal: Journal,
    pub dial_timeout: Duration,
}

/// Notes a dial that panicked, or that its caller has dropped.
struct Dropped<'a>(Option<&'a Journal>);

impl Drop for Dropped<'_> {
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
        let mut guard = Dropped(Some(&self.journal));
        let outcome = self.attempt().await;
        guard.0 = None;
        self.journal.write(match &outcome {
            Ok(wire) => Note::DialSucceeded(wire.lock().number),
            Err(_) => Note::DialFailed,
        });
        let wire = outcome?;
        tokio::spawn(serve(wire.clone(), self.network.clone(), self.choices.clone(), self.journal.clone()));
        Ok(self.network.stream(&wire))
    }

    fn is_closed(stream: &Stream) -> bool {
        stream.is_closed()
    }
}

impl Dialer {
    async fn attempt(&self) -> io::Result<Wire> {
        let choices = &self.choices;
        if self.network.is_calm() {
            return Ok(self.network.lay());
        }
        match choices.below(12) {
            0..=4 => {}
            5..=6 => sleep(choices.time(self.dial_timeout)).await,
            // It comes with the timeout.
            7 => sleep(self.dial_timeout).await,
            8 => return Err(io::ErrorKind::ConnectionRefused.into()),
            9 => {
                sleep(choices.time(self.dial_timeout)).await;
                return Err(io::Error::other("the set-up failed"));
            }
            10 => {
                // Until the timeout comes, or the close, or good weather.
                self.network.sleep(Duration::MAX).await;
            }
            _ => std::panic::panic_any(Simulated),
        }
        Ok(self.network.lay())
    }
}

/// The server of one wire.
async fn serve(wire: Wire, network: Network, choices: Choices, journal: Journal) {
    // A server that accepts and closes, or one that lives for a while.
    let acts = if choices.chance(15) { 0 } else { 1 + choices.below(30) };
    for _ in 0..acts {
        if network.is_calm() || wire.lock().client_dropped {
            break;
        }
        match choices.below(10) {
            0..=2 => wire.send(1 + choices.below(300)),
            3..=5 => wire.take(1 + choices.below(300)),
            6 => network.sleep(choices.time(Duration::from_secs(10))).await,
            7 => {
                wire.lock().stalled = true;
                network.sleep(choices.time(Duration::from_secs(30))).await;
                wire.change(|state| state.stalled = false);
            }
            _ => {
                // Until the client does something, or for a while.
                let _ = timeout(choices.time(Duration::from_secs(3)), wire.changed()).await;
            }
        }
    }
    if !network.is_calm() && choices.chance(85) {
        // With bytes on their way in each direction, or without.
        if choices.chance(30) {
            wire.send(1 + choices.below(100));
        }
        if choices.chance(70) {
            return wire.end(choices.pick(&[End::Close, End::Reset]), &journal);
        }
        // It goes on reading until the client has let go.
        wire.half_close(&journal);
        while !wire.lock().client_dropped {
            wire.take(1 + choices.below(300));
            let _ = timeout(Duration::from_secs(1), wire.changed()).await;
        }
        return;
    }
    // A server in good health, or one of which nothing is heard until the weather is calm.
    while !wire.lock().client_dropped {
        if network.is_calm() {
            wire.take(usize::MAX >> 1);
            wire.send(10);
            if wire.lock().client_shut {
                return wire.end(End::Close, &journal);
            }
        }
        let _ = timeout(Duration::from_secs(1), wire.changed()).await;
    }
}
