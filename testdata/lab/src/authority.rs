//! A certificate authority of the lab's own, as a company's private registry has one: nothing trusts it that was not told
//! to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::must;

/// An authority whose key and certificates lie in one folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// A server's certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

const KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const DAYS: &str = "3650";

impl Authority {
    /// Makes one in a folder.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let mut request = Command::new("openssl");
        request.args(["req", "-x509", "-nodes", "-days", DAYS, "-subj", "/CN=zuwai lab authority"]).args(KEY);
        request.args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"]);
        request.arg("-keyout").arg(folder.join("ca.key")).arg("-out").arg(folder.join("ca.pem"));
        must(&mut request).context("make a certificate authority")?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Its own certificate, PEM: what a client has to be given.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for `localhost` and `127.0.0.1`.
    pub fn issue(&self, name: &str) -> Result<Certificate> {
        let file = |extension: &str| self.folder.join(format!("{name}.{extension}"));
        let issued = Certificate { certificate: file("pem"), key: file("key") };
        let mut request = Command::new("openssl");
        request.args(["req", "-nodes", "-subj", "/CN=localhost"]).args(KEY);
        request.arg("-keyout").arg(&issued.key).arg("-out").arg(file("csr"));
        must(&mut request).with_context(|| format!("ask for the certificate {name}"))?;
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n\
                          basicConstraints=critical,CA:FALSE\n";
        fs::write(file("ext"), extensions).with_context(|| format!("write {}", file("ext").display()))?;
        let mut sign = Command::new("openssl");
        sign.args(["x509", "-req", "-CAcreateserial", "-days", DAYS]).arg("-in").arg(file("csr"));
        sign.arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.folder.join("ca.key"));
        sign.arg("-extfile").arg(file("ext")).arg("-out").arg(&issued.certificate);
        must(&mut sign).with_context(|| format!("sign the certificate {name}"))?;
        Ok(issued)
    }
}
