//! The channel binding `tls-server-end-point` of RFC 5929: the hash of the server's certificate.
//!
//! Next: [`TlsUpgrade`](super::TlsUpgrade), which asks for it after a handshake.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Reader as _, SliceReader};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The hash of a certificate, by the hash function of its signature, or by SHA-256 in place of MD5 and SHA-1.
///
/// `None` if its signature has no hash function of its own (Ed25519), or one that its name does not tell (RSASSA-PSS).
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let signature = signature_algorithm(certificate).ok()?;
    let (_, hash) = HASHES.iter().find(|(signatures, _)| signatures.contains(&signature))?;
    Some(hash(certificate))
}

/// A hash function.
type Hash = fn(&[u8]) -> Vec<u8>;

/// The hash functions and the signature algorithms whose certificates they are for.
const HASHES: [(&[ObjectIdentifier], Hash); 3] = [
    (
        &[
            ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4"), // RSA with MD5
            ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), // RSA with SHA-1
            ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), // RSA with SHA-256
            ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"),    // ECDSA with SHA-1
            ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"),  // ECDSA with SHA-256
        ],
        hash::<Sha256>,
    ),
    (
        &[
            ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), // RSA with SHA-384
            ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),   // ECDSA with SHA-384
        ],
        hash::<Sha384>,
    ),
    (
        &[
            ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), // RSA with SHA-512
            ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"),   // ECDSA with SHA-512
        ],
        hash::<Sha512>,
    ),
];

/// Hashes bytes.
fn hash<D: Digest>(bytes: &[u8]) -> Vec<u8> {
    D::digest(bytes).to_vec()
}

/// The algorithm that a certificate is signed with: the second of its three parts.
fn signature_algorithm(certificate: &[u8]) -> der::Result<ObjectIdentifier> {
    SliceReader::new(certificate)?.sequence(|parts| {
        let _signed: AnyRef<'_> = parts.decode()?;
        let algorithm = parts.sequence(|algorithm| {
            let name = algorithm.decode()?;
            let _parameters: Option<AnyRef<'_>> = algorithm.decode()?;
            Ok::<ObjectIdentifier, der::Error>(name)
        })?;
        let _signature: AnyRef<'_> = parts.decode()?;
        Ok(algorithm)
    })
}

#[cfg(test)]
mod tests;
