//! The answers of the keychain: asked for once for each repository and kept, and not asked for any more once they are
//! sealed. Keychains may run programs; sealing is how a caller sees to it that none runs from then on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::error::RegistryError;
use super::lock;
use crate::auth::{Keychain, KeychainError, Resolved};
use crate::image::Reference;

/// A keychain and what it has answered.
pub(super) struct Credentials {
    keychain: Arc<dyn Keychain>,
    /// By registry and repository.
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    /// Whether they are sealed. Held while the keychain is asked.
    sealed: Arc<tokio::sync::Mutex<bool>>,
}

type Answer = Result<Arc<Resolved>, Arc<KeychainError>>;

impl Credentials {
    pub(super) fn new(keychain: Arc<dyn Keychain>) -> Credentials {
        Credentials { keychain, answers: Arc::default(), sealed: Arc::default() }
    }

    /// The credential for a repository. The keychain is asked on a thread that may block.
    pub(super) async fn of(&self, reference: &Reference) -> Result<Arc<Resolved>, RegistryError> {
        let name = reference.name();
        if let Some(answer) = self.kept(&name) {
            let answer = answer?;
            if answer.until.is_none_or(|until| until > Instant::now()) {
                return Ok(answer);
            }
            return Ok(self.renewed(name, reference).await.unwrap_or(answer));
        }
        let sealed = Arc::clone(&self.sealed).lock_owned().await;
        // Another request may have asked while this one waited.
        if let Some(answer) = self.kept(&name) {
            return Ok(answer?);
        }
        if *sealed {
            return Err(RegistryError::Sealed { repository: name });
        }
        let (keychain, answers) = (Arc::clone(&self.keychain), Arc::clone(&self.answers));
        let (key, reference) = (name.clone(), reference.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let answer = keychain.resolve(&reference).map(Arc::new).map_err(Arc::new);
            lock(&answers).insert(key, answer.clone());
            // Until here, even when nobody waits for the answer any more: whoever seals waits for the program to end.
            drop(sealed);
            answer
        });
        let answer = asked.await.map_err(|error| RegistryError::Io {
            attempted: format!("cannot look up credentials for {name}"),
            source: std::io::Error::other(error),
        })?;
        Ok(answer?)
    }

    /// Another answer in place of one that has expired. Sealing does not matter here: no program is started.
    async fn renewed(&self, name: String, reference: &Reference) -> Option<Arc<Resolved>> {
        let (keychain, reference) = (Arc::clone(&self.keychain), reference.clone());
        let asked = tokio::task::spawn_blocking(move || keychain.renew(&reference)).await;
        let renewed = Arc::new(asked.ok().flatten()?);
        lock(&self.answers).insert(name, Ok(Arc::clone(&renewed)));
        Some(renewed)
    }

    /// Asks for each. What goes wrong is kept for the request that needs the answer.
    pub(super) async fn prepare(&self, references: impl Iterator<Item = &Reference>) {
        for reference in references {
            let _ = self.of(reference).await;
        }
    }

    /// From the return on, the keychain is not asked any more.
    pub(super) async fn seal(&self) {
        *self.sealed.lock().await = true;
    }

    fn kept(&self, name: &str) -> Option<Answer> {
        lock(&self.answers).get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Counts how often it was asked, and takes its time.
    #[derive(Default)]
    struct Slow {
        begun: AtomicUsize,
        ended: AtomicUsize,
    }

    impl Keychain for Slow {
        fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(100));
            self.ended.fetch_add(1, Ordering::SeqCst);
            if reference.repository() == "broken" {
                return Err(KeychainError::Malformed { name: "config.json".to_owned(), line: 1, column: 2 });
            }
            Ok(Resolved::anonymous(Vec::new()))
        }
    }

    /// Has a credential that is expired as soon as it is told.
    #[derive(Default)]
    struct ShortLived(AtomicUsize);

    impl Keychain for ShortLived {
        fn resolve(&self, _: &Reference) -> Result<Resolved, KeychainError> {
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            let until = Some(Instant::now() + Duration::from_secs(if number == 0 { 0 } else { 60 }));
            let credential = crate::auth::Credential::RegistryToken(number.to_string());
            Ok(Resolved { credential, until, ..Resolved::anonymous(Vec::new()) })
        }

        fn renew(&self, reference: &Reference) -> Option<Resolved> {
            self.resolve(reference).ok()
        }
    }

    #[tokio::test]
    async fn an_answer_that_has_expired_is_renewed_even_when_sealed() {
        let keychain = Arc::new(ShortLived::default());
        let credentials = Credentials::new(Arc::clone(&keychain) as Arc<dyn Keychain>);
        let name = reference("r.test/a");
        credentials.of(&name).await.unwrap();
        credentials.seal().await;
        for _ in 0..3 {
            credentials.of(&name).await.unwrap();
        }
        assert_eq!(keychain.0.load(Ordering::SeqCst), 2);
    }

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn each_repository_is_asked_for_once_and_errors_are_kept() {
        let keychain = Arc::new(Slow::default());
        let credentials = Credentials::new(Arc::clone(&keychain) as Arc<dyn Keychain>);
        let names = ["r.test/a:1", "r.test/a:2", "r.test/b", "r.test/broken"].map(reference);
        credentials.prepare(names.iter()).await;
        assert_eq!(keychain.begun.load(Ordering::SeqCst), 3);
        credentials.seal().await;
        assert!(credentials.of(&names[0]).await.is_ok() && credentials.of(&names[2]).await.is_ok());
        assert!(matches!(credentials.of(&names[3]).await, Err(RegistryError::Keychain(_))));
        assert_eq!(keychain.begun.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn once_sealed_a_keychain_is_not_asked_and_the_error_says_so() {
        let keychain = Arc::new(Slow::default());
        let credentials = Credentials::new(Arc::clone(&keychain) as Arc<dyn Keychain>);
        credentials.seal().await;
        let error = credentials.of(&reference("r.test/late:1")).await.unwrap_err().to_string();
        assert!(error.contains("r.test/late") && error.contains("no credential helper is started"), "{error}");
        assert_eq!(keychain.begun.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn sealing_waits_for_a_keychain_that_is_being_asked_even_if_nobody_wants_the_answer() {
        let keychain = Arc::new(Slow::default());
        let credentials = Credentials::new(Arc::clone(&keychain) as Arc<dyn Keychain>);
        let late = reference("r.test/a");
        let given_up = tokio::time::timeout(Duration::from_millis(20), credentials.of(&late)).await;
        assert!(given_up.is_err());
        credentials.seal().await;
        let counts = (keychain.begun.load(Ordering::SeqCst), keychain.ended.load(Ordering::SeqCst));
        assert_eq!(counts, (1, 1));
    }
}
