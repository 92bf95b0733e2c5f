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
    match signature_algorithm(certificate).ok()?.to_string().as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(certificate).to_vec()),
        // RSA and ECDSA with SHA-384.
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(certificate).to_vec()),
        // RSA and ECDSA with SHA-512.
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
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
