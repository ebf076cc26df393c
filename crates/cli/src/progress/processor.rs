//! Which part of a build the processor worked for: the thread clocks of the libraries' spans, in the same table as the times.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The spans.
const PARTS: [&str; 10] = ["transfer", "pull", "inflate", "unpack", "look", "copy", "hash", "pack", "compress", "push"];
/// What no span is about.
const OTHER: &str = "other";
/// What the processes took that were started: commands, credential helpers.
const COMMANDS: &str = "commands";

static SPENT: [AtomicU64; PARTS.len()] = [const { AtomicU64::new(0) }; PARTS.len()];

thread_local! {
    static STACK: RefCell<Stack> = const { RefCell::new(Stack { spans: Vec::new(), since: 0 }) };
}

/// The spans that a thread is in, of which the innermost is charged, and its clock when that became so.
struct Stack {
    spans: Vec<usize>,
    since: u64,
}

impl Stack {
    fn charge(&mut self) {
        let now = nanoseconds(ClockId::ThreadCPUTime);
        if let Some(part) = self.spans.last() {
            SPENT[*part].fetch_add(now.saturating_sub(self.since), Ordering::Relaxed);
        }
        self.since = now;
    }
}

/// Counts from now on, in the whole process. Spans cost nothing where this was not called.
pub(crate) fn count() {
    // Whoever set another before has one of their own.
    let _ = tracing::subscriber::set_global_default(Processor);
}

/// What was spent, by what it is called in the table.
pub(crate) fn spent() -> impl Iterator<Item = (String, Duration)> {
    by_part().into_iter().map(|(part, spent)| (format!("Processor: {part}"), spent))
}

fn by_part() -> Vec<(&'static str, Duration)> {
    let spent = |spent: &AtomicU64| Duration::from_nanos(spent.load(Ordering::Relaxed));
    let mut all: Vec<_> = PARTS.into_iter().zip(SPENT.iter().map(spent)).collect();
    let known = all.iter().map(|(_, spent)| *spent).sum();
    all.push((OTHER, Duration::from_nanos(nanoseconds(ClockId::ProcessCPUTime)).saturating_sub(known)));
    all.extend(of_children().map(|spent| (COMMANDS, spent)));
    all
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// User and system time of all processes that were waited for: `proc_pid_stat(5)`, fields 16 and 17.
fn of_children() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may have some of its own.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(13).map(|field| field.parse::<u64>().ok());
    let ticks = fields.next()?? + fields.next()??;
    Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000)? / rustix::param::clock_ticks_per_second()))
}

struct Processor;

impl Subscriber for Processor {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == "zuwai" && part(metadata).is_some()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        // All spans of a part are one.
        Id::from_u64(part(span.metadata()).map_or(u64::MAX, |part| part as u64 + 1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        let Ok(part) = usize::try_from(span.into_u64() - 1) else { return };
        // A thread whose locals are gone is at its end.
        let _ = STACK.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            stack.charge();
            stack.spans.push(part);
        });
    }

    fn exit(&self, _: &Id) {
        let _ = STACK.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            stack.charge();
            stack.spans.pop();
        });
    }
}

fn part(metadata: &Metadata<'_>) -> Option<usize> {
    PARTS.iter().position(|part| *part == metadata.name())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tracing::info_span;

    use super::*;

    fn work(time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    fn part_of(all: &[(&str, Duration)], name: &str) -> Duration {
        all.iter().find(|(known, _)| *known == name).unwrap().1
    }

    #[test]
    fn the_innermost_span_is_charged_with_what_its_thread_did_and_nobody_with_waiting() {
        count();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _outer = info_span!(target: "zuwai", "unpack").entered();
                work(Duration::from_millis(60));
                info_span!(target: "zuwai", "look").in_scope(|| work(Duration::from_millis(120)));
                std::thread::sleep(Duration::from_millis(500));
                let _foreign = info_span!(target: "other", "unpack").entered();
            });
        });
        let all = by_part();
        let (unpack, look) = (part_of(&all, "unpack"), part_of(&all, "look"));
        assert!(unpack > Duration::ZERO && unpack < look && look <= Duration::from_millis(125), "{all:?}");
        assert_eq!(part_of(&all, "pack"), Duration::ZERO);
    }

    #[test]
    fn what_children_did_is_the_commands() {
        let mut child = std::process::Command::new("sh");
        assert!(child.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]).status().unwrap().success());
        assert!(part_of(&by_part(), COMMANDS) >= Duration::from_millis(10));
    }
}
