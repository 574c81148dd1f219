//! Addresses with ports: where the head listens for its workers, and what they dial.

use super::error::quoted;
use super::read::Wrong;
use std::net::{IpAddr, SocketAddr};

/// Lower ones are for those who hold root's rights; the channel holds none.
const LOWEST_PORT: u16 = 1024;

/// An address that the head may listen at.
pub(super) fn listen(text: &str) -> Result<(), Wrong> {
    let Ok(address) = text.parse::<SocketAddr>() else {
        let what = format!("{} is no address of this machine with a port", quoted(text));
        return Err((what, Some(listen_hint(text))));
    };
    let several = match address.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if several {
        return Err((format!("{} is no machine's own address", address.ip()), None));
    }
    match address.port() {
        0 => {
            let why = "port 0 would be another one at each start, and workers and firewalls know it beforehand";
            Err((why.to_owned(), Some("a fixed one, as 7443".to_owned())))
        }
        port if port < LOWEST_PORT => {
            let why = format!("port {port} is root's alone, and what listens has none of root's rights");
            Err((why, Some(format!("one from {LOWEST_PORT} on, as 7443"))))
        }
        _ => Ok(()),
    }
}

fn listen_hint(text: &str) -> String {
    let ip = text.parse::<IpAddr>().or_else(|_| text.trim_matches(['[', ']']).parse());
    match ip {
        Ok(IpAddr::V4(ip)) => format!("with its port: {ip}:7443"),
        Ok(IpAddr::V6(ip)) => format!("with its port: \"[{ip}]:7443\""),
        Err(_) => "as 192.0.2.1:7443 or \"[2001:db8::1]:7443\"; a name goes under link_dial".to_owned(),
    }
}

/// What a worker may dial: its own resolver makes an address of a name.
pub(super) fn dial(text: &str) -> Result<(), Wrong> {
    let wrong = |hint: &str| Err((format!("{} is no host with a port", quoted(text)), Some(hint.to_owned())));
    let hint = "as head.example:7443, 192.0.2.1:7443 or \"[2001:db8::1]:7443\"";
    let Some((host, port)) = text.rsplit_once(':') else { return wrong(hint) };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) || !port.bytes().all(|b| b.is_ascii_digit()) {
        return wrong("a port is from 1 to 65535, behind a colon");
    }
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name = |host: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !host.is_empty() && host.len() <= 253 && host.chars().all(fits) && !host.starts_with(['-', '.'])
    };
    match in_brackets {
        Some(ip) if ip.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        None if name(host) => Ok(()),
        _ => wrong(hint),
    }
}

/// It is an address to listen at, and none that another machine can dial.
pub(super) fn nobody_dials(listen: &str) -> bool {
    listen.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_unspecified() || address.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_at() {
        for text in ["192.0.2.1:7443", "[2001:db8::1]:7443", "0.0.0.0:1024", "[::]:65535", "127.0.0.1:7443"] {
            assert_eq!(listen(text), Ok(()), "{text}");
        }
        for (text, part) in [
            ("192.0.2.1", "with its port: 192.0.2.1:7443"),
            ("2001:db8::1", "\"[2001:db8::1]:7443\""),
            ("head.example:7443", "under link_dial"),
            ("192.0.2.1:0", "a fixed one"),
            ("192.0.2.1:443", "from 1024 on"),
            ("192.0.2.1:70000", "as 192.0.2.1:7443"),
            ("unix:/tmp/x", "as 192.0.2.1:7443"),
            ("", "as 192.0.2.1:7443"),
        ] {
            assert!(listen(text).unwrap_err().1.unwrap().contains(part), "{text}: {:?}", listen(text));
        }
        for text in ["224.0.0.1:7443", "255.255.255.255:7443", "[ff02::1]:7443"] {
            assert!(listen(text).unwrap_err().0.contains("no machine's own"), "{text}");
        }
    }

    #[test]
    fn addresses_to_dial() {
        for text in ["head:7443", "head.example:443", "192.0.2.1:1", "[2001:db8::1]:65535"] {
            assert_eq!(dial(text), Ok(()), "{text}");
        }
        for text in [
            "head",
            "head:",
            ":7443",
            "head:0",
            "head:+1",
            "head:65536",
            "2001:db8::1:7443",
            "[head]:7443",
            "-x:7443",
            "a b:7443",
            "a/b:7443",
            "",
        ] {
            assert!(dial(text).is_err(), "{text}");
        }
    }

    #[test]
    fn some_addresses_only_this_machine_dials() {
        let all = ["0.0.0.0:7443", "[::]:7443", "127.0.0.1:7443", "[::1]:7443"];
        assert!(all.iter().all(|text| nobody_dials(text)) && !nobody_dials("192.0.2.1:7443"));
    }
}
