//! A private git server: nginx and `git http-backend` over TLS, which asks for a token.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::authority::Authority;
use crate::command::must;
use crate::server::Server;
use crate::{Scratch, nginx};

/// A running git server; it ends with this value.
#[derive(Debug)]
pub struct GitServer {
    _nginx: Server,
    _gateway: Server,
    port: u16,
    token: String,
    scratch: Scratch,
}

/// The user name that goes with the token, as GitLab's deploy tokens are used: any name would do there, here it is checked.
pub const USER: &str = "auth";

impl GitServer {
    /// Starts one without a repository.
    pub fn start(authority: &Authority, token: &str) -> Result<Self> {
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        scratch.folder("repositories")?;
        scratch.folder("home")?;
        let issued = authority.issue("git")?;
        let account = must(Command::new("htpasswd").args(["-mbn", USER, token])).context("make an account")?;
        fs::write(folder.join("htpasswd"), account).context("write an account")?;

        let socket = folder.join("gateway");
        let mut command = Command::new("fcgiwrap");
        command.arg("-s").arg(format!("unix:{}", socket.display()));
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", folder.join("home"));
        command.env("GIT_CONFIG_NOSYSTEM", "1");
        let mut gateway = Server::start(&command, &folder.join("gateway.log"))?;
        gateway.wait_for_file(&socket)?;

        let backend = must(Command::new("git").arg("--exec-path"))?;
        let backend = Path::new(backend.trim()).join("git-http-backend");
        let (nginx, port) = nginx::start(folder, &issued, &location(folder, &backend)).context("start a git server")?;
        Ok(Self { _nginx: nginx, _gateway: gateway, port, token: token.to_owned(), scratch })
    }

    /// `127.0.0.1:<port>`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A context as zuwai's `--context` takes it, with the token in it.
    pub fn context(&self, repository: &str) -> String {
        self.context_with(&self.token, repository)
    }

    /// A context with another token.
    pub fn context_with(&self, token: &str, repository: &str) -> String {
        format!("git://{USER}:{token}@{}/{repository}", self.host())
    }

    /// Makes the repository `name` (such as `test/test-application.git`): the files on the branch `production` and the tag
    /// `v1.0`; on `main` only a note that this is not the branch to build; `refs/merge-requests/1/head` as
    /// `production`.
    pub fn add(&self, name: &str, files: &Path) -> Result<()> {
        let bare = self.scratch.path().join("repositories").join(name);
        self.git().args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&bare).run()?;
        let work = self.scratch.folder("work")?.join(name);
        self.git().args(["init", "--quiet", "--initial-branch=main"]).arg(&work).run()?;
        fs::write(work.join("README"), "The branch to build is production.\n").context("write README")?;
        let commit = |message: &str| -> Result<()> {
            self.git().arg("-C").arg(&work).args(["add", "--all", "--force"]).run()?;
            self.git().arg("-C").arg(&work).args(["commit", "--quiet", "-m", message]).run()
        };
        commit("Say which branch to build")?;
        self.git().arg("-C").arg(&work).args(["switch", "--quiet", "-c", "production"]).run()?;
        must(Command::new("cp").arg("-a").arg(files.join(".")).arg(&work)).context("copy the files")?;
        commit("The application")?;
        let refs = ["main", "production", "production:refs/tags/v1.0", "production:refs/merge-requests/1/head"];
        self.git().arg("-C").arg(&work).args(["push", "--quiet"]).arg(&bare).args(refs).run()
    }

    /// Where a repository lies on the disk, or would: a bare one that is put there is served.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join("repositories").join(name)
    }

    /// The commit that a branch or tag of a repository points to.
    pub fn commit(&self, name: &str, reference: &str) -> Result<String> {
        let bare = self.scratch.path().join("repositories").join(name);
        let Git(mut command) = self.git().arg("-C").arg(&bare).args(["rev-parse", reference]);
        Ok(must(&mut command)?.trim().to_owned())
    }

    /// `git` that knows no configuration of the machine's, and commits the same bytes every time.
    fn git(&self) -> Git {
        let mut command = Command::new("git");
        command.env("HOME", self.scratch.path().join("home")).env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Lab").env(format!("GIT_{role}_EMAIL"), "lab@example.com");
            command.env(format!("GIT_{role}_DATE"), "2020-01-01T00:00:00Z");
        }
        Git(command)
    }

    /// What nginx and git had to complain about.
    pub fn errors(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.scratch.path().join(name)).unwrap_or_default();
        read("nginx-errors.log") + &read("gateway.log")
    }
}

/// A git command being put together.
struct Git(Command);

impl Git {
    fn arg(mut self, word: impl AsRef<std::ffi::OsStr>) -> Self {
        self.0.arg(word);
        self
    }

    fn args<S: AsRef<std::ffi::OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.0.args(words);
        self
    }

    fn run(mut self) -> Result<()> {
        must(&mut self.0).map(drop)
    }
}

/// What nginx does with a request: asks for the token, and hands it to git.
fn location(folder: &Path, backend: &Path) -> String {
    let folder = folder.display();
    format!(
        "      auth_basic \"git\";
      auth_basic_user_file {folder}/htpasswd;
      fastcgi_param SCRIPT_FILENAME {backend};
      fastcgi_param GIT_PROJECT_ROOT {folder}/repositories;
      fastcgi_param GIT_HTTP_EXPORT_ALL \"\";
      fastcgi_param PATH_INFO $uri;
      fastcgi_param REMOTE_USER $remote_user;
      fastcgi_param REMOTE_ADDR $remote_addr;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
      fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol;
      fastcgi_pass unix:{folder}/gateway;
",
        backend = backend.display(),
    )
}
