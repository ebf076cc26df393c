//! A real registry: Debian's `docker-registry` on a loopback port of its own, in a folder of its own, gone when dropped.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct DockerRegistry {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    host: &'static str,
}

/// How it is set up.
#[derive(Default)]
pub(crate) struct Setup {
    /// Users with their passwords; everybody may do everything where there are none.
    pub users: Vec<(&'static str, &'static str)>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The authority of certificates clients must show.
    pub client_authority: Option<PathBuf>,
    /// Realm and certificate of a token service.
    pub tokens: Option<(String, PathBuf)>,
    /// How it is called: `localhost` or an address.
    pub host: Option<&'static str>,
}

impl DockerRegistry {
    pub(crate) fn open() -> DockerRegistry {
        DockerRegistry::start(&Setup::default())
    }

    pub(crate) fn start(setup: &Setup) -> DockerRegistry {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = folder.path().join("config.yml");
            fs::write(&config, configuration(setup, folder.path(), port)).unwrap();
            let log = File::create(folder.path().join("log")).unwrap();
            let errors = File::create(folder.path().join("errors")).unwrap();
            let mut process = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdin(Stdio::null())
                .stdout(log)
                .stderr(errors)
                .spawn()
                .expect("docker-registry (Debian package docker-registry) must be installed");
            if listens(&mut process, port) {
                return DockerRegistry { process, folder, port, host: setup.host.unwrap_or("127.0.0.1") };
            }
            // Somebody else took the port in between.
            let _ = process.kill();
            let _ = process.wait();
        }
        let errors = fs::read_to_string(folder.path().join("errors")).unwrap_or_default();
        panic!("docker-registry does not start: {errors}");
    }

    /// `host:port`
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As after a broken disk: every blob and every link to one is gone.
    pub(crate) fn lose_blobs(&self) {
        let root = self.folder.path().join("storage/docker/registry/v2");
        for gone in ["blobs", "repositories"] {
            // Nothing may be there yet.
            let _ = fs::remove_dir_all(root.join(gone));
        }
    }

    /// The requests so far, as `METHOD path status`, without those of the test itself.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        log.lines()
            .filter_map(|line| {
                let (_, request) = line.split_once('"')?;
                let (request, rest) = request.split_once('"')?;
                let mut words = request.split(' ');
                let (method, path) = (words.next()?, words.next()?);
                Some(format!("{method} {path} {}", rest.split_whitespace().next()?))
            })
            .filter(|line| !line.starts_with("- "))
            .collect()
    }

    /// How many of them begin so and contain that.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.requests().iter().filter(|line| line.starts_with(method) && line.contains(path)).count()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listens(process: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn configuration(setup: &Setup, folder: &Path, port: u16) -> String {
    let mut text = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    \
         rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: test\n",
        folder.join("storage").display()
    );
    if let Some((certificate, key)) = &setup.tls {
        text += &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if let Some(authority) = &setup.client_authority {
            text += &format!("    clientcas:\n      - {}\n", authority.display());
        }
    }
    if !setup.users.is_empty() {
        let path = folder.join("htpasswd");
        let mut lines = String::new();
        for (user, password) in &setup.users {
            let output = Command::new("htpasswd")
                .args(["-Bbn", user, password])
                .output()
                .expect("htpasswd (Debian package apache2-utils) must be installed");
            assert!(output.status.success());
            lines += String::from_utf8(output.stdout).unwrap().trim();
            lines += "\n";
        }
        fs::write(&path, lines).unwrap();
        text += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
    }
    if let Some((realm, certificate)) = &setup.tokens {
        text += &format!(
            "auth:\n  token:\n    realm: {realm}\n    service: registry.test\n    issuer: tests\n    rootcertbundle: {}\n",
            certificate.display()
        );
    }
    text
}
