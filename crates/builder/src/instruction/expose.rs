//! EXPOSE: ports that the program listens on.
//!
//! ```text
//! EXPOSE 80 53/udp 8000-8010/tcp
//! ```
//!
//! Host ports and addresses, as in `docker run -p`, are accepted and left out, as Docker does.

use std::net::IpAddr;

use super::error::Fault;
use super::flags::Flags;
use super::{Instruction, InstructionError, Step, go_text};
use crate::settings::Settings;
use crate::syntax::{Line, words};

pub(super) const KEYWORD: &str = "EXPOSE";

#[derive(Debug)]
struct Expose {
    words: Vec<String>,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Flags::none(line, KEYWORD)?;
    let mut words = words::plain(&line.rest);
    if words.is_empty() {
        return Err(Fault::at(line.place_of_rest(), InstructionError::NoArgument { instruction: KEYWORD }));
    }
    // The history lists them in this order: of the words before expansion.
    words.sort();
    Ok(Box::new(Expose { words }))
}

impl Instruction for Expose {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let mut ports = Vec::new();
        for word in &self.words {
            for specification in settings.expand_words(word)? {
                ports.extend(
                    expand(&specification)
                        .map_err(|reason| InstructionError::Port { port: specification.clone(), reason })?,
                );
            }
        }
        settings.config_mut().config.exposed_ports.extend(ports.iter().cloned());
        Ok(Step::metadata(format!("{KEYWORD} {}", go_text::list(&ports))))
    }
}

/// `[[address:]host port:]port[-port][/protocol]` as `port/protocol` for each port.
fn expand(specification: &str) -> Result<Vec<String>, &'static str> {
    let mut parts = specification.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().filter(|host| !host.is_empty());
    let address = parts.next().filter(|address| !address.is_empty());
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" | "tcp" => "tcp",
        "udp" => "udp",
        "sctp" => "sctp",
        _ => return Err("the protocol is tcp, udp or sctp"),
    };
    if let Some(address) = address {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        bare.parse::<IpAddr>().map_err(|_| "what stands before the host port is no IP address")?;
    }
    let (first, last) = range(port)?;
    if let Some(host) = host {
        let (host_first, host_last) = range(host)?;
        if last != first && last - first != host_last - host_first {
            return Err("the range of host ports has another length");
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let number = |text: &str| {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("a port is a number");
        }
        text.parse::<u16>().map_err(|_| "65535 is the highest port")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first { Err("the range ends before it begins") } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use crate::instruction::testing::{Stage, refused};

    #[test]
    fn ports_are_sorted_as_words_and_expanded() {
        let mut stage = Stage::scratch();
        stage.run("ENV p=9000 many='1 2/udp'");
        for (text, created_by) in [
            ("EXPOSE 80", "EXPOSE [80/tcp]"),
            ("EXPOSE 80/TCP 53/udp 9/SctP", "EXPOSE [53/udp 80/tcp 9/sctp]"),
            ("EXPOSE 443 $p 80", "EXPOSE [9000/tcp 443/tcp 80/tcp]"),
            ("EXPOSE $many", "EXPOSE [1/tcp 2/udp]"),
            ("EXPOSE 8000-8002/udp", "EXPOSE [8000/udp 8001/udp 8002/udp]"),
            ("EXPOSE 8080:80", "EXPOSE [80/tcp]"),
            ("EXPOSE 127.0.0.1:8080:80/udp", "EXPOSE [80/udp]"),
            ("EXPOSE [::1]:8080:80", "EXPOSE [80/tcp]"),
            ("EXPOSE 8000-8001:80-81", "EXPOSE [80/tcp 81/tcp]"),
            ("EXPOSE 8000-8001:80", "EXPOSE [80/tcp]"),
            ("EXPOSE 65535", "EXPOSE [65535/tcp]"),
            ("EXPOSE 80 80", "EXPOSE [80/tcp 80/tcp]"),
            ("EXPOSE $none", "EXPOSE []"),
        ] {
            assert_eq!(stage.run(text).created_by.as_deref(), Some(created_by), "{text}");
        }
        assert!(stage.settings.config().config.exposed_ports.contains("8001/udp"));
        assert!(!stage.settings.config().config.exposed_ports.contains("8080/tcp"));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let mut stage = Stage::scratch();
        for (port, reason) in [
            ("http", "a port is a number"),
            ("+80", "a port is a number"),
            ("/tcp", "a port is a number"),
            ("65536", "65535 is the highest port"),
            ("80/icmp", "the protocol is tcp, udp or sctp"),
            ("90-80", "the range ends before it begins"),
            ("80-", "a port is a number"),
            ("1-2-3", "a port is a number"),
            ("x:80", "a port is a number"),
            ("host:1:80", "what stands before the host port is no IP address"),
            ("1-3:80-81", "the range of host ports has another length"),
        ] {
            assert_eq!(stage.fails(&format!("EXPOSE {port}")), format!("`{port}` is not a port: {reason}"));
        }
        assert_eq!(refused("EXPOSE"), "EXPOSE needs an argument");
    }
}
