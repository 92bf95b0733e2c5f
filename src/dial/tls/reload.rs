//! New certificates for a running connection.
//!
//! Next: [`Tls`], whose files these are.

use std::sync::Arc;
use std::{fmt, io};

use tokio_rustls::TlsConnector;

use super::Tls;
use crate::Error;
use crate::dial::blocking_call::BlockingCall;

/// The configuration of all dials, made anew when the files of the settings have changed.
pub(super) struct Certificates {
    /// In use. Shared by all dials, so that sessions can be resumed.
    connector: TlsConnector,
    /// The files that it was made from. `None` if nothing can change.
    used: Option<Arc<Tls>>,
    /// The files as they were when they were last found not to be usable, and unlike the ones in use.
    rejected: Option<Arc<Tls>>,
    /// The look at the files that is under way. A dial that was dropped leaves it here, so that no second one begins.
    look: BlockingCall<Look>,
    /// The report of the rejected files, until it is taken.
    warning: Option<Error>,
}

/// What a look at the files has found.
enum Look {
    /// They are those in use.
    Unchanged,
    /// They were rejected before.
    StillRejected,
    /// They are new and usable.
    Usable(Arc<Tls>, TlsConnector),
    /// They are new and not usable.
    Rejected(Arc<Tls>, Error),
}

impl Certificates {
    /// Reads the files of the settings. It may block.
    pub(super) fn new(tls: &Tls) -> Result<Self, Error> {
        let mut now = tls.snapshot();
        let connector = connector(&mut now)?;
        let used = now.can_change().then(|| Arc::new(now));
        Ok(Self { connector, used, rejected: None, look: BlockingCall::default(), warning: None })
    }

    /// Reads the files again, on a thread that may block. Returns the configuration to use.
    ///
    /// Cancel safe: the next call waits for the look that was begun, and then looks again.
    pub(super) async fn refresh(&mut self) -> TlsConnector {
        if let Some(used) = &self.used {
            let (used, rejected) = (Arc::clone(used), self.rejected.clone());
            let found = self.look.run_fresh(move || Ok(look(&used, rejected.as_deref()))).await;
            self.apply(found);
        }
        self.connector.clone()
    }

    /// Acts on what a look has found.
    fn apply(&mut self, found: io::Result<Look>) {
        match found {
            Ok(Look::Unchanged) => self.rejected = None,
            Ok(Look::Usable(used, connector)) => {
                self.connector = connector;
                (self.used, self.rejected) = (Some(used), None);
            }
            Ok(Look::Rejected(rejected, error)) => {
                self.rejected = Some(rejected);
                self.warning = Some(Error::CertificatesKept { source: Arc::new(error) });
            }
            // The look fails only if the runtime shuts down.
            Ok(Look::StillRejected) | Err(_) => {}
        }
    }

    /// The report of files that are not usable. Each change is reported once.
    pub(super) fn take_warning(&mut self) -> Option<Error> {
        self.warning.take()
    }
}

/// Reads the files and compares them with those in use and those rejected last. It blocks.
fn look(used: &Tls, rejected: Option<&Tls>) -> Look {
    let mut now = used.snapshot();
    if now.has_same_files(used) {
        return Look::Unchanged;
    }
    if rejected.is_some_and(|rejected| now.has_same_files(rejected)) {
        return Look::StillRejected;
    }
    match connector(&mut now) {
        Ok(connector) => Look::Usable(Arc::new(now), connector),
        Err(error) => Look::Rejected(Arc::new(now), error),
    }
}

/// The configuration of these settings.
fn connector(tls: &mut Tls) -> Result<TlsConnector, Error> {
    Ok(TlsConnector::from(Arc::new(tls.config()?)))
}

/// The copy has the same configuration, and looks at the files itself.
impl Clone for Certificates {
    fn clone(&self) -> Self {
        let (connector, used, rejected) = (self.connector.clone(), self.used.clone(), self.rejected.clone());
        Self { connector, used, rejected, look: BlockingCall::default(), warning: None }
    }
}

/// Shows nothing of the files, which hold a secret.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}
