//! Work that makes more work, done by as many threads as there are cores: a walk over folders. Each thread keeps what it
//! finds to itself (depth first, so that few folders are open at once) and gives the older half away when another is idle.
//! What is done sooner than threads are worth is done by the caller's alone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::info_span;

use crate::Result;

/// Does a task; pushes the tasks that come of it.
pub(crate) trait Worker: Send {
    /// What is to be done.
    type Task: Send;

    /// Does one task and pushes those that it leads to.
    fn work(&mut self, task: Self::Task, more: &mut Vec<Self::Task>) -> Result<()>;
}

/// So long the caller's thread works alone: some times what it takes to start another and to see it end.
const ALONE: Duration = Duration::from_micros(300);

/// How many threads a walk has once it is worth it.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(16)
}

/// Does some tasks and everything that comes of them, with one thread for each worker that is made. The first error ends
/// the walk.
pub(crate) fn walk<W: Worker>(tasks: Vec<W::Task>, worker: impl Fn() -> W) -> Result<Vec<W>> {
    walk_by(tasks, worker, ALONE, threads)
}

fn walk_by<W: Worker>(
    mut tasks: Vec<W::Task>,
    worker: impl Fn() -> W,
    alone: Duration,
    threads: impl Fn() -> usize,
) -> Result<Vec<W>> {
    let mut workers = vec![worker()];
    let start = Instant::now();
    while let Some(task) = tasks.pop() {
        workers[0].work(task, &mut tasks)?;
        if start.elapsed() >= alone && !tasks.is_empty() {
            workers.resize_with(threads(), &worker);
            together(tasks, &mut workers)?;
            break;
        }
    }
    Ok(workers)
}

fn together<W: Worker>(tasks: Vec<W::Task>, workers: &mut [W]) -> Result<()> {
    let pool = Pool {
        queue: Mutex::new(Queue { tasks, waiting: 0 }),
        ready: Condvar::new(),
        hungry: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        threads: workers.len(),
    };
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let (mine, others) = workers.split_first_mut().expect("a walk has at least one worker");
        let others: Vec<_> = others
            .iter_mut()
            .map(|worker| {
                scope.spawn(|| {
                    let _span = info_span!(target: "zuwai", "look").entered();
                    pool.run(worker)
                })
            })
            .collect();
        let mine = pool.run(mine);
        let others = others.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        std::iter::once(mine).chain(others).collect()
    });
    results.into_iter().collect()
}

struct Pool<T> {
    queue: Mutex<Queue<T>>,
    ready: Condvar,
    /// How many threads wait for a task that is not there yet.
    hungry: AtomicUsize,
    stop: AtomicBool,
    threads: usize,
}

struct Queue<T> {
    tasks: Vec<T>,
    waiting: usize,
}

impl<T: Send> Pool<T> {
    fn run<W: Worker<Task = T>>(&self, worker: &mut W) -> Result<()> {
        // A thread that panics must not leave the others waiting.
        let end = EndOnPanic(self);
        let mut own = Vec::new();
        let result = loop {
            if self.stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            let Some(task) = own.pop().or_else(|| self.next()) else { break Ok(()) };
            if let Err(error) = worker.work(task, &mut own) {
                self.end();
                break Err(error);
            }
            if own.len() > 1 && self.hungry.load(Ordering::Relaxed) > 0 {
                self.give(&mut own);
            }
        };
        std::mem::forget(end);
        result
    }

    /// The next task, once there is one; `None` when all threads wait and so none will come.
    fn next(&self) -> Option<T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                return Some(task);
            }
            queue.waiting += 1;
            if queue.waiting == self.threads {
                drop(queue);
                self.end();
                return None;
            }
            self.hungry.fetch_add(1, Ordering::Relaxed);
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            self.hungry.fetch_sub(1, Ordering::Relaxed);
            queue.waiting -= 1;
        }
    }

    fn give(&self, own: &mut Vec<T>) {
        let half = own.len() / 2;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.tasks.extend(own.drain(..half));
        drop(queue);
        self.ready.notify_all();
    }

    fn end(&self) {
        // Under the lock, so that no thread is between looking at the flag and waiting.
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.stop.store(true, Ordering::Relaxed);
        drop(queue);
        self.ready.notify_all();
    }
}

struct EndOnPanic<'a, T: Send>(&'a Pool<T>);

impl<T: Send> Drop for EndOnPanic<'_, T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u64);

    impl Worker for Counter {
        type Task = u32;

        fn work(&mut self, task: u32, more: &mut Vec<u32>) -> Result<()> {
            self.0 += 1;
            if task == 77 {
                return Err(crate::SnapshotError::Ignored { path: "/".into() });
            }
            if task < 14 || (70..77).contains(&task) {
                more.extend([task + 1, task + 1]);
            }
            Ok(())
        }
    }

    /// By that many threads from the beginning.
    fn count(first: u32, threads: usize) -> Result<Vec<Counter>> {
        walk_by(vec![first], || Counter(0), Duration::ZERO, || threads)
    }

    #[test]
    fn every_task_is_done_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let workers = count(0, threads).unwrap();
            assert_eq!(workers.len(), threads);
            assert_eq!(workers.iter().map(|counter| counter.0).sum::<u64>(), (1 << 15) - 1);
        }
    }

    #[test]
    fn what_is_done_soon_is_done_without_another_thread() {
        let workers =
            walk_by(vec![0], || Counter(0), Duration::from_mins(1), || panic!("nobody asks for threads")).unwrap();
        assert_eq!(workers.iter().map(|counter| counter.0).collect::<Vec<_>>(), [(1 << 15) - 1]);
    }

    #[test]
    fn an_error_ends_the_walk() {
        assert!(count(77, 2).is_err());
        assert!(count(70, 2).is_err(), "behind others");
    }
}
