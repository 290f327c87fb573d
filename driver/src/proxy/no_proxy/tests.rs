//! What Go's `httpproxy` documents, and what we do beyond it.

use super::*;

/// One entry of each kind.
const LIST: &str = "corp.example, .inner.example, *.star.example, 172.16.5.9, 172.16.5.10:8080, \
                    172.16.5.11:443, 172.20.0.0/14, fd12::9, [fd12::10]:8080, [fd12::11]:443, \
                    fd34:5678:9a::1/48";

fn excepts(list: &str, host: &str, port: u16) -> bool {
    let read = NoProxy::parse(list);
    assert_eq!(read.ignored(), [""; 0], "{list}");
    read.excepts(host, port)
}

#[test]
fn as_go_documents_it() {
    for (host, direct) in [
        // Local, always.
        ("localhost", true),
        ("127.0.0.1", true),
        ("127.9.8.7", true),
        ("::1", true),
        ("::9", false),
        ("localhost.example", false),
        ("sub.localhost", false),
        // A name, and all below it.
        ("corp.example", true),
        ("a.b.corp.example", true),
        ("mycorp.example", false),
        ("corp.example.net", false),
        ("orp.example", false),
        // All below a name, but not itself.
        ("inner.example", false),
        ("a.inner.example", true),
        ("dinner.example", false),
        ("star.example", false),
        ("a.star.example", true),
        ("rockstar.example", false),
        // Addresses, of every port, of another and of this one.
        ("172.16.5.9", true),
        ("172.16.5.10", false),
        ("172.16.5.11", true),
        ("172.16.5.12", false),
        ("fd12::9", true),
        ("fd12::10", false),
        ("fd12::11", true),
        ("fd12::12", false),
        // Networks.
        ("172.20.0.0", true),
        ("172.23.255.255", true),
        ("172.24.0.0", false),
        ("fd34:5678:9a:ffff::1", true),
        ("fd34:5678:9b::1", false),
    ] {
        assert_eq!(excepts(LIST, host, 443), direct, "{host}");
    }
}

#[test]
fn a_port_holds_for_that_port_alone() {
    let list = "foo.example:443, .bar.example:8443, 10.0.0.1:99, [fd00::1]:99";
    for (host, port) in [
        ("foo.example", 443),
        ("www.foo.example", 443),
        ("www.bar.example", 8443),
        ("10.0.0.1", 99),
        ("fd00::1", 99),
    ] {
        assert!(excepts(list, host, port), "{host}");
        assert!(!excepts(list, host, port + 1), "{host}");
    }
    assert!(!excepts(list, "bar.example", 8443));
}

#[test]
fn everything_or_nothing() {
    for host in ["c.example", "10.0.0.1", "fd00::1"] {
        assert!(excepts("*", host, 443), "{host}");
        assert!(excepts("a.example,*", host, 443), "{host}");
        assert!(!excepts("", host, 443), "{host}");
        assert!(!excepts(" , ,", host, 443), "{host}");
    }
}

#[test]
fn case_and_a_dot_at_the_end_make_no_difference() {
    for (list, host) in [
        ("Foo.EXAMPLE", "www.foo.example"),
        ("foo.example", "WWW.Foo.Example"),
        ("foo.example.", "foo.example"),
        ("foo.example", "foo.example."),
        ("", "LocalHost"),
        ("", "localhost."),
        ("FD00::/8", "fd00::ABCD"),
    ] {
        assert!(excepts(list, host, 443), "{list} {host}");
    }
}

#[test]
fn addresses_are_compared_as_addresses() {
    // IPv4 that comes as IPv6, in the host or in the entry.
    assert!(excepts("10.0.0.0/8", "::ffff:10.1.2.3", 443));
    assert!(excepts("::ffff:10.0.0.1", "10.0.0.1", 443));
    assert!(excepts("", "::ffff:127.0.0.1", 443));
    assert!(excepts("2001:db8:0:0::1", "2001:db8::1", 443));
    // A network whose address has bits below its mask.
    assert!(excepts("10.1.2.3/8", "10.9.9.9", 443));
    assert!(excepts("0.0.0.0/0", "8.8.8.8", 443));
    assert!(!excepts("0.0.0.0/0", "fd00::1", 443));
    // A name that ends like an address is none.
    assert!(!excepts("1.2.3.4", "x.1.2.3.4", 443));
    assert!(!excepts("2.3.4", "1.2.3.4", 443));
}

#[test]
fn every_address_of_a_network_is_in_it_and_no_other() {
    // Against the plainest reading: the first bits are the same.
    for bits in 0..=32_u32 {
        let net = NoProxy::parse(&format!("10.11.12.13/{bits}"));
        for bit in 0..32 {
            let host = std::net::Ipv4Addr::from(0x0a0b_0c0d_u32 ^ (0x8000_0000 >> bit));
            assert_eq!(
                net.excepts(&host.to_string(), 1),
                bit >= bits,
                "{host}/{bits}"
            );
        }
    }
    for bits in 0..=128_u32 {
        let net = NoProxy::parse(&format!("2001:db8::/{bits}"));
        for bit in 0..128 {
            let own = 0x2001_0db8_u128 << 96;
            let host = std::net::Ipv6Addr::from(own ^ (1 << 127 >> bit));
            assert_eq!(
                net.excepts(&host.to_string(), 1),
                bit >= bits,
                "{host}/{bits}"
            );
        }
    }
}

#[test]
fn what_is_no_entry_excepts_nothing_and_is_named() {
    for entry in [
        "10.0.0.0/33",
        "10.0.0/8",
        "/8",
        "a.example/8",
        ":443",
        "a.example:",
        "a.example:x",
        "a.example:70000",
        "[::1",
        "[::1]x",
        "https://a.example",
        "*.*.example",
        "a*.example",
        ".",
        "*.",
        "a..example",
        "a b.example",
        "b\u{fc}cher.example",
    ] {
        let read = NoProxy::parse(&format!("one.example,{entry}, two.example"));
        assert_eq!(read.ignored(), [entry.escape_debug().to_string()]);
        assert!(!read.excepts("a.example", 443), "{entry}");
        assert!(read.excepts("one.example", 443) && read.excepts("two.example", 443));
    }
    let secret = NoProxy::parse("http://user:S3CRET@a.example");
    assert_eq!(secret.ignored(), ["a.example"]);
    let long = NoProxy::parse(&"\n?".repeat(1000));
    assert_eq!(long.ignored()[0].len(), SHOWN);
}
