//! Until when certificates are valid.

use x509_cert::{Certificate, der::Decode as _};

/// The end of a certificate's validity in DER, in seconds since the UNIX epoch; `None` where it is
/// no certificate.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<u64> {
    let certificate = Certificate::from_der(der).ok()?;
    let end = certificate.tbs_certificate().validity().not_after;
    Some(end.to_unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_that_of_the_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".into()]).unwrap();
        for (year, seconds) in [(2031, 1_924_992_000), (2051, 2_556_144_000)] {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let der = params.self_signed(&key).unwrap();
            assert_eq!(not_after(der.der()), Some(seconds), "{year}");
        }
        assert_eq!(not_after(b"no certificate"), None);
    }
}
