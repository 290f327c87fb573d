//! Until when certificates are valid.

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_cert::{Certificate, der::Decode as _};

/// The end of a certificate's validity in DER, in seconds since the UNIX epoch; `None` where it is
/// no certificate.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<i64> {
    let certificate = Certificate::from_der(der).ok()?;
    let end = certificate.tbs_certificate().validity().not_after;
    i64::try_from(end.to_unix_duration().as_secs()).ok()
}

/// The same of each certificate in a text, in their order; what is none is left out.
#[must_use]
pub fn not_after_pem(pem: &[u8]) -> Vec<i64> {
    let certificates = CertificateDer::pem_slice_iter(pem).flatten();
    certificates.filter_map(|der| not_after(&der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_that_of_the_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        let mut pem = key.serialize_pem();
        for (year, seconds) in [(2031, 1_924_992_000), (2051, 2_556_144_000)] {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let made = params.self_signed(&key).unwrap();
            assert_eq!(not_after(made.der()), Some(seconds), "{year}");
            pem += &made.pem();
        }
        assert_eq!(
            not_after_pem(pem.as_bytes()),
            [1_924_992_000, 2_556_144_000]
        );
        assert_eq!(not_after(b"no certificate"), None);
        assert!(not_after_pem(b"no certificate").is_empty());
    }
}
