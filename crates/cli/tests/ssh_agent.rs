//! `RUN --mount=type=ssh` with a real agent: what `ssh-agent` holds is what `ssh-add` sees inside, in a container and in
//! namespaces, and nothing of it is in a layer.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use zuwai_lab::base::{Base, mirror};
use zuwai_lab::command::{must, run};
use zuwai_lab::registry::Options;
use zuwai_lab::server::Server;
use zuwai_lab::{Executor, Output, Person, Registry, Scratch, Who};

const BINARY: &str = env!("CARGO_BIN_EXE_zuwai");
const DOCKERFILE: &str = "FROM busybox
COPY tree /
RUN --mount=type=ssh,required /usr/bin/ssh-add -L
RUN --mount=type=ssh,id=other,target=/agent,mode=0666,uid=1000 /usr/bin/ssh-add -L && ls -ln /agent
USER app
RUN --mount=type=ssh,uid=1000,gid=1000 /usr/bin/ssh-add -L && echo $SSH_AUTH_SOCK
RUN test -z \"$SSH_AUTH_SOCK\" && ! ls /run/buildkit /agent 2>/dev/null
";

/// An agent with one key.
struct Agent {
    _server: Server,
    folder: PathBuf,
    key: String,
}

impl Agent {
    /// Started so: an agent answers nobody but root and whoever it belongs to.
    fn start(folder: PathBuf, mut agent: Command) -> Self {
        let (socket, key) = (folder.join("socket"), folder.join("key"));
        agent.args(["-D", "-a"]).arg(&socket);
        let mut server = Server::start(&agent, &folder.join("log")).unwrap();
        server.wait_for_file(&socket).unwrap();
        must(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]).arg(&key)).unwrap();
        must(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket)).unwrap();
        fs::remove_file(&key).unwrap();
        let key = fs::read_to_string(key.with_extension("pub")).unwrap();
        Agent { _server: server, folder, key }
    }
}

/// A context with the Dockerfile, and `ssh-add` with the libraries it needs.
fn context(scratch: &Scratch) -> PathBuf {
    let context = scratch.folder("context").unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let tree = scratch.folder("context/tree").unwrap();
    let libraries = must(Command::new("ldd").arg("/usr/bin/ssh-add")).unwrap();
    let files = libraries.split_whitespace().filter(|word| word.starts_with('/')).chain(["/usr/bin/ssh-add"]);
    must(Command::new("cp").args(["--dereference", "--parents"]).args(files).arg(&tree)).unwrap();
    context
}

fn flags(registry: &Registry, socket: &Path) -> Vec<String> {
    let (mirror, socket) = (registry.host(), socket.display());
    vec![
        format!("--ssh=default={socket}"),
        format!("--ssh=other={socket}"),
        format!("--registry-mirror={mirror}"),
        format!("--insecure-registry={mirror}"),
        "--skip-default-registry-fallback".to_owned(),
    ]
}

fn check(output: Output, agent: &Agent) {
    let output = output.success().unwrap();
    let said = output.out();
    assert_eq!(said.matches(agent.key.trim()).count(), 3, "{output}");
    assert!(said.contains("srw-rw-rw-    1 1000     0 "), "{output}");
    assert!(said.contains("/run/buildkit/ssh_agent.0\n"), "{output}");
}

#[test]
fn commands_speak_to_the_agent_in_a_container() {
    let (scratch, registry) = (Scratch::new().unwrap(), mirror(&[Base::Busybox], &Options::default()).unwrap());
    let agent = Agent::start(scratch.folder("agent").unwrap(), Command::new("ssh-agent"));
    let executor = Executor::new(Path::new(BINARY)).unwrap();
    let container = executor.container().mount(&context(&scratch), "/workspace").mount(&agent.folder, "/lab/agent");
    let mut words = flags(&registry, Path::new("/lab/agent/socket"));
    words.extend(["--context=dir:///workspace".to_owned(), "--no-push".to_owned()]);
    check(container.env("NO_COLOR", "1").time_limit(Duration::from_mins(2)).run(words).unwrap(), &agent);
}

#[test]
fn commands_speak_to_the_agent_in_namespaces() {
    let (scratch, registry) = (Scratch::new().unwrap(), mirror(&[Base::Busybox], &Options::default()).unwrap());
    let context = context(&scratch);
    for who in [Who::Root, Who::User] {
        let person = Person::new(Path::new(BINARY), who).unwrap();
        person.own(&context).unwrap();
        let folder = person.folder("agent").unwrap();
        let agent = Agent::start(folder.clone(), person.start(Path::new("/usr/bin/ssh-agent"), &folder));
        let mut zuwai = person.zuwai(&context);
        zuwai.args(["build", "--isolation=namespace", "--no-push", "."]);
        zuwai.args(flags(&registry, &agent.folder.join("socket")));
        check(run(&mut zuwai, Duration::from_mins(2)).unwrap(), &agent);
    }
}
