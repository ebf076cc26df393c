//! Secrets and agents of whoever asked for the build. Their values are read before anything is downloaded, and before the
//! root folder becomes an image's; they are shown to the commands that ask for them, and to nobody else: no layer, no
//! history, no log, no error and no cache key holds one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::isolation::mount::Agent;
use crate::request::{BuildRequest, SecretSource};

/// No secret is longer than this many bytes, as in `BuildKit`.
const LONGEST: u64 = 500 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Secrets {
    values: BTreeMap<String, Vec<u8>>,
    agents: BTreeMap<String, Agent>,
}

/// A secret or an agent that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file of a secret.
    #[error("--secret id={id}: read {}", path.display())]
    Read {
        /// The secret.
        id: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The value is too long.
    #[error("--secret id={id}: it is longer than {LONGEST} bytes")]
    TooLong {
        /// The secret.
        id: String,
    },
    /// The socket of an agent.
    #[error("--ssh {id}: open the agent's socket {}", path.display())]
    Agent {
        /// The agent.
        id: String,
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Secrets {
    /// Reads every one that was given; of two with the same id the later one counts.
    pub(crate) fn read(request: &BuildRequest) -> Result<Self, SecretError> {
        let mut secrets = Secrets::default();
        for secret in &request.secrets {
            let id = secret.id.clone();
            let value = match &secret.source {
                SecretSource::Value(value) => value.clone(),
                SecretSource::File(path) => {
                    let path = request.current_directory.join(path);
                    read(&path).map_err(|source| SecretError::Read { id: id.clone(), path, source })?
                }
            };
            if value.len() as u64 > LONGEST {
                return Err(SecretError::TooLong { id });
            }
            secrets.values.insert(id, value);
        }
        for agent in &request.agents {
            let (id, path) = (agent.id.clone(), request.current_directory.join(&agent.socket));
            let opened = Agent::open(&path).map_err(|source| SecretError::Agent { id: id.clone(), path, source })?;
            secrets.agents.insert(id, opened);
        }
        Ok(secrets)
    }

    /// The value of a secret, if it was given.
    pub(crate) fn value(&self, id: &str) -> Option<&[u8]> {
        self.values.get(id).map(Vec::as_slice)
    }

    /// An agent, if it was given.
    pub(crate) fn agent(&self, id: &str) -> Option<&Agent> {
        self.agents.get(id)
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut value)?;
    Ok(value)
}
