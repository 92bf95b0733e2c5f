//! Which of the two sides of a TLS session has refused the other's certificate.
//!
//! Next: [`Error::refused_certificate`], which asks.

use tokio_rustls::rustls::{AlertDescription, Error as TlsError};

use super::Error;
use crate::causes::find;

/// Whose certificate was refused; returned by [`Error::refused_certificate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedCertificate {
    /// The server's, by this program: its issuer is not among the roots, its name is another, or it has expired.
    Server,
    /// This program's own, by the server: it is missing, not known to the server, revoked or expired.
    Client,
}

#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
impl Error {
    /// Whether TLS has failed because one side refused the other's certificate, and whose it was. `None`: the failure has
    /// another cause.
    ///
    /// A server may refuse a client's certificate only after the handshake, as TLS 1.3 lets the client finish first (RFC 8446,
    /// section 4.4.2.4). Then it is no failed dial but a break, with the same answer here. Time alone mends neither: somebody
    /// has to replace a file. (Files of [`Tls`](crate::Tls) are read again at each dial.)
    ///
    /// ```
    /// use perconn::{Conn, RefusedCertificate, Retry};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), perconn::Error> {
    /// let conn = Conn::builder("api.example:443")
    ///     .retry_if(|error, _| match error.refused_certificate() {
    ///         Some(RefusedCertificate::Client) => Retry::Stop,
    ///         Some(_) => Retry::After(Duration::from_secs(600)),
    ///         None => Retry::Backoff,
    ///     })
    ///     .build()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn refused_certificate(&self) -> Option<RefusedCertificate> {
        let source = match self {
            Self::DialFailure { source, .. } | Self::IoError { source, .. } | Self::ShortLink { source, .. } => source,
            Self::GaveUp { source, .. } => return source.refused_certificate(),
            _ => return None,
        };
        match find::<TlsError>(source)? {
            TlsError::InvalidCertificate(_)
            | TlsError::NoCertificatesPresented
            | TlsError::InvalidCertRevocationList(_) => Some(RefusedCertificate::Server),
            // RFC 8446, section 6.2.
            TlsError::AlertReceived(
                AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::CertificateRequired,
            ) => Some(RefusedCertificate::Client),
            _ => None,
        }
    }
}
