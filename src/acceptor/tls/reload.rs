//! New certificates for a running acceptor.
//!
//! Next: [`super::settings`], which reads the files.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use tokio::time::sleep;

use super::TlsServer;
use crate::acceptor::registry::Registry;
use crate::acceptor::{Error, Event};

/// What shows that a file has changed: its modification time, length and inode. `None` if it cannot be looked at.
type Stamp = Option<(Option<SystemTime>, u64, u64)>;

/// Decides which state of the files to load. No I/O.
struct StampHistory {
    /// At the last look.
    last: Vec<Stamp>,
    /// At the last attempt to load.
    tried: Vec<Stamp>,
}

impl StampHistory {
    /// The files were loaded in this state.
    fn new(stamps: Vec<Stamp>) -> Self {
        Self { last: stamps.clone(), tried: stamps }
    }

    /// Notes a look at the files. Returns whether to load them.
    ///
    /// Each state is loaded once, and only after it was the same in two looks: before that, a file may be written in
    /// part.
    fn observe(&mut self, stamps: Vec<Stamp>) -> bool {
        let has_settled = stamps == self.last;
        let is_new = stamps != self.tried;
        if has_settled && is_new {
            self.tried.clone_from(&stamps);
        }
        self.last = stamps;
        has_settled && is_new
    }
}

/// Looks at the files. It may block.
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

/// Looks at the files while the acceptor accepts, and loads them when they have changed.
pub(in crate::acceptor) struct FileWatcher {
    /// What to look at. Empty if nothing can change.
    files: Vec<PathBuf>,
    /// Tells a file that has changed and settled from one that is still being written.
    history: StampHistory,
}

impl FileWatcher {
    /// Make it before the files are read for the first time, so that it misses no change.
    pub(in crate::acceptor) fn new(settings: &super::ServerTls) -> Self {
        let files = settings.files();
        let history = StampHistory::new(stamps(&files));
        Self { files, history }
    }

    /// Runs until the acceptor no longer accepts. It does not keep the registry alive between two looks.
    pub(in crate::acceptor) async fn run(mut self, registry: Weak<Registry>, tls: Arc<TlsServer>) {
        let Some(interval) = tls.settings.reload_every else { return };
        if self.files.is_empty() {
            return;
        }
        loop {
            let Some(mut phase) = registry.upgrade().map(|registry| registry.phase.subscribe()) else { return };
            tokio::select! {
                biased;
                // This is ready also when the registry is gone.
                _ = phase.wait_for(|phase| !phase.is_accepting()) => return,
                () = sleep(interval) => {}
            }
            let Some(registry) = registry.upgrade() else { return };
            let tls = Arc::clone(&tls);
            // A disk may be slow.
            let look = tokio::task::spawn_blocking(move || {
                if self.history.observe(stamps(&self.files)) {
                    // It reports a failure itself, and what is in use stays.
                    let _ = reload(&registry, Some(&tls));
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

/// Loads the files and reports the outcome, to the logger and to the event hook. It may block.
pub(in crate::acceptor) fn reload(registry: &Registry, tls: Option<&TlsServer>) -> Result<(), Arc<Error>> {
    let Some(tls) = tls else {
        return Err(Arc::new(Error::InvalidConfig("no TLS: expected it by AcceptorBuilder::tls".into())));
    };
    tls.settings.check_reload().map_err(Arc::new)?;
    match tls.reload() {
        Ok(()) => {
            registry.settings.hooks.emit(|| Event::CertificatesReloaded);
            super::expiry::report(registry, tls);
            Ok(())
        }
        Err(error) => {
            let cause = Arc::new(error);
            registry.settings.hooks.log(&Arc::new(Error::CertificatesKept { source: Arc::clone(&cause) }));
            registry.settings.hooks.emit(|| Event::CertificatesKept { cause: Arc::clone(&cause) });
            Err(cause)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_loaded_once_after_it_has_settled() {
        let state = |number: u64| vec![Some((None, number, 0)), None];
        let mut history = StampHistory::new(state(1));
        let looks = [1, 1, 2, 3, 3, 3, 4, 3, 3, 1, 1, 1];
        let loads = looks.map(|number| history.observe(state(number)));
        let expected = [4, 10];
        for (at, is_loaded) in loads.into_iter().enumerate() {
            assert_eq!(is_loaded, expected.contains(&at), "look {at}");
        }
    }
}
