//! A container as a Pod gives it, by podman and runc: a root file system of its own, the default capabilities, a system
//! call filter that knows no namespaces and no mounts, the host's network and nothing else of the host.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{self, must, require};
use crate::{Output, Scratch, seccomp};

/// podman with storage, state and configuration of its own, all in a scratch folder: the machine's containers and
/// settings are neither seen nor touched.
#[derive(Debug)]
pub struct Engine {
    scratch: Scratch,
    containers: AtomicUsize,
}

impl Engine {
    /// Makes one that also finds the images in these folders (each the graph root of another engine), without copying them.
    pub fn new(image_stores: &[&Path]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let graph = scratch.folder("graph")?;
        let engine = Self { scratch, containers: AtomicUsize::new(0) };
        engine.configure(&graph, image_stores)?;
        Ok(engine)
    }

    /// Makes one all of whose containers together may write so many bytes into their root file systems: a full disk.
    pub fn in_little_space(bytes: u64, image_stores: &[&Path]) -> Result<Self> {
        let engine = Self::new(image_stores)?;
        let graph = engine.scratch.path().join("graph");
        let size = std::ffi::CString::new(format!("size={bytes},mode=0700")).context("a number")?;
        // Gone with the scratch folder, which detaches what is mounted in it.
        rustix::mount::mount("tmpfs", &graph, "tmpfs", rustix::mount::MountFlags::empty(), Some(size.as_c_str()))
            .with_context(|| format!("mount a small file system on {}", graph.display()))?;
        Ok(engine)
    }

    /// Makes one whose containers have their root file systems on an ext4 of so many bytes, as a node's are, rather than on
    /// a tmpfs.
    pub fn on_a_disk(bytes: u64, image_stores: &[&Path]) -> Result<Self> {
        let scratch = Scratch::new()?;
        let graph = scratch.disk("graph", bytes)?;
        let engine = Self { scratch, containers: AtomicUsize::new(0) };
        engine.configure(&graph, image_stores)?;
        Ok(engine)
    }

    /// Makes one whose images lie in `graph` and stay there when it is dropped.
    pub fn keeping_images_in(graph: &Path) -> Result<Self> {
        let engine = Self { scratch: Scratch::new()?, containers: AtomicUsize::new(0) };
        engine.configure(graph, &[])?;
        Ok(engine)
    }

    fn configure(&self, graph: &Path, image_stores: &[&Path]) -> Result<()> {
        for program in ["podman", "runc", "conmon"] {
            require(program)?;
        }
        let folder = self.scratch.path().display();
        // The limits: podman's own are above the hard limit where CAP_SYS_RESOURCE is missing. The manager: nothing
        // of systemd is needed. The runtime: crun refuses hybrid cgroups.
        let settings = format!(
            "[containers]\ndefault_ulimits = [\"nofile=16384:16384\", \"nproc=8192:8192\"]\nlog_driver = \"none\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\nruntime = \"runc\"\n\
             tmp_dir = \"{folder}/state\"\n[network]\nnetwork_config_dir = \"{folder}/networks\"\n"
        );
        let stores: Vec<_> = image_stores.iter().map(|store| format!("\"{}\"", store.display())).collect();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"{folder}/run\"\ngraphroot = \"{}\"\n\
             [storage.options]\nadditionalimagestores = [{}]\n",
            graph.display(),
            stores.join(", ")
        );
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        let files = [
            ("containers.conf", settings),
            ("storage.conf", storage),
            ("policy.json", policy.to_owned()),
            ("seccomp.json", seccomp::strict().to_string()),
        ];
        for (name, text) in files {
            let path = self.scratch.path().join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// A podman command that works in this engine.
    pub fn podman(&self) -> Command {
        let folder = self.scratch.path();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", folder.join("containers.conf"));
        command.env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"));
        command.env("HOME", folder).env_remove("XDG_RUNTIME_DIR").env_remove("DOCKER_CONFIG");
        command
    }

    /// Takes an image of a layout, or anything else that `podman pull` can name, into this engine; its id.
    pub fn pull(&self, source: &str) -> Result<String> {
        let mut command = self.podman();
        command.args(["pull", "--quiet", "--signature-policy"]).arg(self.scratch.path().join("policy.json"));
        Ok(must(command.arg(source)).with_context(|| format!("pull {source}"))?.trim().to_owned())
    }

    /// Takes an image out of a registry into this engine, with credentials and the authority's certificate; its id.
    pub fn pull_from(&self, registry: &crate::Registry, name: &str, login: Option<(&str, &str)>) -> Result<String> {
        let mut command = self.podman();
        command.args(["pull", "--quiet", "--signature-policy"]).arg(self.scratch.path().join("policy.json"));
        if let Some((user, password)) = login {
            command.arg(format!("--creds={user}:{password}"));
        }
        match registry.ca_path() {
            Some(certificate) => {
                let folder = self.scratch.folder("certificates")?;
                fs::copy(certificate, folder.join("ca.crt")).context("copy the authority's certificate")?;
                command.arg("--cert-dir").arg(folder);
            }
            None => {
                command.arg("--tls-verify=false");
            }
        }
        let source = format!("docker://{}/{name}", registry.host());
        Ok(must(command.arg(&source)).with_context(|| format!("pull {source}"))?.trim().to_owned())
    }

    /// A container of an image that this engine has; it exists while it runs.
    pub fn container(&self, image: &str) -> Container<'_> {
        Container {
            engine: self,
            image: image.to_owned(),
            options: Vec::new(),
            capabilities: Capabilities::default(),
            strict: true,
            privileged: false,
            entrypoint: None,
            limit: Duration::from_mins(10),
        }
    }

