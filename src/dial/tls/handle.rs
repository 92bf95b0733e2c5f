//! Roots and client certificates in memory that are replaced while connections use them.
//!
//! Next: [`Tls::snapshot`](super::Tls), which looks at each dial.

use std::fmt;
use std::sync::Arc;

use super::settings::{check_client, given_roots};
use crate::Error;
use crate::pem::Pem;
use crate::sync::Mutex;

/// Replaces the roots and the client certificate of a [`Tls`](super::Tls), from any thread; made by
/// [`Tls::handle`](super::Tls::handle).
///
/// Every connection that was built with these settings uses the new ones from its next dial on. An open link keeps what it has.
/// To use the new ones at once, break it: [`break_link`](crate::Conn::break_link).
///
/// ```no_run
/// use perconn::{Conn, Tls};
///
/// # async fn example(fetch: impl Fn() -> (String, String)) -> Result<(), perconn::Error> {
/// let (chain, key) = fetch(); // from Vault, SPIFFE or the like
/// let mut tls = Tls::new().client_certificate_pem(chain, key);
/// let credentials = tls.handle();
/// let conn = Conn::builder("api.example:443").tls(tls)?.build()?;
///
/// // Later, and again and again, before the certificate expires:
/// let (chain, key) = fetch();
/// credentials.replace_client_certificate_pem(chain, key)?;
/// # drop(conn);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[doc(alias("rotate", "reload", "renew", "credentials"))]
pub struct TlsHandle(Arc<Mutex<Replaced>>);

/// What has been replaced.
#[derive(Clone, Default)]
pub(super) struct Replaced {
    /// The roots; `None`: those of the settings.
    pub(super) roots: Option<Pem>,
    /// The client's certificate chain and private key; `None`: those of the settings.
    pub(super) client: Option<(Pem, Pem)>,
}

impl TlsHandle {
    /// Replaces the roots of the settings by the certificates in this PEM text.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if it has no certificate, or one that is not usable. Then nothing has changed.
    pub fn replace_roots_pem(&self, pem: impl Into<Vec<u8>>) -> Result<(), Error> {
        let roots = Pem::Text(pem.into());
        given_roots(std::slice::from_ref(&roots))?;
        self.0.lock().roots = Some(roots);
        Ok(())
    }

    /// Replaces the client certificate of the settings: the chain with the client's own certificate first, and its private key,
    /// not encrypted.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidConfig`] if there is no certificate or key in these texts, or the key does not belong to the
    /// certificate. Then nothing has changed.
    pub fn replace_client_certificate_pem(
        &self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        let (chain, key) = (Pem::Text(chain.into()), Pem::Text(key.into()));
        check_client(&chain, &key)?;
        self.0.lock().client = Some((chain, key));
        Ok(())
    }

    /// What has been replaced so far.
    pub(super) fn replaced(&self) -> Replaced {
        self.0.lock().clone()
    }
}

/// Shows nothing: it holds a secret.
impl fmt::Debug for TlsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsHandle").finish_non_exhaustive()
    }
}
