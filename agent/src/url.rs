//! The first look at a URL, so that a typing error is found before anything is waited for, and
//! without an error that shows it: a URL may hold a password or a token.

use http::Uri;

use crate::error::UsageError;

/// Checks the control plane's URL by the driver's rules: scheme, host, no user information.
/// Returns host and port, the part of it that logs may show.
pub(crate) fn check(url: &str, allow_plaintext: bool) -> Result<String, UsageError> {
    let uri: Uri = url.parse().map_err(|_| UsageError::UrlInvalid)?;
    let scheme = uri.scheme_str().ok_or(UsageError::UrlInvalid)?;
    match scheme {
        "https" | "wss" => {}
        "http" if !allow_plaintext => return Err(UsageError::Plaintext("http")),
        "ws" if !allow_plaintext => return Err(UsageError::Plaintext("ws")),
        "http" | "ws" => {}
        other => return Err(UsageError::UrlScheme(other.into())),
    }
    let authority = uri.authority().ok_or(UsageError::UrlInvalid)?.as_str();
    if authority.contains('@') {
        return Err(UsageError::UrlUserInfo);
    }
    if !has_host(&uri) {
        return Err(UsageError::UrlInvalid);
    }
    Ok(authority.into())
}

/// Whether there is a host, and a port that can be connected to if there is one.
pub(crate) fn has_host(uri: &Uri) -> bool {
    // `Uri::port` also says `None` to a port that is no number.
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
        return false;
    };
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(':').is_some_and(is_port),
        None => false,
    };
    port && !host.is_empty()
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::check;

    fn text(url: &str) -> String {
        check(url, false).map_or_else(|e| e.to_string(), |_| "fine".into())
    }

    #[test]
    fn tls_schemes_pass() {
        for url in [
            "https://api.example.com",
            "wss://h:8443/x?y=z",
            "https://[::1]:1/",
        ] {
            assert_eq!(text(url), "fine", "{url}");
        }
        assert_eq!(check("wss://h:8443/x?token=y", false).unwrap(), "h:8443");
    }

    #[test]
    fn plaintext_needs_the_flag() {
        for url in ["http://h", "ws://h"] {
            assert!(text(url).contains("--allow-plaintext"), "{url}");
            assert!(check(url, true).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_secret_shown() {
        assert!(text("ftp://h").contains("\"ftp\""));
        let no_urls = [
            "s3cret",
            "api.example.com:443",
            "https:///s3cret",
            "https://:443",
            "https://h:x?token=s3cret",
            "https://h:0/",
            "https://h:70000/",
            "https://h/s3cret with spaces",
        ];
        for url in no_urls {
            let expected =
                "the control plane's URL is not one: it looks like https://api.example.com";
            assert_eq!(text(url), expected, "{url}");
        }
        let with_user = text("https://bob:s3cret@h/");
        assert!(with_user.contains("user name"), "{with_user}");
        assert!(!with_user.contains("s3cret"));
    }
}
