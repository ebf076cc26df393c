//! Proxies, from values that were read elsewhere.

use std::fmt;

/// The values of the usual variables. Printed without user names and passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` requests (`http_proxy`).
    pub http: Option<String>,
    /// For `https://` requests (`HTTPS_PROXY`, `https_proxy`).
    pub https: Option<String>,
    /// For both, where nothing else is said (`ALL_PROXY`, `all_proxy`).
    pub all: Option<String>,
    /// Hosts that are reached directly (`NO_PROXY`, `no_proxy`): names with everything below them, addresses, networks
    /// as `10.0.0.0/8`, or `*`.
    pub no_proxy: Option<String>,
}

/// This machine is always reached directly, as in Go's `net/http`.
const ALWAYS_DIRECT: &str = "localhost,127.0.0.0/8,::1";

impl Proxies {
    /// As reqwest takes them, for clients that are not built here (git's).
    pub fn to_reqwest(&self) -> Result<Vec<reqwest::Proxy>, reqwest::Error> {
        let direct = match self.no_proxy.as_deref().map(str::trim).filter(|list| !list.is_empty()) {
            Some("*") => return Ok(Vec::new()),
            Some(list) => format!("{ALWAYS_DIRECT},{list}"),
            None => ALWAYS_DIRECT.to_owned(),
        };
        let mut proxies = Vec::new();
        if let Some(value) = given(self.http.as_ref()) {
            proxies.push(reqwest::Proxy::http(value)?);
        }
        if let Some(value) = given(self.https.as_ref()) {
            proxies.push(reqwest::Proxy::https(value)?);
        }
        if let Some(value) = given(self.all.as_ref()) {
            proxies.push(reqwest::Proxy::all(value)?);
        }
        let direct = reqwest::NoProxy::from_string(&direct);
        let proxies = proxies.into_iter().map(|proxy| proxy.no_proxy(direct.clone())).collect();
        Ok(proxies)
    }
}

fn given(value: Option<&String>) -> Option<&str> {
    value.map(|value| value.trim()).filter(|value| !value.is_empty())
}

impl fmt::Debug for Proxies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let without_login = |value: &Option<String>| {
            value.as_deref().map(|value| match value.rsplit_once('@') {
                Some((_, host)) => format!("…@{host}"),
                None => value.to_owned(),
            })
        };
        formatter
            .debug_struct("Proxies")
            .field("http", &without_login(&self.http))
            .field("https", &without_login(&self.https))
            .field("all", &without_login(&self.all))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_password_is_never_printed() {
        let proxies = Proxies { https: Some("http://me:hunter2@proxy:3128".to_owned()), ..Proxies::default() };
        let text = format!("{proxies:?}");
        assert!(text.contains("proxy:3128") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn empty_values_and_a_star_mean_no_proxy() {
        let proxies = Proxies { http: Some("  ".to_owned()), ..Proxies::default() };
        assert!(proxies.to_reqwest().unwrap().is_empty());
        let proxies =
            Proxies { http: Some("http://proxy".to_owned()), no_proxy: Some("*".to_owned()), ..Proxies::default() };
        assert!(proxies.to_reqwest().unwrap().is_empty());
        let proxies = Proxies { all: Some("proxy:3128".to_owned()), ..Proxies::default() };
        assert_eq!(proxies.to_reqwest().unwrap().len(), 1);
    }
}
