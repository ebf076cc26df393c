//! A private registry: Debian's docker-registry on a loopback port, over TLS with a certificate of the lab's own
//! authority or in the clear, with or without basic auth.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Scratch;
use crate::authority::{Authority, Certificate};
use crate::command::must;
use crate::layout::Layout;
use crate::server::{Server, on_free_port};
use crate::storage::Storage;

/// How a registry is to be. The default is empty, in the clear, open to everyone.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Storage that is there and only read; `None` is a new one that can be written to.
    pub storage: Option<&'a Path>,
    /// Speak TLS with a certificate of this authority.
    pub authority: Option<&'a Authority>,
    /// Ask everyone for this user name and password.
    pub login: Option<(&'a str, &'a str)>,
}

/// A running registry; it ends with this value.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    port: u16,
    scratch: Scratch,
    storage: Storage,
    certificate: Option<PathBuf>,
    login: Option<(String, String)>,
}

impl Registry {
    /// Starts one.
    pub fn start(options: &Options<'_>) -> Result<Self> {
        let scratch = Scratch::new()?;
        let storage = match options.storage {
            Some(folder) => Storage::at(folder),
            None => Storage::at(&scratch.folder("storage")?),
        };
        let name = scratch.path().file_name().and_then(|name| name.to_str()).unwrap_or("registry");
        let issued = options.authority.map(|authority| authority.issue(name)).transpose()?;
        let accounts = options.login.map(|(user, password)| accounts(scratch.path(), user, password)).transpose()?;
        let log = scratch.path().join("log");
        let (server, port) = on_free_port(|port| {
            let text = config(port, options, &storage, issued.as_ref(), accounts.as_deref());
            let path = scratch.path().join("config.yml");
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(&path).env("OTEL_TRACES_EXPORTER", "none");
            let mut server = Server::start(&command, &log)?;
            server.wait_for_port(port)?;
            Ok(server)
        })
        .context("start a registry")?;
        Ok(Self {
            server,
            port,
            scratch,
            storage,
            certificate: options.authority.map(Authority::certificate),
            login: options.login.map(|(user, password)| (user.to_owned(), password.to_owned())),
        })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:<port>`, as it stands in references.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority's certificate, where the registry speaks TLS.
    pub fn ca_path(&self) -> Option<&Path> {
        self.certificate.as_deref()
    }

    /// The folder it keeps images in.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Puts an image of a layout into the storage under `repository:tag`.
    pub fn push_layout(&self, layout: &Layout, descriptor: &Value, repository: &str, tag: &str) -> Result<()> {
        self.storage.put(layout, descriptor, repository, tag)
    }

    /// The manifest that `repository:tag` or `repository@digest` names, read over the network by skopeo; an error where
    /// there is none.
    pub fn manifest(&self, name: &str) -> Result<Value> {
        let mut skopeo = self.skopeo("inspect")?;
        skopeo.arg("--raw").arg(format!("docker://{}/{name}", self.host()));
        serde_json::from_str(&must(&mut skopeo)?).with_context(|| format!("the manifest of {name} is no JSON"))
    }

    /// The config of the image that `repository:tag` names, read in the same way.
    pub fn config(&self, name: &str) -> Result<Value> {
        let mut skopeo = self.skopeo("inspect")?;
        skopeo.args(["--raw", "--config"]).arg(format!("docker://{}/{name}", self.host()));
        serde_json::from_str(&must(&mut skopeo)?).with_context(|| format!("the config of {name} is no JSON"))
    }

    /// Copies an image into a new layout with skopeo, which checks every blob.
    pub fn pull(&self, name: &str, folder: &Path) -> Result<Layout> {
        let mut skopeo = self.skopeo("copy")?;
        skopeo.args(["--all", "--preserve-digests"]);
        skopeo.arg(format!("docker://{}/{name}", self.host())).arg(format!("oci:{}:image", folder.display()));
        must(&mut skopeo).with_context(|| format!("pull {name}"))?;
        Layout::open(folder)
    }

    /// Runs `skopeo` with this registry as its source.
    fn skopeo(&self, verb: &str) -> Result<Command> {
        let mut skopeo = Command::new("skopeo");
        let source = if verb == "copy" { "--src-" } else { "--" };
        skopeo.arg(verb);
        match &self.certificate {
            Some(certificate) => {
                let folder = self.scratch.folder("skopeo-certificates")?;
                let target = folder.join("ca.crt");
                fs::copy(certificate, &target).with_context(|| format!("copy to {}", target.display()))?;
                skopeo.arg(format!("{source}cert-dir={}", folder.display()));
            }
            None => {
                skopeo.arg(format!("{source}tls-verify=false"));
            }
        }
        if let Some((user, password)) = &self.login {
            skopeo.arg(format!("{source}creds={user}:{password}"));
        }
        Ok(skopeo)
    }

    /// One line for each request it has had, as its access log writes them.
    pub fn requests(&self) -> Vec<String> {
        let log = self.server.log();
        log.lines()
            .filter(|line| line.contains("HTTP/1.1\"") || line.contains("HTTP/2.0\""))
            .map(str::to_owned)
            .collect()
    }

    /// The content of a config.json with these credentials for it.
    pub fn docker_config(&self, user: &str, password: &str) -> String {
        docker_config(&[(&self.host(), user, password)])
    }
}

/// A config.json as `docker login` writes it.
pub fn docker_config(accounts: &[(&str, &str, &str)]) -> String {
    let mut auths = serde_json::Map::new();
    for (registry, user, password) in accounts {
        let auth = encoded(&format!("{user}:{password}"));
        auths.insert((*registry).to_owned(), serde_json::json!({ "auth": auth }));
    }
    serde_json::json!({ "auths": auths }).to_string()
}

/// Base64 as RFC 4648 §4 has it.
fn encoded(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) & 63;
            out.push(if place <= chunk.len() { DIGITS[digit as usize].into() } else { '=' });
        }
    }
    out
}

fn accounts(folder: &Path, user: &str, password: &str) -> Result<PathBuf> {
    let path = folder.join("htpasswd");
    let line = must(Command::new("htpasswd").args(["-Bbn", user, password])).context("make an account")?;
    fs::write(&path, line).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn config(
    port: u16,
    options: &Options<'_>,
    storage: &Storage,
    issued: Option<&Certificate>,
    accounts: Option<&Path>,
) -> String {
    let mut text = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n",
        storage.folder().display()
    );
    if options.storage.is_some() {
        text.push_str("  maintenance:\n    uploadpurging:\n      enabled: false\n    readonly:\n      enabled: true\n");
    }
    let _ = write!(text, "http:\n  addr: 127.0.0.1:{port}\n");
    if let Some(issued) = issued {
        let (certificate, key) = (issued.certificate.display(), issued.key.display());
        let _ = write!(text, "  tls:\n    certificate: {certificate}\n    key: {key}\n");
    }
    if let Some(accounts) = accounts {
        let _ = write!(text, "auth:\n  htpasswd:\n    realm: lab\n    path: {}\n", accounts.display());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_the_rfc_shows_it() {
        let shown = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, expected) in shown.into_iter().enumerate() {
            assert_eq!(encoded(&"foobar"[..length]), expected);
        }
    }
}