    /// Its scratch folder, for what containers are to find.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

/// What a container's root may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capabilities {
    /// The fourteen of Docker and containerd.
    #[default]
    Default,
    /// None at all, and no way to get any.
    None,
    /// The nine of CRI-O, which leaves out among others `MKNOD`, `SETFCAP` and `SYS_CHROOT`.
    Fewer,
    /// The fourteen but for one, which somebody took away.
    Without(&'static str),
}

impl Capabilities {
    fn names(self) -> impl Iterator<Item = &'static str> {
        const FEWER: usize = 9;
        const ALL: &[&str] = &[
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "NET_BIND_SERVICE",
            "SETGID",
            "SETPCAP",
            "SETUID",
            "AUDIT_WRITE",
            "MKNOD",
            "NET_RAW",
            "SETFCAP",
            "SYS_CHROOT",
        ];
        let (names, left_out): (&[&'static str], _) = match self {
            Capabilities::Default => (ALL, None),
            Capabilities::None => (&[], None),
            Capabilities::Fewer => (&ALL[..FEWER], None),
            Capabilities::Without(name) => (ALL, Some(name)),
        };
        names.iter().copied().filter(move |name| Some(*name) != left_out)
    }
}

/// A container that is being described, and then run once.
#[derive(Debug)]
pub struct Container<'a> {
    engine: &'a Engine,
    image: String,
    options: Vec<OsString>,
    capabilities: Capabilities,
    strict: bool,
    privileged: bool,
    entrypoint: Option<String>,
    limit: Duration,
}

impl Container<'_> {
    /// Mounts a file or folder of the host, to read only.
    #[must_use]
    pub fn mount(self, host: &Path, inside: &str) -> Self {
        self.bind(host, inside, "ro")
    }

    /// Mounts a file or folder of the host, to write too.
    #[must_use]
    pub fn mount_writable(self, host: &Path, inside: &str) -> Self {
        self.bind(host, inside, "rw")
    }

    fn bind(self, host: &Path, inside: &str, access: &str) -> Self {
        let mut volume = host.as_os_str().to_owned();
        volume.push(format!(":{inside}:{access}"));
        self.option("--volume").option(volume)
    }

    /// Mounts a file system in memory of so many bytes.
    #[must_use]
    pub fn tmpfs(self, inside: &str, bytes: u64) -> Self {
        self.option("--tmpfs").option(format!("{inside}:rw,size={bytes},mode=0755"))
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(self, name: &str, value: &str) -> Self {
        self.option("--env").option(format!("{name}={value}"))
    }

    /// Sets the working directory.
    #[must_use]
    pub fn working_dir(self, inside: &str) -> Self {
        self.option("--workdir").option(inside)
    }

    /// Any other option of `podman run`.
    #[must_use]
    pub fn option(mut self, word: impl AsRef<OsStr>) -> Self {
        self.options.push(word.as_ref().to_owned());
        self
    }

    /// What its root may do.
    #[must_use]
    pub fn capabilities(mut self, capabilities: Capabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Without the strict filter: podman's own stays.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.strict = false;
        self
    }

    /// With every right and device of the machine's root: `--privileged`, as runners for Docker in Docker are configured.
    #[must_use]
    pub fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }

    /// Starts another program than the image says.
    #[must_use]
    pub fn entrypoint(mut self, program: &str) -> Self {
        self.entrypoint = Some(program.to_owned());
        self
    }

    /// How long it may run. Ten minutes where nothing is said.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end and removes it. The exit code is that of the program in it; 125 to 127 are also podman's own, for
    /// a container that did not start.
    pub fn run<S: AsRef<OsStr>>(self, arguments: impl IntoIterator<Item = S>) -> Result<Output> {
        let number = self.engine.containers.fetch_add(1, Ordering::Relaxed);
        let name = format!("zuwai-lab-{}-{number}", std::process::id());
        let mut podman = self.engine.podman();
        podman.args(["run", "--rm", "--network=host", "--name", &name]);
        if self.privileged {
            podman.arg("--privileged");
        } else {
            podman.arg("--cap-drop=all").args(self.capabilities.names().map(|name| format!("--cap-add={name}")));
        }
        if self.strict && !self.privileged {
            let profile = self.engine.scratch.path().join("seccomp.json");
            podman.arg("--security-opt").arg(format!("seccomp={}", profile.display()));
        }
        if let Some(entrypoint) = &self.entrypoint {
            podman.arg(format!("--entrypoint={entrypoint}"));
        }
        // podman ends it a little earlier than this process would, so that nothing stays behind.
        podman.arg(format!("--timeout={}", self.limit.as_secs().max(1)));
        podman.args(&self.options).arg(&self.image).args(arguments);
        let output = command::run(&mut podman, self.limit + Duration::from_secs(20));
        if output.is_err() {
            let _ = must(self.engine.podman().args(["rm", "--force", "--time=0", &name]));
        }
        output
    }
}

/// A folder with the files given, for mounting.
pub fn folder_of(scratch: &Scratch, name: &str, files: &[(&str, &[u8])]) -> Result<PathBuf> {
    let folder = scratch.folder(name)?;
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(folder)
}
