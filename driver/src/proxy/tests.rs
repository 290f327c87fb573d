//! Which proxy is used for which URL, and how its URL is read.

use super::*;

const SECRET: &str = "S3CRET";

fn from(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
    Proxies::from_env(|name| {
        let found = variables.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_string())
    })
}

fn proxy(url: &str) -> Proxy {
    Proxy::parse("HTTPS_PROXY", url).unwrap()
}

#[test]
fn the_scheme_of_the_controller_decides_which_variable_counts() {
    let proxies = from(&[("HTTPS_PROXY", "a"), ("HTTP_PROXY", "b")]).unwrap();
    for (url, expected) in [
        ("https://c.example", "a:80"),
        ("wss://c.example:8443/x", "a:80"),
        ("http://c.example", "b:80"),
        ("ws://c.example", "b:80"),
    ] {
        assert_eq!(proxies.proxy_of(url).as_deref(), Some(expected), "{url}");
    }
    let only = from(&[("HTTP_PROXY", "b"), ("ALL_PROXY", "c")]).unwrap();
    assert_eq!(only.proxy_of("https://c.example"), None);
    let only = from(&[("https_proxy", "a")]).unwrap();
    assert_eq!(only.proxy_of("ws://c.example"), None);
}

#[test]
fn upper_case_comes_first_and_empty_counts_as_not_set() {
    let of = |variables: &[(&str, &str)]| from(variables).unwrap().proxy_of("https://c.example");
    let both = [("https_proxy", "lower"), ("HTTPS_PROXY", "upper")];
    assert_eq!(of(&both).as_deref(), Some("upper:80"));
    let empty = [("https_proxy", "lower"), ("HTTPS_PROXY", " ")];
    assert_eq!(of(&empty).as_deref(), Some("lower:80"));
    assert_eq!(of(&[("HTTPS_PROXY", "")]), None);
    assert_eq!(of(&[]), None);
    let except = [("HTTPS_PROXY", "p"), ("no_proxy", "c.example")];
    assert_eq!(of(&except), None);
    let first = [except[0], except[1], ("NO_PROXY", "other.example")];
    assert_eq!(of(&first).as_deref(), Some("p:80"));
}

#[test]
fn excepted_and_local_hosts_are_reached_directly() {
    let proxies = Proxies::new("p")
        .unwrap()
        .except("10.0.0.0/8,.in.example,x:y");
    for url in [
        "https://10.1.2.3",
        "https://a.in.example",
        "ws://localhost:1",
        "wss://127.0.0.9",
        "wss://[::1]:8443",
    ] {
        assert_eq!(proxies.proxy_of(url), None, "{url}");
    }
    for url in ["https://in.example", "ws://11.1.2.3"] {
        assert_eq!(proxies.proxy_of(url).as_deref(), Some("p:80"), "{url}");
    }
    assert_eq!(proxies.ignored(), ["x:y"]);
    assert_eq!(Proxies::none().proxy_of("https://in.example"), None);
}

#[test]
fn scheme_host_and_port_of_a_proxy() {
    for (url, authority, secure) in [
        ("p.example", "p.example:80", false),
        ("p.example:3128", "p.example:3128", false),
        (" http://p.example ", "p.example:80", false),
        ("HTTP://p.example:8080/", "p.example:8080", false),
        ("https://p.example", "p.example:443", true),
        ("https://p.example:3129/?x#y", "p.example:3129", true),
        ("http://10.0.0.1:3128", "10.0.0.1:3128", false),
        ("[fd00::1]:3128", "[fd00::1]:3128", false),
        ("https://u:p@[fd00::1]", "[fd00::1]:443", true),
    ] {
        let proxy = proxy(url);
        assert_eq!(proxy.at.authority, authority, "{url}");
        assert_eq!(proxy.at.secure, secure, "{url}");
        assert!(!proxy.at.host.contains(['[', ']']), "{url}");
    }
    assert!(!Proxies::new("http://p").unwrap().need_tls());
    assert!(from(&[("http_proxy", "https://p")]).unwrap().need_tls());
}

#[test]
fn what_cannot_be_a_proxy_is_refused() {
    for url in [
        "http://",
        "https://user:pw@",
        ":3128",
        "http://p:0",
        "http://p:x",
        "http://p:70000",
        "http://p.example:",
        "p q",
        "p:1:2",
        "fd00::1",
        "://p",
        "a b://p",
    ] {
        let error = Proxy::parse("HTTP_PROXY", url).unwrap_err();
        assert_eq!(error, ProxyError::Invalid("HTTP_PROXY"), "{url}");
    }
    for (url, scheme) in [("socks5://p:1080", "socks5"), ("SOCKS5h://p", "socks5h")] {
        let error = from(&[("HTTPS_PROXY", url)]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "HTTPS_PROXY has the scheme {scheme:?}: only http:// and https:// proxies are \
                 supported"
            )
        );
    }
}

#[test]
fn user_and_password_are_sent_as_they_were_meant() {
    for (url, plain) in [
        ("http://user:pass@p", "user:pass"),
        ("user:pass@p", "user:pass"),
        ("http://user@p", "user:"),
        ("http://user:@p", "user:"),
        ("http://:pass@p", ":pass"),
        ("http://u%40corp:p%3Aa%2fs%25@p", "u@corp:p:a/s%"),
        ("http://u@corp:p@ss@p", "u@corp:p@ss"),
        ("http://u:p:a@p", "u:p:a"),
        ("http://u:100%@p", "u:100%"),
        ("http://%C3%BC:%F0%9F%94%91@p", "\u{fc}:\u{1f511}"),
    ] {
        let header = proxy(url).credentials.unwrap();
        let sent = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(sent).unwrap(), plain.as_bytes(), "{url}");
    }
    assert_eq!(proxy("http://p").credentials, None);
    assert_eq!(proxy("http://@p").credentials, None);
    let error = Proxies::new("http://a%3Ab:c@p").unwrap_err();
    assert_eq!(error, ProxyError::User("the proxy's URL"));
}

#[test]
fn a_password_is_never_shown() {
    let proxies = Proxies::new(&format!("http://user:{SECRET}@p.example")).unwrap();
    let encoded = STANDARD.encode(format!("user:{SECRET}"));
    let shown = format!("{proxies:?} {:?}", proxies.proxy_of("https://c.example"));
    assert!(shown.contains("p.example"), "{shown}");
    assert!(
        !shown.contains(SECRET) && !shown.contains(&encoded),
        "{shown}"
    );
    // What stands in the way of reading the URL may be a part of the password.
    for url in [
        "http://user:S3CRET/x@p",
        "http://user:12#S3CRET@p",
        "http://user:S3CRET?@p",
        "http://user:S3CRET",
        "user:S3CRET@p:x",
        "socks5://user:S3CRET@p",
        "S3CRET user://p",
        "http://a%3Ab:S3CRET@p",
    ] {
        let error = Proxies::new(url).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains(SECRET),
            "{url}: {error}"
        );
    }
}
