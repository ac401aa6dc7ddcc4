//! Who the client is, if there are proxies in between.

use std::net::IpAddr;
use std::str::FromStr;

/// The proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

/// Addresses that begin with the same bits. IPv4 counts as the part of IPv6 that it is mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: u128,
    bits: u32,
}

impl TrustedProxies {
    /// Reads addresses and networks, as in `10.0.0.0/8, 192.0.2.7, 2001:db8::/32`. The error is the part that is neither.
    pub fn parse(text: &str) -> Result<TrustedProxies, String> {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().map_err(|()| part.to_owned()))
            .collect::<Result<_, _>>()
            .map(TrustedProxies)
    }

    /// Whether this address is a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = mapped(address);
        self.0.iter().any(|network| network.has(address))
    }

    /// The client: the nearest address that is no trusted proxy. `forwarded_for` are the header fields in their order.
    pub fn client(&self, peer: IpAddr, forwarded_for: &[&str]) -> IpAddr {
        let mut client = peer;
        let said = forwarded_for
            .iter()
            .rev()
            .flat_map(|field| field.rsplit(','));
        for hop in said {
            if !self.trust(client) {
                break;
            }
            // A trusted proxy writes addresses. What stands before anything else was not written by one.
            let Some(hop) = address(hop.trim()) else {
                break;
            };
            client = hop;
        }
        client
    }
}

/// An address, maybe with a port, as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || Some(text.parse::<std::net::SocketAddr>().ok()?.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(in_brackets)
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Network {
    fn has(self, address: u128) -> bool {
        let different = self.address ^ address;
        // `checked_shr` gives none for a shift by all bits.
        different.checked_shr(128 - self.bits).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(drop)?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most {
            return Err(());
        }
        Ok(Network {
            address: mapped(address),
            bits: bits + 128 - most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses() {
        let proxies = TrustedProxies::parse("10.0.0.0/8,192.0.2.7, 2001:db8::/32 ,").unwrap();
        for trusted in [
            "10.0.0.1",
            "10.255.0.0",
            "192.0.2.7",
            "2001:db8:1::1",
            "::ffff:10.1.1.1",
        ] {
            assert!(proxies.trust(ip(trusted)), "{trusted}");
        }
        for other in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::1", "::"] {
            assert!(!proxies.trust(ip(other)), "{other}");
        }
        assert!(
            TrustedProxies::parse("0.0.0.0/0")
                .unwrap()
                .trust(ip("8.8.8.8"))
        );
        assert!(!TrustedProxies::parse("0.0.0.0/0").unwrap().trust(ip("::1")));
        assert!(TrustedProxies::parse("::/0").unwrap().trust(ip("8.8.8.8")));
        assert_eq!(
            TrustedProxies::parse("").unwrap(),
            TrustedProxies::default()
        );
        for wrong in ["router", "10.0.0.0/33", "10.0.0.0/x", "10.0.0/8", "::/129"] {
            assert_eq!(
                TrustedProxies::parse(&format!("127.0.0.1,{wrong}")),
                Err(wrong.to_owned())
            );
        }
    }

    #[test]
    fn the_client_is_the_nearest_that_is_not_trusted() {
        let proxies = TrustedProxies::parse("10.0.0.0/8").unwrap();
        for (peer, said, client) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            (
                "10.0.0.1",
                &["1.1.1.1, 203.0.113.9, 10.0.0.2"][..],
                "203.0.113.9",
            ),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9"][..], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.2"][..], "10.0.0.9"),
            ("10.0.0.1", &["203.0.113.9, nonsense"][..], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9:1234"][..], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::1]"][..], "2001:db8::1"),
        ] {
            assert_eq!(
                proxies.client(ip(peer), said),
                ip(client),
                "{peer} {said:?}"
            );
        }
    }
}
