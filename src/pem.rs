//! Certificates and keys in PEM. What is wrong with them is a text that names the file and what was expected.

use std::fmt;
use std::path::PathBuf;

use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where something in PEM is.
#[derive(Clone)]
pub(crate) enum Pem {
    File(PathBuf),
    Text(Vec<u8>),
}

impl Pem {
    /// The file, if it is one.
    #[cfg(feature = "acceptor")]
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Text(_) => None,
        }
    }

    /// All certificates in it, and one at least.
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
            Err(error) => Err(format!("{what} {self}: {}", reason(&error))),
        }
    }

    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let key = match self {
            Self::File(path) => PrivateKeyDer::from_pem_file(path),
            Self::Text(text) => PrivateKeyDer::from_pem_slice(text),
        };
        key.map_err(|error| {
            let why = match error {
                PemError::NoItemsFound => {
                    "no private key in it; expected PEM, and a key that is not encrypted".to_owned()
                }
                other => reason(&other),
            };
            format!("private key {self}: {why}")
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
        PemError::NoItemsFound => "nothing of the kind in it",
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::IllegalSectionStart { .. } => "a section has no proper beginning",
        PemError::Base64Decode(_) => "a section is not in base64",
        _ => "it cannot be read",
    };
    format!("{what}; expected PEM")
}
