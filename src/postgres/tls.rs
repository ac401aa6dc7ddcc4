//! TLS to a server: how far its certificate is trusted, as `sslmode` says, and what binds a login to the connection.

use super::config::{Config, Roots, TlsMode};
use crate::trust;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::sync::Arc;

/// Reads the files that a connection string names. `None` where TLS is not wanted.
pub fn client(config: &Config) -> Result<Option<Arc<ClientConfig>>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match config.tls {
        TlsMode::Disable => return Ok(None),
        TlsMode::Prefer | TlsMode::Require => Arc::new(Lenient {
            provider: provider.clone(),
            roots: None,
        }),
        TlsMode::VerifyCa | TlsMode::VerifyFull => {
            let roots = Arc::new(roots(config.root_certificates.as_ref())?);
            let strict = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| format!("sslrootcert: {error}"))?;
            match config.tls {
                TlsMode::VerifyFull => strict,
                _ => Arc::new(Lenient {
                    provider: provider.clone(),
                    roots: Some(strict),
                }),
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let client = match &config.client_certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = trust::certificates(certificate);
            let chain = chain.map_err(|error| format!("sslcert {error}"))?;
            let key = trust::key(key).map_err(|error| format!("sslkey {error}"))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("sslcert {}: {error}", certificate.display()))?
        }
    };
    Ok(Some(Arc::new(client)))
}

fn roots(roots: Option<&Roots>) -> Result<RootCertStore, String> {
    let path = match roots {
        None => {
            return Err(
                "sslmode verify-ca and verify-full need sslrootcert: a file with certificates of authorities in PEM, or system"
                    .to_owned(),
            );
        }
        Some(Roots::File(path)) => path.clone(),
        Some(Roots::System) => {
            trust::system().map_err(|error| format!("sslrootcert=system: {error}"))?
        }
    };
    trust::roots(&path).map_err(|error| format!("sslrootcert {error}"))
}

/// Does not look at the name of the server, and without `roots` not at who signed its certificate either. The server must have
/// the key that goes with it.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        match roots.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// `tls-server-end-point` (RFC 5929): the hash of the server's certificate, by the algorithm that it is signed with. `None` for
/// one that has no hash of its own, as Ed25519.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // RFC 5280: Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm OID, … }, … }
    let (_, certificate_body, _) = element(certificate)?;
    let (_, _, rest) = element(certificate_body)?;
    let (_, algorithm, _) = element(rest)?;
    let (tag, oid, parameters) = element(algorithm)?;
    if tag != 0x06 {
        return None;
    }
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    let bits = match (oid.split_last()?, oid) {
        // MD5 and SHA-1 count as SHA-256.
        ((4 | 5 | 11, RSA), _) | ((2, ECDSA_SHA2), _) | (_, ECDSA_SHA1) => 256,
        ((12, RSA), _) | ((3, ECDSA_SHA2), _) => 384,
        ((13, RSA), _) | ((4, ECDSA_SHA2), _) => 512,
        // RSASSA-PSS: the hash is the first of its parameters, 2.16.840.1.101.3.4.2.x.
        ((10, RSA), _) => {
            const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
            let at = parameters
                .windows(SHA2.len())
                .position(|found| found == SHA2)?;
            match parameters.get(at + SHA2.len())? {
                1 => 256,
                2 => 384,
                3 => 512,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some(match bits {
        256 => Sha256::digest(certificate).to_vec(),
        384 => Sha384::digest(certificate).to_vec(),
        _ => Sha512::digest(certificate).to_vec(),
    })
}

/// The first element of a DER text: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            let length = digits
                .iter()
                .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_one_of_the_signature() {
        for (algorithm, length) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, 32),
            (&rcgen::PKCS_ECDSA_P384_SHA384, 48),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            let hash = end_point(certificate.der()).unwrap();
            assert_eq!(hash.len(), length);
            let wanted = match length {
                32 => Sha256::digest(certificate.der()).to_vec(),
                _ => Sha384::digest(certificate.der()).to_vec(),
            };
            assert_eq!(hash, wanted);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_hash() {
        let whole = {
            let key = rcgen::KeyPair::generate().unwrap();
            let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.self_signed(&key).unwrap().der().to_vec()
        };
        for length in 0..whole.len() {
            assert_eq!(end_point(&whole[..length]), None, "{length}");
        }
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        assert_eq!(end_point(params.self_signed(&key).unwrap().der()), None);
    }
}
