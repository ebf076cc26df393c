//! Credential helpers: programs called `docker-credential-<name>` that keep credentials somewhere else (the protocol of
//! docker/docker-credential-helpers).

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Credential;

/// Where helpers are found and how they are run.
#[derive(Debug, Clone)]
pub struct HelperOptions {
    /// Folders that are searched for the programs, in order: the `PATH` of whoever calls. Those that are not absolute are
    /// passed over: what lies there depends on where one stands.
    pub search_path: Vec<PathBuf>,
    /// The whole environment of the programs.
    pub environment: Vec<(OsString, OsString)>,
    /// How long one may take to answer.
    pub timeout: Duration,
    /// Once it is set, a program that has not answered is ended; `None` is never.
    pub cancelled: Option<Arc<AtomicBool>>,
}

impl Default for HelperOptions {
    /// No folder to search, an empty environment, half a minute.
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        HelperOptions { search_path: Vec::new(), environment: Vec::new(), timeout, cancelled: None }
    }
}

/// What came of asking a helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelperOutcome {
    /// It has a credential.
    Found(Credential),
    /// It has none for this server.
    NotFound,
    /// It could not be asked, or did not make sense; why, without anything it printed on standard output.
    Failed(String),
}

/// The longest answer that is read.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// What helpers print in place of a credential when they have none.
const NOT_FOUND: [&str; 2] = ["credentials not found", "no credentials server url"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl HelperOptions {
    /// Runs `docker-credential-<name> get` for this server. Blocks for at most the timeout.
    pub(super) fn ask(&self, name: &str, server: &str) -> HelperOutcome {
        match self.tell(name, "get", server) {
            Ok(stdout) => match serde_json::from_slice::<Answer>(&stdout) {
                Ok(answer) => understand(answer),
                Err(_) => HelperOutcome::Failed("it did not answer with JSON".to_owned()),
            },
            Err(said) if NOT_FOUND.iter().any(|text| said.to_ascii_lowercase().contains(text)) => {
                HelperOutcome::NotFound
            }
            Err(said) => {
                // A failing helper prints its message on standard output, and credentials only when it succeeds.
                let line = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it failed");
                HelperOutcome::Failed(line.chars().take(200).collect())
            }
        }
    }

    /// Has it keep a credential for this server.
    pub(super) fn store(&self, name: &str, server: &str, username: &str, secret: &str) -> Result<(), String> {
        let login = serde_json::json!({"ServerURL": server, "Username": username, "Secret": secret});
        self.tell(name, "store", &login.to_string()).map(drop)
    }

    /// Has it forget the credential for this server. It may have had none.
    pub(super) fn erase(&self, name: &str, server: &str) -> Result<(), String> {
        match self.tell(name, "erase", server) {
            Err(said) if NOT_FOUND.iter().any(|text| said.to_ascii_lowercase().contains(text)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Runs a helper with a verb and gives back what it printed; `Err` is what it said, or why it could not be run.
    fn tell(&self, name: &str, verb: &str, input: &str) -> Result<Vec<u8>, String> {
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(format!("`{name}` is no name of a helper"));
        }
        let program = format!("docker-credential-{name}");
        let folders = self.search_path.iter().filter(|folder| folder.is_absolute());
        let Some(path) = folders.map(|folder| folder.join(&program)).find(|path| path.is_file()) else {
            return Err(format!("{program} is not in any folder of the search path"));
        };
        match self.run(&path, verb, input) {
            Ok((true, stdout, _)) => Ok(stdout),
            Ok((false, stdout, stderr)) => {
                Err(format!("{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn run(&self, path: &PathBuf, verb: &str, input: &str) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let mut child = Command::new(path)
            .arg(verb)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().map(read_in_background);
        let stderr = child.stderr.take().map(read_in_background);
        if let Some(mut stdin) = child.stdin.take() {
            // A helper that does not read what it is asked for answers or fails anyway.
            let _ = stdin.write_all(input.as_bytes());
        }
        let deadline = Instant::now() + self.timeout;
        let is_cancelled = || self.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Ordering::SeqCst));
        let Some(success) = wait_until(&mut child, || Instant::now() >= deadline || is_cancelled())? else {
            child.kill()?;
            child.wait()?;
            if is_cancelled() {
                return Err(io::Error::other("it was not waited for any longer"));
            }
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("it did not answer within {} s", self.timeout.as_secs_f32()),
            ));
        };
        Ok((success, received(stdout, deadline), received(stderr, deadline)))
    }
}

fn understand(answer: Answer) -> HelperOutcome {
    match (answer.username.as_str(), answer.secret.is_empty()) {
        ("", true) => HelperOutcome::NotFound,
        ("<token>", _) => HelperOutcome::Found(Credential::IdentityToken(answer.secret)),
        _ => HelperOutcome::Found(Credential::Basic { username: answer.username, password: answer.secret }),
    }
}

fn read_in_background<R: Read + Send + 'static>(source: R) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is to know.
        let _ = source.take(LONGEST_ANSWER).read_to_end(&mut bytes);
        let _ = send.send(bytes);
    });
    receive
}

