//! Names to addresses by our own resolver.
//!
//! Not the C library's: a static program that asks it loads NSS modules from `/`, which may be the image's. Not the HTTP
//! library's own: it reads `/etc/resolv.conf` when it is first used, and asks public servers where it finds none.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DomainName;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::hosts::Hosts;
use super::resolv_conf::ResolvConf;

/// Hosts file first, then the servers of resolv.conf. May be shared by several runtimes: nothing of it lives in one.
#[derive(Clone)]
pub(super) struct Resolver(Arc<Inner>);

struct Inner {
    hosts: Hosts,
    conf: ResolvConf,
    known: Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>,
}

/// A name that could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve the name `{name}`: {reason}")]
pub(crate) struct Resolution {
    name: String,
    reason: String,
    /// Whether it may well work in a moment: there is an answer, and it is that the name does not exist, or there is not.
    pub(crate) passing: bool,
}

impl Resolver {
    pub(super) fn new(resolv_conf: &str, hosts: &str) -> Resolver {
        let inner = Inner {
            hosts: Hosts::parse(hosts),
            conf: ResolvConf::parse(resolv_conf),
            known: Mutex::new(HashMap::new()),
        };
        Resolver(Arc::new(inner))
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Resolution> {
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.0.hosts.lookup(name) {
            return Ok(addresses);
        }
        let error = |reason: String, passing| Resolution { name: name.to_owned(), reason, passing };
        if self.0.conf.servers.is_empty() {
            return Err(error("it is not in the hosts file, and resolv.conf names no server to ask".to_owned(), false));
        }
        if let Some(addresses) = self.known(name) {
            return Ok(addresses);
        }
        let resolver = self.0.conf.to_hickory().map_err(|reason| error(reason.to_string(), false))?;
        let answer = resolver.lookup_ip(name).await.map_err(|reason| {
            let unknown = reason.is_no_records_found() || reason.is_nx_domain();
            let words = if unknown { "no such host".to_owned() } else { reason.to_string() };
            error(words, !unknown)
        })?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(error("it has no address".to_owned(), false));
        }
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (answer.valid_until(), addresses.clone()));
        Ok(addresses)
    }

    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (valid_until, _)| *valid_until > Instant::now());
        known.get(name).map(|(_, addresses)| addresses.clone())
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await.map_err(io::Error::other)?;
            // Port 0 stands for the one in the request.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

impl ResolvConf {
    /// One resolver for one question: its connections belong to the runtime that asks, and requests share connections
    /// anyway, so there are few questions.
    fn to_hickory(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let servers = self.servers.iter().map(|server| self.server(*server)).collect();
        let search = self.search.iter().filter_map(|domain| DomainName::from_ascii(domain).ok()).collect();
        let config = ResolverConfig::from_parts(None, search, servers);
        let mut options = ResolverOpts::default();
        options.ndots = self.ndots;
        options.timeout = self.timeout;
        options.attempts = self.attempts;
        options.use_hosts_file = ResolveHosts::Never;
        options.try_tcp_on_error = true;
        options.server_ordering_strategy =
            if self.rotate { ServerOrderingStrategy::RoundRobin } else { ServerOrderingStrategy::UserProvidedOrder };
        options.num_concurrent_reqs = 1;
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
    }

    fn server(&self, address: IpAddr) -> NameServerConfig {
        let mut server = NameServerConfig::udp_and_tcp(address);
        for connection in &mut server.connections {
            connection.port = self.port;
        }
        if self.use_tcp {
            server.connections.retain(|connection| matches!(connection.protocol, ProtocolConfig::Tcp));
        }
        // A server that does not know a name of the inside must not keep the next from being asked.
        server.trust_negative_responses = self.servers.len() == 1;
        server
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::time::Duration;

    async fn resolve(resolver: &Resolver, name: &str) -> Result<Vec<SocketAddr>, String> {
        let addresses = resolver.resolve(name.parse().unwrap()).await;
        addresses.map(Iterator::collect).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn names_of_the_hosts_file_and_localhost_need_no_server() {
        let resolver = Resolver::new("", "10.1.2.3 registry.test");
        assert_eq!(resolve(&resolver, "registry.test").await.unwrap(), ["10.1.2.3:0".parse::<SocketAddr>().unwrap()]);
        assert_eq!(resolve(&resolver, "LOCALHOST").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn without_a_server_other_names_are_refused_and_nobody_is_asked() {
        let error = resolve(&Resolver::new("", ""), "registry.example.com").await.unwrap_err();
        assert!(error.contains("registry.example.com") && error.contains("names no server"), "{error}");
    }

    /// A name server that knows one name, and writes down what it was asked. A fake, because no real one is at hand on
    /// a port of its own choosing.
    fn name_server(known: &'static str) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (send, asked) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let query = &packet[..length];
                let (mut at, mut labels) = (12, Vec::new());
                while query[at] != 0 {
                    let end = at + 1 + usize::from(query[at]);
                    labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
                    at = end;
                }
                let name = labels.join(".").to_ascii_lowercase();
                let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
                let found = name == known && kind == 1;
                let mut answer = query[..2].to_vec();
                let code = if name == known { 0x80 } else { 0x83 };
                answer.extend([0x81, code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
                answer.extend(&query[12..at + 5]);
                if found {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 9, 8, 7]);
                }
                if send.send(name).is_err() || socket.send_to(&answer, from).is_err() {
                    return;
                }
            }
        });
        (address, asked)
    }

    fn resolver_asking(server: SocketAddr, search: &[&str], ndots: usize) -> Resolver {
        let mut resolver = Inner {
            hosts: Hosts::default(),
            conf: ResolvConf::parse(&format!(
                "nameserver 127.0.0.1\nsearch {}\noptions ndots:{ndots}",
                search.join(" ")
            )),
            known: Mutex::default(),
        };
        resolver.conf.port = server.port();
        resolver.conf.timeout = Duration::from_secs(5);
        Resolver(Arc::new(resolver))
    }

    #[tokio::test]
    async fn the_server_of_resolv_conf_is_asked_with_the_search_domains_in_order() {
        let (server, asked) = name_server("registry.svc.test");
        let resolver = resolver_asking(server, &["ns.svc.test", "svc.test"], 5);
        let addresses = resolve(&resolver, "registry").await.unwrap();
        assert_eq!(addresses, ["10.9.8.7:0".parse::<SocketAddr>().unwrap()]);
        let asked: Vec<String> = asked.try_iter().collect();
        assert_eq!(asked[0], "registry.ns.svc.test");
        assert!(asked.contains(&"registry.svc.test".to_owned()), "{asked:?}");
    }

    #[tokio::test]
    async fn a_name_with_enough_dots_is_asked_as_it_is_first_and_remembered() {
        let (server, asked) = name_server("registry.example.com");
        let resolver = resolver_asking(server, &["svc.test"], 1);
        assert!(resolve(&resolver, "registry.example.com").await.is_ok());
        let first: Vec<String> = asked.try_iter().collect();
        assert!(first.iter().all(|name| name == "registry.example.com"), "{first:?}");
        assert!(resolve(&resolver, "registry.example.com").await.is_ok());
        assert_eq!(asked.try_iter().count(), 0);
    }

    #[tokio::test]
    async fn a_name_nobody_knows_is_an_error_naming_it() {
        let (server, _asked) = name_server("registry.example.com");
        let error = resolve(&resolver_asking(server, &[], 1), "missing.example.com").await.unwrap_err();
        assert!(error.contains("missing.example.com"), "{error}");
    }
}
