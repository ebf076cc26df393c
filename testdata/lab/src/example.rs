//! The example that users of Kaniko on GitLab start from, with everything around it: a private git server, a private
//! registry, a mirror for the base images, and the secret with the registry's password. Shared by the demo and the tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::base::{self, Base};
use crate::registry::Options;
use crate::{Authority, Container, Executor, GitServer, Output, Registry, Scratch, places};

/// What is in the repository `test/test-application.git`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// The maven project of the example, and the Java images as bases.
    Maven,
    /// A Dockerfile on busybox, where the build itself is not what is tested.
    Small,
}

/// The example, set up.
#[derive(Debug)]
pub struct Example {
    /// Serves the base images over TLS to everyone.
    pub mirror: Registry,
    /// Takes the result, over TLS, from [`USER`] with [`PASSWORD`].
    pub registry: Registry,
    /// Has the application, for who knows [`TOKEN`].
    pub git: GitServer,
    /// zuwai in its container.
    pub executor: Executor,
    scratch: Scratch,
    git_authority: Authority,
    registry_authority: Authority,
}

/// The token for the git server.
pub const TOKEN: &str = "glpat-5e-TOKEN-9a";
/// The account at the registry.
pub const USER: &str = "robot";
/// Its password.
pub const PASSWORD: &str = "correct-horse-PASSWORD";
/// What the application says.
pub const GREETING: &str = "Good day from an image that zuwai built.\n";
/// The repository in the git server.
const REPOSITORY: &str = "test/test-application.git";
/// Where the registry's authority is mounted.
const CERTIFICATES: &str = "/certificates";

const SMALL: &str = "FROM busybox\nCOPY greeting /greeting\nRUN chmod 0600 /greeting\nCMD [\"cat\", \"/greeting\"]\n";

impl Example {
    /// Sets it up for a binary. The git server's certificate and the registries' are of two authorities, so that each is
    /// trusted for its own reason.
    pub fn new(binary: &Path, application: Application) -> Result<Self> {
        let scratch = Scratch::new()?;
        let git_authority = Authority::new(&scratch.path().join("git-authority"))?;
        let registry_authority = Authority::new(&scratch.path().join("registry-authority"))?;
        let (bases, files): (&[Base], PathBuf) = match application {
            Application::Maven => (&[Base::Maven, Base::OpenJdk], places::testdata().join("maven")),
            Application::Small => {
                let folder = scratch.folder("small")?;
                fs::write(folder.join("Dockerfile"), SMALL).context("write the small application")?;
                fs::write(folder.join("greeting"), GREETING).context("write the small application")?;
                (&[Base::Busybox], folder)
            }
        };
        let tls = Options { authority: Some(&registry_authority), ..Options::default() };
        let mirror = base::mirror(bases, &tls)?;
        let registry = Registry::start(&Options { login: Some((USER, PASSWORD)), ..tls })?;
        let git = GitServer::start(&git_authority, TOKEN)?;
        git.add(REPOSITORY, &files)?;
        let executor = Executor::new(binary)?;
        Ok(Self { mirror, registry, git, executor, scratch, git_authority, registry_authority })
    }

    /// The name of the result in the registry.
    pub fn destination(&self) -> String {
        format!("{}/test-application:1.0", self.registry.host())
    }

    /// The arguments of the example.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            "--dockerfile=Dockerfile".to_owned(),
            format!("--context={}", self.git.context(REPOSITORY)),
            "--git=branch=production".to_owned(),
            format!("--destination={}", self.destination()),
        ]
    }

    /// The arguments that the base images need here.
    pub fn mirror_arguments(&self) -> Vec<String> {
        vec![
            format!("--registry-mirror={}", self.mirror.host()),
            format!("--registry-certificate={}={CERTIFICATES}/ca.pem", self.mirror.host()),
        ]
    }

    /// The argument by which the private registry's certificate is trusted.
    pub fn certificate_argument(&self) -> String {
        format!("--registry-certificate={}={CERTIFICATES}/ca.pem", self.registry.host())
    }

    /// All of them.
    pub fn all_arguments(&self) -> Vec<String> {
        [self.arguments(), self.mirror_arguments(), vec![self.certificate_argument()]].concat()
    }

    /// The container as a Pod would describe it, with the secret mounted where Kaniko's users mount it.
    pub fn container(&self) -> Result<Container<'_>> {
        let secret = self.secret("secret", &self.registry.docker_config(USER, PASSWORD))?;
        Ok(self.container_without_secret()?.mount(&secret, "/kaniko/.docker"))
    }

    /// The container without the registry's password.
    pub fn container_without_secret(&self) -> Result<Container<'_>> {
        let bundle = self.scratch.folder("bundle")?;
        copy(&self.git_authority.certificate(), &bundle.join("additional-ca-cert-bundle.crt"))?;
        let certificates = self.scratch.folder("certificates")?;
        copy(&self.registry_authority.certificate(), &certificates.join("ca.pem"))?;
        let container = self.executor.container().env("NO_COLOR", "1");
        Ok(container.mount(&bundle, "/kaniko/ssl/certs").mount(&certificates, CERTIFICATES))
    }

    /// A folder as Kubernetes mounts a secret with the key `config.json`: a link to a link to the file.
    pub fn secret(&self, name: &str, config: &str) -> Result<PathBuf> {
        let folder = self.scratch.path().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let data = folder.join("..2020_01_01");
        fs::create_dir_all(&data).with_context(|| format!("make {}", data.display()))?;
        fs::write(data.join("config.json"), config).context("write config.json")?;
        symlink("..2020_01_01", folder.join("..data")).context("link the secret")?;
        symlink("..data/config.json", folder.join("config.json")).context("link the secret")?;
        Ok(folder)
    }

    /// Pulls an image from the private registry with podman and runs it: what another tool makes of the result.
    pub fn run_result(&self, name: &str) -> Result<Output> {
        let engine = self.executor.engine();
        let image = engine.pull_from(&self.registry, name, Some((USER, PASSWORD)))?;
        engine.container(&image).run::<&str>([])
    }

    /// Where files for containers can be put.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display())).map(drop)
}
