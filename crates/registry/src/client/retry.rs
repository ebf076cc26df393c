//! Trying again.

use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use super::error::RegistryError;
use super::options::RetryPolicy;

/// Does it until it succeeds, fails for good, or was tried often enough.
pub(super) async fn repeat<T, F, Fut>(policy: &RetryPolicy, mut operation: F) -> Result<T, RegistryError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, RegistryError>>,
{
    let mut failures = 0;
    loop {
        match operation().await {
            Err(error) if error.is_transient() => {
                failures += 1;
                pause(policy, failures, error).await?;
            }
            other => return other,
        }
    }
}

/// Waits after this many failures in a row, or gives the error back when it was tried often enough.
pub(super) async fn pause(policy: &RetryPolicy, failures: u32, error: RegistryError) -> Result<(), RegistryError> {
    if failures >= policy.tries.max(1) {
        return Err(error);
    }
    tokio::time::sleep(policy.pause_after(failures, error.retry_after())).await;
    Ok(())
}

impl RetryPolicy {
    fn pause_after(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(self.longest_pause);
        let pause = doubled.mul_f64(0.5 + 0.5 * chance());
        asked.map_or(pause, |asked| asked.min(self.longest_asked_pause).max(pause))
    }
}

/// A number from 0 to 1 that differs from process to process and call to call.
fn chance() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn policy(tries: u32) -> RetryPolicy {
        let first_pause = Duration::from_millis(1);
        RetryPolicy { tries, first_pause, longest_pause: first_pause, longest_asked_pause: first_pause }
    }

    fn status(code: u16) -> RegistryError {
        RegistryError::Status {
            attempted: "pull x".to_owned(),
            status: code.to_string(),
            code,
            message: String::new(),
            retry_after: None,
        }
    }

    async fn tries(code: u16, succeed_at: u32) -> (u32, bool) {
        let count = Cell::new(0);
        let result = repeat(&policy(4), async || {
            count.set(count.get() + 1);
            if count.get() >= succeed_at { Ok(()) } else { Err(status(code)) }
        })
        .await;
        (count.get(), result.is_ok())
    }

    #[tokio::test]
    async fn what_fails_in_passing_is_tried_again_and_what_fails_for_good_is_not() {
        assert_eq!(tries(503, 3).await, (3, true));
        assert_eq!(tries(429, 9).await, (4, false));
        assert_eq!(tries(404, 9).await, (1, false));
        assert_eq!(tries(501, 9).await, (1, false));
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_yield_to_what_the_registry_asks() {
        let policy = RetryPolicy::default();
        for (failures, least, most) in [(1, 100, 200), (2, 200, 400), (4, 800, 1600), (30, 5000, 10_000)] {
            let pause = policy.pause_after(failures, None).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
        assert_eq!(policy.pause_after(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(policy.pause_after(1, Some(Duration::from_secs(7000))), policy.longest_asked_pause);
    }
}
