//! What a build spent its time on, written to `$BENCHMARK_FILE` as Kaniko does: a table of nanoseconds by category.
//! Categories that Kaniko has are called as it calls them. Of stages that are built side by side each one's time counts, so
//! that the categories together may be more than the whole. Beside them stands what the processor worked for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use zuwai_builder::event::{Event, Observer, StageName};

use super::processor;

/// Hands every event on, and adds up the time between them.
pub(crate) struct Timings<'a> {
    next: &'a dyn Observer,
    start: Instant,
    clocks: Mutex<Clocks>,
}

struct Clocks {
    /// Of everything but stages that are built side by side.
    own: Clock,
    /// Theirs, by their places.
    stages: BTreeMap<usize, Clock>,
}

struct Clock {
    category: &'static str,
    since: Instant,
    /// What is done again when something that came in between is done.
    instruction: &'static str,
    sums: BTreeMap<&'static str, Duration>,
}

const TOTAL: &str = "Total Build Time";
const CONTEXT: &str = "Fetching context";
const RESOLVE: &str = "Resolving images";
const UNPACK: &str = "FS Unpacking";
const RUN: &str = "Command: RUN";
const COPY: &str = "Command: COPY";
const LOOK: &str = "Walking filesystem";
const PACK: &str = "Writing layer";
const OUTPUT: &str = "Writing outputs";
const PUSH: &str = "Total Push Time";
const OTHER: &str = "Other";

impl<'a> Timings<'a> {
    /// Counts from now.
    pub(crate) fn new(next: &'a dyn Observer) -> Self {
        let start = Instant::now();
        let clocks = Clocks { own: Clock::new(start), stages: BTreeMap::new() };
        Self { next, start, clocks: Mutex::new(clocks) }
    }

    /// Writes the table as it is now.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut clocks = self.clocks();
        clocks.own.turn_to(OTHER);
        let mut sums = clocks.own.sums.clone();
        for (name, time) in clocks.stages.values().flat_map(|clock| &clock.sums) {
            *sums.entry(name).or_default() += *time;
        }
        sums.insert(TOTAL, self.start.elapsed());
        let nanoseconds = |time: &Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let sums = sums.into_iter().map(|(name, time)| (name.to_owned(), time)).chain(processor::spent());
        let table: BTreeMap<_, _> = sums.map(|(name, time)| (name, nanoseconds(&time))).collect();
        std::fs::write(path, serde_json::to_string(&table)?)
    }

    fn clocks(&self) -> MutexGuard<'_, Clocks> {
        self.clocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Timings<'_> {
    fn event(&self, event: &Event<'_>) {
        self.clocks().own.note(event);
        self.next.event(event);
    }

    fn event_in(&self, stage: StageName<'_>, event: &Event<'_>) {
        self.clocks().stages.entry(stage.index).or_insert_with(|| Clock::new(Instant::now())).note(event);
        self.next.event_in(stage, event);
    }
}

impl Clock {
    fn new(since: Instant) -> Self {
        Self { category: OTHER, since, instruction: OTHER, sums: BTreeMap::new() }
    }

    fn note(&mut self, event: &Event<'_>) {
        match event {
            Event::ContextFetching { .. } => self.turn_to(CONTEXT),
            Event::ImageResolving { .. } => self.turn_to(RESOLVE),
            Event::StageStarted { .. } | Event::StageEnded { .. } | Event::Finished { .. } => self.turn_to(OTHER),
            Event::Unpacking { .. } => self.turn_to(UNPACK),
            Event::Unpacked { .. } => self.turn_to(self.instruction),
            Event::StepStarted { text, .. } => {
                self.instruction = category(text);
                self.turn_to(self.instruction);
            }
            Event::LayerMade { looking, packing, .. } => {
                self.turn_to(OTHER);
                // What the step seemed to take has both in it.
                let both = *looking + *packing;
                let step = self.sums.entry(self.instruction).or_default();
                *step = step.saturating_sub(both);
                *self.sums.entry(LOOK).or_default() += *looking;
                *self.sums.entry(PACK).or_default() += *packing;
            }
            Event::Pushing { .. } => self.turn_to(PUSH),
            Event::Written { .. } => {
                self.turn_to(OUTPUT);
                self.turn_to(OTHER);
            }
            _ => {}
        }
    }

    /// The time since the last turn was the last category's.
    fn turn_to(&mut self, category: &'static str) {
        let now = Instant::now();
        *self.sums.entry(self.category).or_default() += now - self.since;
        self.category = category;
        self.since = now;
    }
}

fn category(instruction: &str) -> &'static str {
    let word = instruction.split_whitespace().next().unwrap_or_default();
    if word.eq_ignore_ascii_case("RUN") {
        RUN
    } else if word.eq_ignore_ascii_case("COPY") || word.eq_ignore_ascii_case("ADD") {
        COPY
    } else {
        OTHER
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use zuwai_builder::event::Silent;
    use zuwai_registry::Digest;

    use super::*;

    #[test]
    fn the_time_of_a_step_is_told_apart_from_looking_packing_and_unpacking() {
        let timings = Timings::new(&Silent);
        let tick = Duration::from_millis(20);
        timings.event(&Event::StepStarted { number: 1, total: 1, line: 2, text: "run sleep" });
        timings.event(&Event::Unpacking { base: "debian" });
        sleep(tick);
        timings.event(&Event::Unpacked { entries: 1 });
        sleep(tick * 4);
        let digest = Digest::of(b"");
        timings.event(&Event::LayerMade { digest: &digest, size: 1, entries: 1, looking: tick, packing: tick * 2 });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("times.json");
        timings.write(&path).unwrap();
        let table: BTreeMap<String, u64> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let time = |name: &str| Duration::from_nanos(table[name]);
        assert_eq!((time(LOOK), time(PACK)), (tick, tick * 2));
        assert!(time(UNPACK) >= tick && time(UNPACK) < tick * 4, "{table:?}");
        assert!(time(RUN) >= tick && time(RUN) < tick * 4, "{table:?}");
        assert!(time(TOTAL) >= tick * 5, "{table:?}");
    }
}
