//! What this machine knows under a name, by getent(1), which asks whatever the machine was told to ask (nsswitch.conf(5)). The C
//! library's own look-ups are not used: a grid that is linked statically, to run on any worker, would load that machine's
//! modules into a library of another version.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// Of a PATH only these count: root asks.
const GETENT: [&str; 3] = ["/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"];
/// Its status where there is no such entry.
const NOT_FOUND: i32 = 2;

/// Addresses of a host by its name or number, the preferred one first. Never empty.
///
/// # Errors
/// `NotFound` where nobody knows it, or there is no getent; others as they come.
pub fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    // `192.0.2.1       STREAM gpu1.lab`, and the same again for each type of socket.
    let lines = getent("ahosts", host)?.unwrap_or_default();
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in lines.iter().filter_map(|line| line.split_whitespace().next()?.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no address of {host} is known")));
    }
    Ok(addresses)
}

/// Its lines for this key; none where there is no such entry.
///
/// # Errors
/// `NotFound` where there is no getent.
pub(crate) fn getent(database: &str, key: &str) -> io::Result<Option<Vec<String>>> {
    // It would be taken for an option, and names nobody.
    if key.starts_with('-') {
        return Ok(None);
    }
    let program = GETENT.iter().find(|path| Path::new(path).exists()).ok_or(io::ErrorKind::NotFound)?;
    let output = Command::new(program).args([database, key]).stdin(Stdio::null()).output()?;
    match output.status.code() {
        Some(0) => Ok(Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())),
        Some(NOT_FOUND) => Ok(None),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("getent {database}: {}: {}", output.status, said.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_own_address_and_a_name_is_looked_up() {
        assert_eq!(addresses("192.0.2.7").unwrap(), ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("2001:db8::7").unwrap(), ["2001:db8::7".parse::<IpAddr>().unwrap()]);
        assert!(addresses("localhost").unwrap().iter().all(IpAddr::is_loopback));
        for name in ["no-such-host.invalid", "-s", ""] {
            assert_eq!(addresses(name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        }
    }
}
