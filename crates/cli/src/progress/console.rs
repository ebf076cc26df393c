//! The terminal, or whatever the streams lead to.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use zuwai_builder::event::{Event, Observer, StageName, Stream};

use super::line::{Format, LogOptions, Verbosity, line};

/// Writes events down as they happen.
pub(crate) struct Console {
    options: LogOptions,
    start: Instant,
    told: Mutex<Told>,
}

/// What earlier events said that later lines repeat.
#[derive(Default)]
struct Told {
    /// The names of the stages, lower case, with their places.
    stages: Vec<(String, usize)>,
    /// The instruction that is being carried out.
    instruction: String,
    /// The same of stages that are built side by side, by their places.
    instructions: BTreeMap<usize, String>,
    /// What commands of such stages have printed of lines that have not ended.
    begun: BTreeMap<(usize, bool), Vec<u8>>,
}

/// Longer lines are told in pieces.
const LONGEST_LINE: usize = 64 * 1024;

impl Console {
    /// The seconds in the short form count from now.
    pub(crate) fn new(options: LogOptions) -> Self {
        Self { options, start: Instant::now(), told: Mutex::default() }
    }

    /// Tells something on standard error.
    pub(crate) fn tell(&self, verbosity: Verbosity, message: &str) {
        if verbosity <= self.options.verbosity {
            let line = line(self.options, verbosity, message, SystemTime::now(), self.start.elapsed());
            // Nobody may be reading any more: that is no reason to stop a build.
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// The lines for an event. Where Kaniko has a line for the same thing, it is that one: people look for it.
    fn lines(&mut self, event: &Event<'_>, options: LogOptions) -> Vec<(Verbosity, String)> {
        let told = self;
        let info = |text: String| vec![(Verbosity::Info, text)];
        match event {
            Event::ContextFetching { location } => info(format!("Fetching build context {location}")),
            Event::ImageResolving { reference } => info(format!("Retrieving image manifest {reference}")),
            Event::ImageKept { text } => info((*text).to_owned()),
            Event::StageStarted { index, name, base } => {
                let base_index = told.place_of(base);
                told.stages.extend(name.map(|name| (name.to_lowercase(), *index)));
                told.instruction.clear();
                info(format!("Building stage '{base}' [idx: '{index}', base-idx: '{base_index}']"))
            }
            Event::Unpacking { base } if told.instruction.is_empty() => info(format!("Unpacking rootfs of {base}")),
            Event::Unpacking { .. } => info(format!("Unpacking rootfs as cmd {} requires it.", told.instruction)),
            Event::Unpacked { entries } => {
                info(format!("Unpacked {entries} {}", if *entries == 1 { "entry" } else { "entries" }))
            }
            Event::StepStarted { text, .. } => {
                (*text).clone_into(&mut told.instruction);
                info((*text).to_owned())
            }
            Event::LayerCached { digest, size } => {
                let size = bytes(*size);
                let mut lines = info(format!("Using caching version of cmd: {}", told.instruction));
                lines.push((Verbosity::Debug, format!("Layer {digest}: {size} out of the cache")));
                lines
            }
            Event::CacheMissed { reason } if options.explain_cache || options.format == Format::Json => {
                info(format!("No cached layer found for cmd {}: {reason}", told.instruction))
            }
            Event::CacheMissed { .. } => info(format!("No cached layer found for cmd {}", told.instruction)),
            Event::LayerMade { digest, size, entries, looking, packing } => info(format!(
                "Layer {digest}: {} in {entries} {}, found in {} s and packed in {} s",
                bytes(*size),
                if *entries == 1 { "entry" } else { "entries" },
                seconds(looking.as_secs_f64()),
                seconds(packing.as_secs_f64()),
            )),
            Event::Pushing { destination } => info(format!("Pushing image to {destination}")),
            Event::Pushed { destination } => info(format!("Pushed {destination}")),
            Event::Written { output, path } => info(format!("Wrote {path} (--{output})")),
            Event::Warning { text } => vec![(Verbosity::Warning, (*text).to_owned())],
            Event::Detail { text } => vec![(Verbosity::Debug, (*text).to_owned())],
            Event::Finished { digest } => info(format!("Built image {digest}")),
            _ => Vec::new(),
        }
    }

    /// The same for a stage that is built beside others.
    fn lines_in(&mut self, stage: usize, event: &Event<'_>, options: LogOptions) -> Vec<(Verbosity, String)> {
        self.instruction = self.instructions.remove(&stage).unwrap_or_default();
        let lines = self.lines(event, options);
        self.instructions.insert(stage, std::mem::take(&mut self.instruction));
        lines
    }

    /// The lines that have ended with what a command of such a stage has printed now.
    fn ended(&mut self, stage: usize, stream: Stream, bytes: &[u8]) -> Vec<u8> {
        let begun = self.begun.entry((stage, stream == Stream::Stderr)).or_default();
        begun.extend_from_slice(bytes);
        let end = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let end = if begun.len() - end > LONGEST_LINE { begun.len() } else { end };
        begun.drain(..end).collect()
    }

    /// What is left of them when something else happens in the stage.
    fn rest(&mut self, stage: usize) -> Vec<(Stream, Vec<u8>)> {
        let streams = [(Stream::Stdout, false), (Stream::Stderr, true)];
        let rest = streams.map(|(stream, error)| (stream, self.begun.remove(&(stage, error)).unwrap_or_default()));
        rest.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect()
    }

    /// Which stage this base is, or -1 for an image.
    fn place_of(&self, base: &str) -> i64 {
        let base = base.to_lowercase();
        let found = self.stages.iter().rev().find(|(name, _)| *name == base);
        found.and_then(|(_, place)| i64::try_from(*place).ok()).unwrap_or(-1)
    }
}

impl Observer for Console {
    fn event(&self, event: &Event<'_>) {
        if let Event::Output { stream, bytes } = event {
            write_to(*stream, bytes);
            return;
        }
        let lines = self.told().lines(event, self.options);
        for (verbosity, message) in lines {
            self.tell(verbosity, &message);
        }
    }

    /// Every line begins with the name of its stage, and is told whole.
    fn event_in(&self, stage: StageName<'_>, event: &Event<'_>) {
        let mut told = self.told();
        if let Event::Output { stream, bytes } = event {
            let bytes = told.ended(stage.index, *stream, bytes);
            write_to(*stream, &labelled(stage, &bytes));
            return;
        }
        for (stream, bytes) in told.rest(stage.index) {
            write_to(stream, &labelled(stage, &bytes));
        }
        for (verbosity, message) in told.lines_in(stage.index, event, self.options) {
            self.tell(verbosity, &format!("[{stage}] {message}"));
        }
    }
}

/// Lines with the stage's name before each; one that has not ended does then.
fn labelled(stage: StageName<'_>, lines: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(format!("[{stage}] ").as_bytes());
        text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        text.push(b'\n');
    }
    text
}

fn write_to(stream: Stream, bytes: &[u8]) {
    // Nobody may be reading any more: that is no reason to stop a build.
    let _ = match stream {
        Stream::Stdout => write(&mut io::stdout().lock(), bytes),
        Stream::Stderr => write(&mut io::stderr().lock(), bytes),
    };
}

fn write(stream: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2}")
}

