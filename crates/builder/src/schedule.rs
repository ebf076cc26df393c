//! Which stage is built when: one after the other where there is one root for all of them, side by side where each has a
//! root of its own and does not need the other.
//!
//! What comes out is the same: a stage sees nothing of another but what it begins with and copies, and the plan says what
//! that is.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use zuwai_registry::Image;

use crate::error::BuildError;
use crate::event::{Event, Observer, StageName};
use crate::isolation::Cancel;
use crate::plan::{Plan, PlannedStage};
use crate::stage::{self, Done, Workshop};

/// How soon a wish to stop, or the end of another stage, is seen at the latest.
const TICK: Duration = Duration::from_millis(50);

/// Builds every stage of the plan and returns the image of the target.
///
/// # Errors
/// That of the stage that failed first. The others are asked to stop, and have stopped.
pub(crate) fn build_stages(shop: &Workshop<'_>, plan: &Plan<'_>) -> Result<Image, BuildError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (done, tools) = (Done::default(), shop.tools);
    if cores > 1 && tools.isolation.builds_side_by_side() && are_independent(&plan.stages) {
        return SideBySide::new(shop, plan, &done).build(cores.min(plan.stages.len()));
    }
    let mut target = None;
    for planned in &plan.stages {
        target = Some(stage::build(shop, plan, planned, &done, tools.observer, tools.cancel)?);
    }
    Ok(target.expect("a plan has at least the target"))
}

/// Whether there are two stages of which neither needs the other, directly or through others.
fn are_independent(stages: &[PlannedStage<'_>]) -> bool {
    let needs: Vec<(usize, Vec<usize>)> = stages.iter().map(|stage| (stage.index, stage.needs().collect())).collect();
    !is_a_line(&needs)
}

/// Whether each, in this order, needs the one before it, so that no two can go on at once. What is needed comes before.
fn is_a_line(needs: &[(usize, Vec<usize>)]) -> bool {
    needs.windows(2).all(|pair| pair[1].1.contains(&pair[0].0))
}

/// Stages that are built by several threads, each of which takes the first that can begin.
struct SideBySide<'a> {
    shop: &'a Workshop<'a>,
    plan: &'a Plan<'a>,
    done: &'a Done,
    /// Asks all of them to stop: the user wants it, or one has failed.
    stop: Cancel,
    state: Mutex<State<'a>>,
    changed: Condvar,
}

struct State<'a> {
    /// Not begun, in the order of the plan.
    waiting: Vec<&'a PlannedStage<'a>>,
    /// Not ended. Stages of the Dockerfile that the plan leaves out, since what others take of them is in the cache, are
    /// nobody's to wait for.
    open: BTreeSet<usize>,
    /// Threads that are at it.
    threads: usize,
    /// Of the target, or of whoever failed first.
    result: Option<Result<Image, BuildError>>,
}

impl<'a> SideBySide<'a> {
    fn new(shop: &'a Workshop<'a>, plan: &'a Plan<'a>, done: &'a Done) -> Self {
        let open = plan.stages.iter().map(|stage| stage.index).collect();
        let state = State { waiting: plan.stages.iter().collect(), open, threads: 0, result: None };
        Self { shop, plan, done, stop: Cancel::default(), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn build(self, threads: usize) -> Result<Image, BuildError> {
        thread::scope(|scope| {
            self.state().threads = threads;
            for _ in 0..threads {
                scope.spawn(|| self.work());
            }
            let mut state = self.state();
            while state.threads > 0 {
                if self.shop.tools.cancel.is_cancelled() {
                    self.stop.cancel();
                }
                state = self.wait(state);
            }
        });
        let result = self.state.into_inner().unwrap_or_else(PoisonError::into_inner).result;
        // Nobody failed and nobody built the target: they were asked to stop before.
        result.unwrap_or(Err(BuildError::Cancelled))
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'b>(&self, state: MutexGuard<'b, State<'a>>) -> MutexGuard<'b, State<'a>> {
        self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// One thread: until nothing is left to begin.
    fn work(&self) {
        let _at_it = AtIt(self);
        while let Some(planned) = self.next() {
            let stage = StageName { index: planned.index, name: planned.source.name.as_deref() };
            let observer = InStage { stage, observer: self.shop.tools.observer };
            let result = stage::build(self.shop, self.plan, planned, self.done, &observer, &self.stop);
            let mut state = self.state();
            state.open.remove(&planned.index);
            match result {
                Ok(image) if planned.is_target => state.result = Some(Ok(image)),
                Ok(_) => {}
                Err(error) => {
                    state.result.get_or_insert(Err(error));
                    self.stop.cancel();
                }
            }
            self.changed.notify_all();
        }
    }

    /// The first stage that can begin; waits until there is one.
    fn next(&self) -> Option<&'a PlannedStage<'a>> {
        let mut state = self.state();
        while !state.waiting.is_empty() && !self.stop.is_cancelled() {
            let ready = state.waiting.iter().position(|stage| !stage.needs().any(|index| state.open.contains(&index)));
            if let Some(place) = ready {
                return Some(state.waiting.remove(place));
            }
            state = self.wait(state);
        }
        None
    }
}

/// A thread that is at it, whatever becomes of it: the others do not wait for one that has panicked.
struct AtIt<'a, 'b>(&'b SideBySide<'a>);

impl Drop for AtIt<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop.cancel();
        }
        self.0.state().threads -= 1;
        self.0.changed.notify_all();
    }
}

/// Says of every event in which stage it happened.
struct InStage<'a> {
    stage: StageName<'a>,
    observer: &'a dyn Observer,
}

impl Observer for InStage<'_> {
    fn event(&self, event: &Event<'_>) {
        self.observer.event_in(self.stage, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_need_one_another_in_a_row_leave_nothing_to_build_beside() {
        let line = |needs: &[(usize, &[usize])]| {
            is_a_line(&needs.iter().map(|(index, needs)| (*index, needs.to_vec())).collect::<Vec<_>>())
        };
        assert!(line(&[(0, &[])]));
        assert!(line(&[(0, &[]), (2, &[0]), (3, &[2, 0])]));
        assert!(!line(&[(0, &[]), (1, &[]), (2, &[0, 1])]));
        assert!(!line(&[(0, &[]), (1, &[0]), (2, &[0]), (3, &[1, 2])]));
    }
}
