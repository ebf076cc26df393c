//! `/etc/resolv.conf`, from its text.

use std::net::IpAddr;
use std::time::Duration;

/// Which servers to ask, and how (resolv.conf(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    pub(super) port: u16,
    pub(super) search: Vec<String>,
    pub(super) ndots: usize,
    pub(super) timeout: Duration,
    pub(super) attempts: usize,
    pub(super) rotate: bool,
    pub(super) use_tcp: bool,
}

impl ResolvConf {
    /// What makes no sense is passed over, as the C library does. The limits are the C library's.
    pub(super) fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            port: 53,
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            use_tcp: false,
        };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    // A link-local address may carry its interface, which only matters for link-local servers.
                    let address = words.next().unwrap_or_default().split('%').next().unwrap_or_default();
                    conf.servers.extend(address.parse::<IpAddr>().ok());
                }
                // The last of `domain` and `search` wins.
                Some("domain") => conf.search = words.next().map(str::to_owned).into_iter().collect(),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        conf.search.retain(|domain| domain != ".");
        conf.servers.truncate(3);
        conf
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<u32>().ok();
        match (name, number) {
            ("ndots", Some(number)) => self.ndots = number.min(15) as usize,
            ("timeout", Some(number)) => self.timeout = Duration::from_secs(u64::from(number.clamp(1, 30))),
            ("attempts", Some(number)) => self.attempts = number.clamp(1, 5) as usize,
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.use_tcp = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_writes_is_understood() {
        let conf = ResolvConf::parse(
            "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\noptions ndots:5 timeout:2 attempts:9\n",
        );
        assert_eq!(conf.servers, ["10.96.0.10".parse::<IpAddr>().unwrap(), "fe80::1".parse().unwrap()]);
        assert_eq!(conf.search, ["ns.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (5, Duration::from_secs(2), 5));
    }

    #[test]
    fn an_empty_file_names_no_server() {
        let conf = ResolvConf::parse("# nothing\n; here\nnameserver\nnameserver not-an-address\n");
        assert!(conf.servers.is_empty() && conf.search.is_empty());
    }

    #[test]
    fn the_last_of_domain_and_search_wins() {
        assert_eq!(ResolvConf::parse("search a b\ndomain c").search, ["c"]);
        assert_eq!(ResolvConf::parse("domain c\nsearch a b .").search, ["a", "b"]);
    }
}
