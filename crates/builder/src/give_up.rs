//! Waiting for a server that may never answer, by somebody who may be asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often the wish to stop is looked at.
const LOOKED_AT: Duration = Duration::from_millis(50);

/// Does something that waits for others on a thread of its own, and stops waiting for it once `cancelled` is set: `None`. What
/// is given up goes on until the server answers or its time is over; it is told to stop by the flag that it gets, and must
/// not touch what somebody else may have taken in use by then.
pub(crate) fn unless_cancelled<T: Send + 'static>(
    cancelled: &AtomicBool,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Option<T> {
    let given_up = Arc::new(AtomicBool::new(cancelled.load(Ordering::SeqCst)));
    let (done, waiting) = sync_channel(1);
    let flag = Arc::clone(&given_up);
    let work = Arc::new(Mutex::new(Some(work)));
    let its = Arc::clone(&work);
    let worker = thread::Builder::new().name("fetch".to_owned()).spawn(move || {
        if let Some(work) = its.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody may be waiting any more.
            let _ = done.send(work(&flag));
        }
    });
    let Ok(worker) = worker else {
        // No thread is to be had: it is waited for here, and stops as soon as it looks at the flag.
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        return work.map(|work| work(cancelled));
    };
    loop {
        match waiting.recv_timeout(LOOKED_AT) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("a result is sent before the thread ends"),
            },
        }
        if cancelled.load(Ordering::SeqCst) {
            given_up.store(true, Ordering::SeqCst);
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_done_in_time_is_had() {
        assert_eq!(unless_cancelled(&AtomicBool::new(false), |_| 7), Some(7));
    }

    #[test]
    fn who_is_asked_to_stop_waits_no_longer_and_what_is_given_up_is_told() {
        static CANCELLED: AtomicBool = AtomicBool::new(false);
        let (told, telling) = sync_channel(1);
        let begin = Instant::now();
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(100));
            CANCELLED.store(true, Ordering::SeqCst);
        });
        let never = move |flag: &AtomicBool| {
            while !flag.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            told.send(()).unwrap();
            thread::sleep(Duration::from_mins(1));
        };
        assert_eq!(unless_cancelled(&CANCELLED, never), None);
        assert!(begin.elapsed() < Duration::from_secs(5));
        telling.recv_timeout(Duration::from_secs(5)).unwrap();
    }
}
