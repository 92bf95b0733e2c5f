//! New certificates for a server that goes on running.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use tokio::time::sleep;

use super::Sessions;
use crate::acceptor::shared::{Phase, Shared};
use crate::acceptor::{Error, Event};

/// How a file looks from outside. `None`: it cannot be looked at.
type Stamp = Option<(Option<SystemTime>, u64, u64)>;

/// Which state of the files is worth a try. No I/O.
struct Watch {
    last: Vec<Stamp>,
    tried: Vec<Stamp>,
}

impl Watch {
    fn new(stamps: Vec<Stamp>) -> Self {
        Self { last: stamps.clone(), tried: stamps }
    }

    /// Each state is tried once, and not before it has stayed for one look: it may be half of something.
    fn is_worth_a_try(&mut self, stamps: Vec<Stamp>) -> bool {
        let has_settled = stamps == self.last;
        let is_new = stamps != self.tried;
        if has_settled && is_new {
            self.tried.clone_from(&stamps);
        }
        self.last = stamps;
        has_settled && is_new
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some((metadata.modified().ok(), metadata.len(), inode))
    };
    files.iter().map(stamp).collect()
}

/// Looks at the files for as long as the acceptor accepts. Made before the files are read for the first time, so that no
/// change is missed.
pub(in crate::acceptor) struct Watcher {
    files: Vec<PathBuf>,
    watch: Watch,
}

impl Watcher {
    pub(in crate::acceptor) fn new(settings: &super::ServerTls) -> Self {
        let files = settings.files();
        let watch = Watch::new(stamps(&files));
        Self { files, watch }
    }

    pub(in crate::acceptor) async fn run(mut self, shared: Weak<Shared>, sessions: Arc<Sessions>) {
        loop {
            let Some((every, mut phase)) =
                shared.upgrade().and_then(|shared| Some((sessions.settings.reload_every?, shared.phase.subscribe())))
            else {
                return;
            };
            if self.files.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                // Also when the acceptor is gone.
                _ = phase.wait_for(|phase| *phase != Phase::Accepting) => return,
                () = sleep(every) => {}
            }
            let Some(shared) = shared.upgrade() else { return };
            // Disks may be slow.
            let sessions = Arc::clone(&sessions);
            let look = tokio::task::spawn_blocking(move || {
                if self.watch.is_worth_a_try(stamps(&self.files)) {
                    // It is told; what is in use stays.
                    let _ = reload(&shared, Some(&sessions));
                }
                self
            });
            match look.await {
                Ok(watcher) => self = watcher,
                Err(_) => return,
            }
        }
    }
}

/// Reads the files, and tells of the outcome.
pub(in crate::acceptor) fn reload(shared: &Shared, sessions: Option<&Sessions>) -> Result<(), Arc<Error>> {
    let Some(sessions) = sessions else {
        return Err(Arc::new(Error::InvalidConfig("no TLS: expected it by AcceptorBuilder::tls".into())));
    };
    match Sessions::reload(sessions) {
        Ok(()) => {
            shared.settings.hooks.emit(|| Event::CertificatesReloaded);
            Ok(())
        }
        Err(error) => {
            let cause = Arc::new(error);
            shared.settings.hooks.log(&Error::CertificatesKept { source: Arc::clone(&cause) });
            shared.settings.hooks.emit(|| Event::CertificatesKept { cause: Arc::clone(&cause) });
            Err(cause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_tried_once_and_when_it_has_settled() {
        let state = |number: u64| vec![Some((None, number, 0)), None];
        let mut watch = Watch::new(state(1));
        let seen = [1, 1, 2, 3, 3, 3, 4, 3, 3, 1, 1, 1];
        let tries = seen.map(|number| watch.is_worth_a_try(state(number)));
        let expected = [4, 10];
        for (at, is_tried) in tries.into_iter().enumerate() {
            assert_eq!(is_tried, expected.contains(&at), "look {at}");
        }
    }
}
