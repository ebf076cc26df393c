//! `login` and `logout`: a credential is kept in the docker config, or by the program it names, as docker does it.

use std::io;
use std::io::Read as _;
use std::sync::Arc;

use zuwai_registry::auth::{self, Kept, Keychain, KeychainError, LoginError};
use zuwai_registry::{Client, Credential, Reference, Resolved};

use crate::args::{Login, Values};
use crate::environment::Environment;
use crate::error::Failure;
use crate::progress::{Console, Verbosity};
use crate::{credentials, machine, registry_options};

/// The longest password that is read.
const LONGEST: u64 = 64 * 1024;

/// Docker Hub, where no registry is named.
const DOCKER_HUB: &str = "index.docker.io";

/// One credential for everybody who asks: it is shown to one registry.
struct Given(Credential);

impl Keychain for Given {
    fn resolve(&self, _: &Reference) -> Result<Resolved, KeychainError> {
        let source = "the command line".to_owned();
        Ok(Resolved { credential: self.0.clone(), source, ..Resolved::anonymous(Vec::new()) })
    }
}

/// Shows the credential to the registry, and keeps it when it is taken.
pub(crate) fn login(program: &str, login: &Login, environment: &Environment, console: &Console) -> Result<(), Failure> {
    let registry = registry(&login.words)?;
    let usage = |message: &str| Failure::new(format!("error: {message}"), None);
    let username = login.username.clone().filter(|name| !name.is_empty()).ok_or_else(|| usage("username required"))?;
    let password = match (&login.password, login.password_stdin) {
        (Some(_), true) => return Err(usage("only one of --password or --password-stdin may be specified")),
        (None, false) => return Err(usage("a password must be supplied via --password or --password-stdin")),
        (Some(password), false) => {
            console
                .tell(Verbosity::Warning, "--password can be seen by others on this machine: --password-stdin cannot");
            password.clone()
        }
        (None, true) => {
            let mut text = String::new();
            let read = io::stdin().take(LONGEST).read_to_string(&mut text);
            read.map_err(|error| Failure::of("error logging in: read the password", &error, None))?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
    };
    if password.is_empty() {
        return Err(usage("password is blank"));
    }
    let (_, own_folder) = machine::folders(login.values.text("kaniko-dir"), environment, program, "error")?;
    let options = registry_options::client(&login.values, machine::transport(environment, &own_folder))
        .map_err(|error| Failure::new(format!("error: {error}"), error.hint))?;
    let failed = |error: &zuwai_registry::RegistryError| Failure::of("error logging in", error, error.hint());
    let credential = Credential::Basic { username: username.clone(), password: password.clone() };
    let client = Client::new(options, Arc::new(Given(credential))).map_err(|error| failed(&error))?;
    let anything: Reference = format!("{registry}/login")
        .parse()
        .map_err(|error| Failure::of(&format!("error: `{registry}` is no registry"), &error, None))?;
    client.check_login(&anything).map_err(|error| failed(&error))?;

    let path = credentials::file_to_change(environment, &own_folder);
    let helpers = credentials::helper_options(environment, &own_folder);
    let kept = auth::login(&path, &helpers, &registry, &username, &password).map_err(|error| of_file(&error))?;
    let place = match kept {
        Kept::Helper(helper) => format!("docker-credential-{helper}"),
        Kept::File | Kept::Nowhere => format!("{}, where it can be read", path.display()),
    };
    console.tell(Verbosity::Info, &format!("Logged in to {registry}; the credential is kept in {place}"));
    if environment.get("DOCKER_AUTH_CONFIG").is_some() {
        console.tell(Verbosity::Warning, "the variable DOCKER_AUTH_CONFIG is set, and what it holds comes first");
    }
    Ok(())
}

/// Forgets what is kept for a registry.
pub(crate) fn logout(
    program: &str,
    values: &Values,
    words: &[String],
    environment: &Environment,
    console: &Console,
) -> Result<(), Failure> {
    let registry = registry(words)?;
    let (_, own_folder) = machine::folders(values.text("kaniko-dir"), environment, program, "error")?;
    let path = credentials::file_to_change(environment, &own_folder);
    let helpers = credentials::helper_options(environment, &own_folder);
    let text = match auth::logout(&path, &helpers, &registry).map_err(|error| of_file(&error))? {
        Kept::Nowhere => format!("Not logged in to {registry}"),
        Kept::File => format!("Logged out of {registry}: its credential is gone from {}", path.display()),
        Kept::Helper(helper) => format!("Logged out of {registry}: docker-credential-{helper} has forgotten it"),
    };
    console.tell(Verbosity::Info, &text);
    Ok(())
}

/// Host and port of what was typed: schemes and paths are cut off, as docker does.
fn registry(words: &[String]) -> Result<String, Failure> {
    match words {
        [] => Ok(DOCKER_HUB.to_owned()),
        [word] => {
            let host = word.split_once("://").map_or(word.as_str(), |(_, rest)| rest);
            Ok(host.split('/').next().unwrap_or_default().to_owned())
        }
        _ => Err(Failure::new("error: more than one registry is named", None)),
    }
}

fn of_file(error: &LoginError) -> Failure {
    Failure::of("error", error, None)
}
