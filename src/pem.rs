//! Certificates and private keys in PEM.
//!
//! Every error is a text that names the file and what was expected. Used by the TLS settings of the client and of the
//! acceptor; next: [`Tls`](crate::Tls).

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A source of PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Pem {
    /// A file, read each time it is used.
    File(PathBuf),
    /// A file as it was at one moment.
    Snapshot(Snapshot),
    /// The text itself.
    Text(Vec<u8>),
}

/// What was in a file at one moment.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Where the file is.
    path: PathBuf,
    /// Its bytes, or why they could not be read.
    content: Result<Vec<u8>, String>,
    /// Whether it can be read again. A pipe or a device cannot: it may be empty then, or never end.
    is_regular: bool,
}

impl Snapshot {
    /// Reads a file for the first time.
    fn new(path: &Path) -> Self {
        let content = fs::read(path).map_err(|error| error.to_string());
        Self { path: path.to_owned(), content, is_regular: is_regular(path) }
    }

    /// Reads the file again, if that is possible.
    fn refresh(&self) -> Self {
        if !self.is_regular {
            return self.clone();
        }
        let content = match fs::metadata(&self.path) {
            Ok(metadata) if !metadata.is_file() => Err("not a regular file any more".to_owned()),
            Ok(_) => fs::read(&self.path).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Self { path: self.path.clone(), content, is_regular: true }
    }
}

/// Whether this path leads to a regular file.
fn is_regular(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

impl Pem {
    /// The path of a file, to watch it for changes.
    #[cfg(feature = "acceptor")]
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) | Self::Snapshot(Snapshot { path, .. }) => Some(path.clone()),
            Self::Text(_) => None,
        }
    }

    /// The same with what is in the file now. It may block.
    pub(crate) fn snapshot(&self) -> Self {
        match self {
            Self::File(path) => Self::Snapshot(Snapshot::new(path)),
            Self::Snapshot(snapshot) => Self::Snapshot(snapshot.refresh()),
            Self::Text(text) => Self::Text(text.clone()),
        }
    }

    /// Whether a later [`snapshot`](Self::snapshot) can differ.
    pub(crate) fn can_change(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Snapshot(snapshot) => snapshot.is_regular,
            Self::Text(_) => false,
        }
    }

    /// The PEM itself.
    fn read(&self) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Self::File(path) => fs::read(path).map(Cow::Owned).map_err(|error| error.to_string()),
            Self::Snapshot(snapshot) => snapshot.content.as_deref().map(Cow::Borrowed).map_err(Clone::clone),
            Self::Text(text) => Ok(Cow::Borrowed(text)),
        }
    }

    /// All certificates in it, at least one. `what` says in the error what they are for.
    pub(crate) fn certificates(&self, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
        let text = self.read().map_err(|error| format!("{what} {self}: {error}"))?;
        match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => {
                Err(format!("{what} {self}: no certificate in it; expected PEM"))
            }
            Ok(certificates) => Ok(certificates),
            Err(error) => Err(format!("{what} {self}: {}", describe(&error))),
        }
    }

    /// The first private key in it. It must not be encrypted.
    pub(crate) fn private_key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let text = self.read().map_err(|error| format!("private key {self}: {error}"))?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let reason = match (encryption_mark(&text), error) {
                (Some(mark), _) => {
                    format!("the key is encrypted ({mark}); expected one that is not, as `openssl pkey` writes it")
                }
                (None, PemError::NoItemsFound) => {
                    "no private key in it; expected PEM, and a key that is not encrypted".to_owned()
                }
                (None, other) => describe(&other),
            };
            format!("private key {self}: {reason}")
        })
    }
}

/// Displays the path of a file, and of a text only its length: it may be a secret.
impl fmt::Display for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Snapshot(Snapshot { path, .. }) => write!(f, "{path:?}"),
            Self::Text(text) => write!(f, "given as a text of {} bytes", text.len()),
        }
    }
}

/// What shows that a private key is encrypted: the header of the old form (RFC 1421), or the title of PKCS#8.
fn encryption_mark(text: &[u8]) -> Option<&'static str> {
    ["Proc-Type: 4,ENCRYPTED", "BEGIN ENCRYPTED PRIVATE KEY"]
        .into_iter()
        .find(|mark| text.windows(mark.len()).any(|window| window == mark.as_bytes()))
}

/// Describes an error without quoting the source, which may be a secret.
fn describe(error: &PemError) -> String {
    let what = match error {
        PemError::NoItemsFound => "no such section in it",
        PemError::MissingSectionEnd { .. } => "a section has no end",
        PemError::IllegalSectionStart { .. } => "a section has a malformed start line",
        PemError::Base64Decode(_) => "a section is not valid base64",
        _ => "it cannot be parsed",
    };
    format!("{what}; expected PEM")
}
