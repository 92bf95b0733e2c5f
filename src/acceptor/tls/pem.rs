//! Certificates and keys in PEM.

use std::fmt;
use std::path::PathBuf;

use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::acceptor::Error;

/// Where something in PEM is.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

impl Pem {
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Text(_) => None,
        }
    }

    /// All certificates in it, and one at least.
    pub(super) fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
        let certificates: Result<Vec<_>, _> = match self {
            Self::File(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect),
            Self::Text(text) => CertificateDer::pem_slice_iter(text).collect(),
        };
        match certificates {
            Ok(certificates) if certificates.is_empty() => {
                Error::invalid(format!("{what} {self}: no certificate in it; expected PEM"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Error::invalid(format!("{what} {self}: {}", reason(&error))),
        }
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        let key = match self {
            Self::File(path) => PrivateKeyDer::from_pem_file(path),
            Self::Text(text) => PrivateKeyDer::from_pem_slice(text),
        };
        key.or_else(|error| {
            let why = match error {
                PemError::NoItemsFound => {
                    "no private key in it; expected PEM, and a key that is not encrypted".to_owned()
                }
                other => reason(&other),
            };
            Error::invalid(format!("private key {self}: {why}"))
        })
    }
}

/// A text of PEM is not shown: it may be a secret.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path:?}"),
            Self::Text(text) => write!(f, "given as a text of {} bytes", text.len()),
        }
    }
}

/// What is wrong, without what stands there: that may be a secret.
fn reason(error: &PemError) -> String {
    let what = match error {
        PemError::Io(error) => return error.to_string(),
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::IllegalSectionStart { .. } => "a section has no proper beginning",
        PemError::Base64Decode(_) => "a section is not in base64",
        _ => "it cannot be read",
    };
    format!("{what}; expected PEM")
}
