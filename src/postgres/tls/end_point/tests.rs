use super::*;

/// The DER of a value: its tag, its length and its content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()][..], content].concat()
}

/// A certificate with nothing in it but the name of its signature algorithm.
fn certificate(algorithm: &[u8], parameters: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &[der(0x06, algorithm), parameters.to_vec()].concat());
    der(0x30, &[der(0x30, &[]), algorithm, der(0x03, &[0])].concat())
}

/// RSA in PKCS #1, up to the last number.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// ECDSA in ANSI X9.62, up to the last numbers.
const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// The parameters of RSA.
const NULL: [u8; 2] = [5, 0];

#[test]
fn hash_function_is_that_of_the_signature_but_never_weaker_than_sha_256() {
    let rsa = |number| certificate(&[&RSA[..], &[number]].concat(), &NULL);
    let ecdsa = |numbers: &[u8]| certificate(&[&ECDSA[..], numbers].concat(), &[]);
    for (certificate, length) in [
        (rsa(4), 32),
        (rsa(5), 32),
        (rsa(11), 32),
        (rsa(12), 48),
        (rsa(13), 64),
        (ecdsa(&[1]), 32),
        (ecdsa(&[3, 2]), 32),
        (ecdsa(&[3, 3]), 48),
        (ecdsa(&[3, 4]), 64),
    ] {
        let hash = end_point(&certificate).unwrap();
        assert_eq!(hash.len(), length, "{certificate:?}");
        let same = match length {
            32 => Sha256::digest(&certificate).to_vec(),
            48 => Sha384::digest(&certificate).to_vec(),
            _ => Sha512::digest(&certificate).to_vec(),
        };
        assert_eq!(hash, same);
    }
}

#[test]
fn certificate_without_a_hash_function_of_its_own_has_no_end_point() {
    let ed25519 = certificate(&[0x2b, 0x65, 0x70], &[]);
    let pss = certificate(&[&RSA[..], &[10]].concat(), &der(0x30, &[]));
    for certificate in [ed25519, pss] {
        assert_eq!(end_point(&certificate), None);
    }
}

#[test]
fn what_is_no_certificate_has_no_end_point() {
    let good = certificate(&[&RSA[..], &[11]].concat(), &NULL);
    for length in 0..good.len() {
        assert_eq!(end_point(&good[..length]), None, "{length}");
    }
    assert_eq!(end_point(&der(0x30, &[der(0x30, &[]), der(0x03, &[0]), der(0x30, &[])].concat())), None);
}
