//! `/etc/hosts`, from its text.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names and their addresses (hosts(5)), lower case.
#[derive(Debug, Default)]
pub(super) struct Hosts(HashMap<String, Vec<IpAddr>>);

impl Hosts {
    /// Lines that make no sense are passed over, as the C library does.
    pub(super) fn parse(text: &str) -> Hosts {
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                let addresses = hosts.entry(normal(name)).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Hosts(hosts)
    }

    /// The addresses of a name. `localhost` and everything below it is this machine even where the file does not say so
    /// (RFC 6761, section 6.3).
    pub(super) fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let name = normal(name);
        if let Some(addresses) = self.0.get(&name) {
            return Some(addresses.clone());
        }
        (name == "localhost" || name.ends_with(".localhost"))
            .then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
    }
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_aliases_and_comments_are_understood() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n# note\n10.0.0.1\tRegistry.Example.com registry # alias\n::1 localhost\nnonsense x\n\n10.0.0.2 registry\n",
        );
        assert_eq!(hosts.lookup("registry.example.com.").unwrap(), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts.lookup("REGISTRY").unwrap().len(), 2);
        assert_eq!(hosts.lookup("localhost").unwrap().len(), 2);
        assert_eq!(hosts.lookup("x"), None);
    }

    #[test]
    fn localhost_is_this_machine_without_any_file() {
        let hosts = Hosts::parse("");
        assert_eq!(hosts.lookup("localhost").unwrap()[0], IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(hosts.lookup("app.localhost").is_some());
        assert_eq!(hosts.lookup("notlocalhost"), None);
    }
}
