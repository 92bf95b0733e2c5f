//! The validity of the certificate in use: how long it is, and the reports of one that expires soon.
//!
//! rustls does not say until when a certificate is valid, but the error of a verification does. So each certificate is verified
//! long before its time and long after it. No parser of certificates is needed beside that of rustls.
//!
//! Next: [`super::reload`], which replaces the certificate in time.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{CertificateError, Error as TlsError, RootCertStore};

use super::TlsServer;
use crate::acceptor::registry::Registry;
use crate::acceptor::{Error, Event};

/// How often a running acceptor looks.
const INTERVAL: Duration = DAY;

/// 24 hours.
const DAY: Duration = Duration::from_secs(86_400);

/// Long before and long after the validity of any certificate: 1970, and the year 9999, the last that X.509 knows.
const TIMES: [Duration; 2] = [Duration::ZERO, Duration::from_secs(253_402_300_800)];

/// From when until when a certificate is valid, in time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    /// Zero if it has no beginning after 1970.
    not_before: Duration,
    /// The last second.
    not_after: Duration,
}

impl Validity {
    /// Of a chain: of the certificate in it that expires first. `None` if none can be read.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<Self> {
        chain.iter().filter_map(Self::of).min_by_key(|validity| validity.not_after)
    }

    /// Of one certificate.
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let parsed = ParsedCertificate::try_from(certificate).ok()?;
        // Nothing is trusted, and no signature is checked: the dates come first.
        let at = |time| {
            let time = UnixTime::since_unix_epoch(time);
            match verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], time, &[]) {
                Err(TlsError::InvalidCertificate(error)) => Some(error),
                _ => None,
            }
        };
        let [before, after] = TIMES.map(at);
        let not_before = match before {
            Some(CertificateError::NotValidYetContext { not_before, .. }) => Duration::from_secs(not_before.as_secs()),
            _ => Duration::ZERO,
        };
        match after {
            Some(CertificateError::ExpiredContext { not_after, .. }) => {
                Some(Self { not_before, not_after: Duration::from_secs(not_after.as_secs()) })
            }
            _ => None,
        }
    }

    /// How long it is still valid, if that is worth a report: less than 14 days, and less than a quarter of its validity. Zero
    /// if it has expired.
    ///
    /// Programs that renew certificates do so when a third of the time is left. So a report means that they do not.
    fn worth_a_report(self, now: Duration) -> Option<Duration> {
        let left = self.not_after.saturating_sub(now);
        let soon = (DAY * 14).min(self.not_after.saturating_sub(self.not_before) / 4);
        (left <= soon).then_some(left)
    }
}

/// Reports to the logger and the event hook if the certificate has expired, or does so soon.
pub(in crate::acceptor) fn report(registry: &Registry, tls: &TlsServer) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let in_use = *tls.validity.lock();
    let Some((validity, left)) = in_use.and_then(|validity| Some((validity, validity.worth_a_report(now)?))) else {
        return;
    };
    let certificate = tls.settings.certificate_name();
    let not_after = SystemTime::UNIX_EPOCH + validity.not_after;
    registry.settings.hooks.emit(|| Event::CertificateExpires { not_after, left });
    registry.settings.hooks.log(&Arc::new(Error::CertificateExpires { certificate, not_after, left }));
}

/// Reports once a day, until the acceptor no longer accepts. It does not keep the registry alive between two reports.
pub(in crate::acceptor) async fn report_daily(registry: Weak<Registry>, tls: Arc<TlsServer>) {
    loop {
        let Some(mut phase) = registry.upgrade().map(|registry| registry.phase.subscribe()) else { return };
        tokio::select! {
            biased;
            // This is ready also when the registry is gone.
            _ = phase.wait_for(|phase| !phase.is_accepting()) => return,
            () = sleep(INTERVAL) => {}
        }
        let Some(registry) = registry.upgrade() else { return };
        report(&registry, &tls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_comes_in_the_last_fortnight_or_quarter() {
        let validity = |days: u32| Validity { not_before: DAY * 100, not_after: DAY * (100 + days) };
        let now = |days_left: u32, days: u32| DAY * (100 + days - days_left);
        for (days, days_left, is_reported) in [
            (365, 15, false),
            (365, 14, true),
            (90, 14, true),
            (40, 11, false),
            (40, 10, true),
            (8, 3, false),
            (8, 2, true),
        ] {
            let left = validity(days).worth_a_report(now(days_left, days));
            assert_eq!(left, is_reported.then_some(DAY * days_left), "{days_left} of {days}");
        }
        assert_eq!(validity(90).worth_a_report(DAY * 1000), Some(Duration::ZERO));
    }
}
