//! Where a web service is, and whether what it names lies within it.

use std::net::IpAddr;
use ureq::http::Uri;
use ureq::http::uri::Scheme;

/// The address that calls are sent to.
pub struct Address(Uri);

impl Address {
    /// The error says what is wrong, and quotes nothing: an address may hold a secret.
    pub fn parse(text: &str, plaintext: bool) -> Result<Address, String> {
        const WANTED: &str = "wanted https://HOST[:PORT]/PATH";
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("is no URL ({error}), {WANTED}"))?;
        let authority = uri
            .authority()
            .ok_or_else(|| format!("names no host, {WANTED}"))?;
        if authority.as_str().contains('@') {
            return Err(
                "holds a name or a password before the host; wanted them in \"headers\", as in \"Authorization\": \
                 \"Basic ${env:NAME}\""
                    .to_owned(),
            );
        }
        if text.contains('#') {
            return Err("has a fragment (\"#\"), which no service sees".to_owned());
        }
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if plaintext || is_loopback(authority.host()) => {}
            Some("http") => {
                return Err(
                    "is http:// to another machine, so secrets would be sent in the clear; wanted https://, or \
                     \"plaintext\": true where the network is trusted, as that of apps.internal"
                        .to_owned(),
                );
            }
            _ => return Err(format!("has no scheme that is known here, {WANTED}")),
        }
        Ok(Address(uri))
    }

    pub fn uri(&self) -> &Uri {
        &self.0
    }

    pub fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// What a service names as its address of an operation: a path, or a URL with the same scheme, host and port.
    pub fn within(&self, named: &str) -> Option<Uri> {
        if named.starts_with('/') && !named.starts_with("//") {
            let mut parts = self.0.clone().into_parts();
            parts.path_and_query = Some(named.parse().ok()?);
            return Uri::from_parts(parts).ok();
        }
        let uri: Uri = named.parse().ok()?;
        (origin(&uri)? == origin(&self.0)?).then_some(uri)
    }
}

fn origin(uri: &Uri) -> Option<(&str, String, u16)> {
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    if authority.as_str().contains('@') {
        return None;
    }
    let default = if scheme == "https" { 443 } else { 80 };
    let port = authority.port_u16().unwrap_or(default);
    Some((scheme, authority.host().to_ascii_lowercase(), port))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_that_keeps_secrets() {
        for (text, plaintext, wanted) in [
            ("https://x.example.com", false, ""),
            ("https://x.example.com:8443/a/b?c=d", false, ""),
            ("http://localhost:8080/", false, ""),
            ("http://127.9.9.9/", false, ""),
            ("http://[::1]:80/", false, ""),
            ("http://x.apps.internal:8080/", true, ""),
            ("http://x.apps.internal:8080/", false, "in the clear"),
            ("http://localhost.example.com/", false, "in the clear"),
            ("https://", false, "is no URL"),
            ("/brokerlet", false, "names no host"),
            ("x.example.com", false, "has no scheme"),
            ("ftp://x/", false, "has no scheme"),
            ("https://u:bigsecret@x/", false, "before the host"),
            ("https://x/#y", false, "fragment"),
            ("https://x/a b", false, "is no URL"),
            ("", false, "is no URL"),
        ] {
            match Address::parse(text, plaintext) {
                Ok(_) => assert_eq!(wanted, "", "{text}"),
                Err(complaint) => {
                    assert!(
                        !wanted.is_empty() && complaint.contains(wanted),
                        "{text}: {complaint}"
                    );
                    assert!(!complaint.contains("bigsecret"));
                }
            }
        }
    }

    #[test]
    fn an_operation_is_polled_at_the_same_origin() {
        let address = Address::parse("https://x.example.com/brokerlet?a=b", false).unwrap();
        for (named, wanted) in [
            (
                "/operations/7?x=y",
                Some("https://x.example.com/operations/7?x=y"),
            ),
            (
                "https://X.example.com:443/7",
                Some("https://X.example.com:443/7"),
            ),
            ("//evil.example.com/7", None),
            ("https://evil.example.com/7", None),
            ("https://x.example.com:8443/7", None),
            ("http://x.example.com/7", None),
            ("https://u@x.example.com/7", None),
            ("operations/7", None),
            ("/a b", None),
            ("", None),
        ] {
            let found = address.within(named).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), wanted, "{named}");
        }
    }
}