/// A size for people: three digits and a unit of a thousand.
fn bytes(size: u64) -> String {
    let mut unit = ["kB", "MB", "GB", "TB"].iter();
    if size < 1_000 {
        return format!("{size} B");
    }
    #[allow(clippy::cast_precision_loss)] // Three digits are shown.
    let mut number = size as f64;
    let mut name = "B";
    while number >= 999.5 {
        let Some(next) = unit.next() else { break };
        number /= 1_000.0;
        name = next;
    }
    let digits = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.digits$} {name}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn console() -> Console {
        let format = Format::Short { colour: false };
        Console::new(LogOptions { format, verbosity: Verbosity::Info, timestamp: false, explain_cache: false })
    }

    fn said(console: &Console, event: &Event<'_>) -> String {
        console.told().lines(event, console.options).into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn lines_that_people_look_for_are_kanikos() {
        let console = console();
        let step = Event::StepStarted { number: 2, total: 3, line: 3, text: "RUN mvn clean package" };
        for (event, expected) in [
            (Event::ImageResolving { reference: "maven:3.5-jdk-11" }, "Retrieving image manifest maven:3.5-jdk-11"),
            (
                Event::StageStarted { index: 0, name: Some("Maven"), base: "maven:3.5-jdk-11" },
                "Building stage 'maven:3.5-jdk-11' [idx: '0', base-idx: '-1']",
            ),
            (step, "RUN mvn clean package"),
            (Event::Unpacking { base: "x" }, "Unpacking rootfs as cmd RUN mvn clean package requires it."),
            (Event::Unpacked { entries: 8804 }, "Unpacked 8804 entries"),
            (Event::Unpacked { entries: 1 }, "Unpacked 1 entry"),
            (
                Event::StageStarted { index: 1, name: None, base: "maven" },
                "Building stage 'maven' [idx: '1', base-idx: '0']",
            ),
            (Event::Unpacking { base: "x" }, "Unpacking rootfs of x"),
            (Event::Pushing { destination: "r/a:1" }, "Pushing image to r/a:1"),
            (Event::Pushed { destination: "r/a@sha256:0" }, "Pushed r/a@sha256:0"),
        ] {
            assert_eq!(said(&console, &event), expected);
        }
    }

    #[test]
    fn a_layer_is_told_with_its_size_and_what_it_took() {
        let digest = zuwai_registry::Digest::of(b"");
        let (looking, packing) = (Duration::from_millis(20), Duration::from_millis(1_234));
        let event = Event::LayerMade { digest: &digest, size: 12_345_678, entries: 1, looking, packing };
        assert_eq!(
            said(&console(), &event),
            format!("Layer {digest}: 12.3 MB in 1 entry, found in 0.02 s and packed in 1.23 s")
        );
    }

    #[test]
    fn what_stages_print_side_by_side_is_told_by_whole_lines_with_their_names() {
        let mut told = Told::default();
        assert_eq!(told.ended(0, Stream::Stdout, b"one\ntw"), b"one\n");
        assert_eq!(told.ended(1, Stream::Stdout, b"other"), b"");
        assert_eq!(told.ended(0, Stream::Stdout, b"o\nthree"), b"two\n");
        assert_eq!(told.rest(0), [(Stream::Stdout, b"three".to_vec())]);
        assert_eq!(told.rest(0), []);
        assert_eq!(told.ended(1, Stream::Stdout, &vec![b'x'; LONGEST_LINE]).len(), LONGEST_LINE + 5);
        let (named, nameless) = (StageName { index: 3, name: Some("build") }, StageName { index: 4, name: None });
        assert_eq!(labelled(named, b"a\n\nb"), b"[build] a\n[build] \n[build] b\n");
        assert_eq!(labelled(nameless, b"a\n"), b"[stage-4] a\n");
        let step = |text| Event::StepStarted { number: 1, total: 1, line: 1, text };
        let options = console().options;
        told.lines_in(0, &step("RUN a"), options);
        told.lines_in(1, &step("RUN b"), options);
        let lines = told.lines_in(0, &Event::Unpacking { base: "x" }, options);
        assert_eq!(lines[0].1, "Unpacking rootfs as cmd RUN a requires it.");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (size, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_400, "999 kB"),
            (999_600, "1.00 MB"),
            (5_000_000_000_000_000, "5000 TB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }
}
