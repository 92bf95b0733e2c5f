//! Certificates and private keys in PEM.
//!
//! Every error is a text that names the file and what was expected. Used by the TLS settings of the client and of the
//! acceptor; next: [`Tls`](crate::Tls).

use std::fmt;
use std::path::PathBuf;

use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A source of PEM.
#[derive(Clone)]
pub(crate) enum Pem {
    /// A file, read each time it is used.
    File(PathBuf),
    /// The text itself.
    Text(Vec<u8>),
}

impl Pem {
    /// The path of a file, to watch it for changes.
    #[cfg(feature = "acceptor")]
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Text(_) => None,
        }
    }

    /// All certificates in it, at least one. `what` says in the error what they are for.
    pub(crate) fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let certificates: Result<Vec<_>, _> = match self {
            Self::File(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect),
            Self::Text(text) => CertificateDer::pem_slice_iter(text).collect(),
        };
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Err(format!("{what} {self}: no certificate in it; expected PEM"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(format!("{what} {self}: {}", describe(&error))),
        }
    }

    /// The first private key in it. It must not be encrypted.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let key = match self {
            Self::File(path) => PrivateKeyDer::from_pem_file(path),
            Self::Text(text) => PrivateKeyDer::from_pem_slice(text),
        };
        key.map_err(|error| {
            let reason = match error {
                PemError::NoItemsFound => {
                    "no private key in it; expected PEM, and a key that is not encrypted".to_owned()
                }
                other => describe(&other),
            };
            format!("private key {self}: {reason}")
        })
    }
}

/// Displays the path of a file, and of a text only its length: it may be a secret.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path:?}"),
            Self::Text(text) => write!(f, "given as a text of {} bytes", text.len()),
        }
    }
}

/// Describes an error without quoting the source, which may be a secret.
fn describe(error: &PemError) -> String {
    let what = match error {
        PemError::Io(error) => return error.to_string(),
        PemError::NoItemsFound => "no such section in it",
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::IllegalSectionStart { .. } => "a section has a malformed start line",
        PemError::Base64Decode(_) => "a section is not valid base64",
        _ => "it cannot be parsed",
    };
    format!("{what}; expected PEM")
}
