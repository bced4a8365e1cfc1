//! Where a request comes from: which site made the browser send it, and which address.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::header::{HOST, HeaderMap, ORIGIN};
use axum::http::request::Parts;

use crate::site_config::SiteConfig;

/// Whether a browser sent this because of a page of ours. Requests of programs carry neither header
/// and pass: they have no cookies that a foreign page could borrow.
///
/// `Sec-Fetch-Site` is set by the browser and cannot be forged by a page (Fetch Metadata, W3C);
/// older browsers send only `Origin`.
pub fn is_same_site(headers: &HeaderMap, config: &SiteConfig) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if origin == config.external_url {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let sender = origin.split_once("://").map_or("", |(_, host)| host);
    !host.is_empty() && sender.eq_ignore_ascii_case(host)
}

/// The client's address, for rate limits. Behind a proxy (when configured) the last entry of
/// `X-Forwarded-For`: that one the proxy wrote, the ones before it the client may have made up.
pub fn address(parts: &Parts, config: &SiteConfig) -> Option<IpAddr> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    if !config.trust_forwarded_for {
        return peer;
    }
    let values = parts.headers.get_all("x-forwarded-for").into_iter();
    let last = values.filter_map(|value| value.to_str().ok()).next_back();
    last.and_then(|text| text.rsplit(',').next()?.trim().parse().ok()).or(peer)
}

/// What a rate limit counts by: an IPv4 address, or the /64 that one IPv6 customer has.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue, Request};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_our_own_pages_count_as_same_site() {
        let config =
            SiteConfig { external_url: "https://x.example".into(), ..SiteConfig::default() };
        let same = |pairs: &[(&'static str, &'static str)]| is_same_site(&headers(pairs), &config);
        assert!(same(&[]));
        assert!(same(&[("sec-fetch-site", "same-origin")]));
        assert!(same(&[("sec-fetch-site", "none")]));
        assert!(!same(&[("sec-fetch-site", "same-site")]));
        assert!(!same(&[("sec-fetch-site", "cross-site"), ("origin", "https://x.example")]));
        assert!(same(&[("origin", "https://x.example"), ("host", "10.0.0.1")]));
        assert!(same(&[("origin", "http://127.0.0.1:7080"), ("host", "127.0.0.1:7080")]));
        assert!(!same(&[("origin", "https://evil.example"), ("host", "x.example")]));
        assert!(!same(&[("origin", "null"), ("host", "x.example")]));
        assert!(!same(&[("origin", "null"), ("host", "")]));
    }

    #[test]
    fn the_proxys_word_counts_only_when_configured() {
        let mut request = Request::new(());
        let peer: SocketAddr = "192.0.2.1:5".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        *request.headers_mut() = headers(&[("x-forwarded-for", "1.1.1.1, 203.0.113.9")]);
        let parts = request.into_parts().0;
        let trusting = SiteConfig { trust_forwarded_for: true, ..SiteConfig::default() };
        assert_eq!(address(&parts, &SiteConfig::default()), Some(peer.ip()));
        assert_eq!(address(&parts, &trusting), Some("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn one_customer_is_one_network() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