/// What the thread has read. A grandchild that keeps the pipe open does not hold us longer than the deadline.
fn received(thread: Option<std::sync::mpsc::Receiver<Vec<u8>>>, deadline: Instant) -> Vec<u8> {
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    thread.and_then(|thread| thread.recv_timeout(left).ok()).unwrap_or_default()
}

fn wait_until(child: &mut Child, is_over: impl Fn() -> bool) -> io::Result<Option<bool>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if is_over() {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn helper(script: &str, timeout: Duration) -> (tempfile::TempDir, HelperOptions) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = HelperOptions {
            search_path: vec![folder.path().join("missing"), folder.path().to_owned()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("GREETING".into(), "hi".into())],
            timeout,
            cancelled: None,
        };
        (folder, options)
    }

    fn ask(script: &str) -> HelperOutcome {
        let (_folder, options) = helper(script, Duration::from_secs(20));
        options.ask("test", "registry.example.com")
    }

    #[test]
    fn a_helper_is_ended_when_nobody_wants_its_answer_any_more() {
        let (_folder, mut options) = helper("exec sleep 60", Duration::from_mins(1));
        let cancelled = Arc::new(AtomicBool::new(false));
        options.cancelled = Some(Arc::clone(&cancelled));
        let asked = std::thread::spawn(move || options.ask("test", "r.example.com"));
        std::thread::sleep(Duration::from_millis(100));
        let begin = Instant::now();
        cancelled.store(true, Ordering::SeqCst);
        let HelperOutcome::Failed(why) = asked.join().unwrap() else { panic!("it answered") };
        assert!(why.contains("not waited for") && begin.elapsed() < Duration::from_secs(5), "{why}");
    }

    #[test]
    fn a_helper_is_given_the_server_and_its_environment_and_answers_with_a_credential() {
        let outcome =
            ask(r#"read server; echo "{\"ServerURL\":\"x\",\"Username\":\"$1 $server\",\"Secret\":\"$GREETING\"}""#);
        let credential =
            Credential::Basic { username: "get registry.example.com".to_owned(), password: "hi".to_owned() };
        assert!(outcome == HelperOutcome::Found(credential), "{outcome:?}");
    }

    #[test]
    fn the_user_called_token_means_an_identity_token() {
        let outcome = ask(r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        assert!(outcome == HelperOutcome::Found(Credential::IdentityToken("t".to_owned())), "{outcome:?}");
    }

    #[test]
    fn a_helper_without_a_credential_for_the_server_has_not_failed() {
        assert_eq!(ask("echo credentials not found in native keychain; exit 1"), HelperOutcome::NotFound);
        assert_eq!(ask(r#"echo '{"Username":"","Secret":""}'"#), HelperOutcome::NotFound);
    }

    #[test]
    fn what_goes_wrong_with_a_helper_is_said() {
        assert_eq!(ask("echo vault is sealed >&2; exit 3"), HelperOutcome::Failed("vault is sealed".to_owned()));
        let HelperOutcome::Failed(reason) = ask("echo secret-thing") else { panic!("not JSON") };
        assert!(reason.contains("JSON") && !reason.contains("secret-thing"), "{reason}");
        let options = HelperOptions::default();
        let HelperOutcome::Failed(reason) = options.ask("missing", "x") else { panic!("missing") };
        assert!(reason.contains("docker-credential-missing"), "{reason}");
        assert!(matches!(options.ask("../evil", "x"), HelperOutcome::Failed(_)));
    }

    #[test]
    fn folders_that_are_not_absolute_are_not_searched() {
        let (folder, mut options) = helper(r#"echo '{"Username":"a","Secret":"b"}'"#, Duration::from_secs(20));
        assert!(matches!(options.ask("test", "x"), HelperOutcome::Found(_)));
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = up.join(folder.path().strip_prefix("/").unwrap());
        assert!(relative.join("docker-credential-test").is_file());
        options.search_path = vec![relative, PathBuf::new()];
        assert!(matches!(options.ask("test", "x"), HelperOutcome::Failed(_)));
    }

    #[test]
    fn a_helper_that_hangs_is_given_up() {
        let (_folder, options) = helper("exec sleep 60", Duration::from_millis(200));
        let start = Instant::now();
        let HelperOutcome::Failed(reason) = options.ask("test", "x") else { panic!("hangs") };
        assert!(reason.contains("did not answer"), "{reason}");
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
