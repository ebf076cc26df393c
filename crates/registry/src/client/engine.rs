//! The runtime of a client. Callers block; transfers go on beside one another.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use super::error::RegistryError;
use super::session::Session;

/// A runtime and the session whose requests run in it. Tasks hold the session alone: a runtime must not be dropped by one
/// of its own tasks.
pub(super) struct Engine {
    runtime: Option<Runtime>,
    pub(super) session: Arc<Session>,
}

/// Threads that drive transfers. Hashing and files are done on other threads.
const THREADS: usize = 2;

impl Engine {
    pub(super) fn new(session: Session) -> Result<Engine, RegistryError> {
        let runtime =
            Builder::new_multi_thread().worker_threads(THREADS).thread_name("registry").enable_all().build().map_err(
                |source| RegistryError::Io { attempted: "cannot start threads for transfers".to_owned(), source },
            )?;
        Ok(Engine { runtime: Some(runtime), session: Arc::new(session) })
    }

    /// Waits for it on the caller's thread.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Does it in the background.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.runtime().spawn(future);
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only drop takes it")
    }
}

impl Drop for Engine {
    /// Does not wait: what still runs is given up.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
