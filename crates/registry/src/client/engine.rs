//! The runtime of a client. Callers block; transfers go on beside one another.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::runtime::{Builder, Runtime};
use tracing::{Span, info_span};

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
/// How often somebody's wish to stop is looked at.
pub(super) const LOOKED_AT: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) fn new(session: Session) -> Result<Engine, RegistryError> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("registry").enable_all();
        Transfer(info_span!(target: "zuwai", "transfer")).watch(&mut builder);
        let runtime = builder.build().map_err(|source| RegistryError::Io {
            attempted: "cannot start threads for transfers".to_owned(),
            source,
        })?;
        Ok(Engine { runtime: Some(runtime), session: Arc::new(session) })
    }

    /// Waits for it on the caller's thread.
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// The same, until it is to be given up.
    pub(super) fn block_on_unless_cancelled<T>(
        &self,
        future: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let cancelled = self.session.options.cancelled.clone();
        self.block_on(async {
            let (future, asked) = (pin!(future), pin!(asked_to_stop(cancelled.as_deref())));
            match select(future, asked).await {
                Either::Left((done, _)) => done,
                Either::Right(((), future)) => {
                    // What looks at the flag itself gets to end: a credential helper is not to outlive this. What was as good as
                    // done is not called undone.
                    let ended = tokio::time::timeout(2 * LOOKED_AT, future).await;
                    ended.unwrap_or(Err(RegistryError::Cancelled))
                }
            }
        })
    }

    /// Does it in the background.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, future: F) {
        self.runtime().spawn(future);
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only drop takes it")
    }
}

/// Ends when somebody wishes to stop.
pub(super) async fn asked_to_stop(cancelled: Option<&AtomicBool>) {
    let Some(flag) = cancelled else { return std::future::pending().await };
    while !flag.load(Ordering::SeqCst) {
        tokio::time::sleep(LOOKED_AT).await;
    }
}

/// The span of whatever the threads of a runtime do while they do something.
#[derive(Clone)]
struct Transfer(Span);

impl Transfer {
    fn watch(&self, builder: &mut Builder) {
        let (one, other) = (self.clone(), self.clone());
        builder.on_thread_start(move || one.enter()).on_thread_stop(move || other.exit());
        let (one, other) = (self.clone(), self.clone());
        builder.on_thread_unpark(move || one.enter()).on_thread_park(move || other.exit());
    }

    fn enter(&self) {
        self.0.with_subscriber(|(id, subscriber)| subscriber.enter(id));
    }

    fn exit(&self) {
        self.0.with_subscriber(|(id, subscriber)| subscriber.exit(id));
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
