//! What a build tells while it goes on. The library prints nothing: whoever embeds it decides what is shown.

use std::fmt;
use std::time::Duration;

use zuwai_registry::Digest;

/// Told of every event, in order, from the thread that drives the build; output of a command may come from other
/// threads, whole reads at a time.
pub trait Observer: Send + Sync {
    /// One thing that happened.
    fn event(&self, event: &Event<'_>);

    /// The same while stages are built side by side, where each is driven by a thread of its own: the events of one stage
    /// come in order, those of several are mixed. Whoever does not tell stages apart need not know it.
    fn event_in(&self, stage: StageName<'_>, event: &Event<'_>) {
        let _ = stage;
        self.event(event);
    }
}

/// What a stage is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageName<'a> {
    /// Its place in the Dockerfile, from 0.
    pub index: usize,
    /// Its name, if it has one.
    pub name: Option<&'a str>,
}

impl fmt::Display for StageName<'_> {
    /// The name, or `stage-0`, as `BuildKit` calls those without.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "stage-{}", self.index),
        }
    }
}

/// Which of the two streams of a command a piece of output was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One thing that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The build context is being fetched from where it is named (without credentials).
    ContextFetching {
        /// The location, credentials removed.
        location: &'a str,
    },
    /// The manifest of a base image is looked up.
    ImageResolving {
        /// Its name.
        reference: &'a str,
    },
    /// A base image lies in the folder for them.
    ImageKept {
        /// Its name, and whether it was there.
        text: &'a str,
    },
    /// A stage begins.
    StageStarted {
        /// Its place in the Dockerfile, from 0.
        index: usize,
        /// Its name, if it has one.
        name: Option<&'a str>,
        /// The base as the Dockerfile names it, after expansion.
        base: &'a str,
    },
    /// Nothing more happens in a stage: it is done, or something in it failed.
    StageEnded {
        /// Its place in the Dockerfile, from 0.
        index: usize,
    },
    /// The base of the stage is written into the root filesystem because a step looks at it.
    Unpacking {
        /// The base as the Dockerfile names it.
        base: &'a str,
    },
    /// Layers are written: all of a base, those that came out of the cache since, or an image that COPY takes files from.
    Unpacked {
        /// How many entries they have.
        entries: usize,
    },
    /// An instruction begins.
    StepStarted {
        /// Its place among the instructions of the stage, from 1.
        number: usize,
        /// How many there are.
        total: usize,
        /// The line of the Dockerfile it begins on, from 1.
        line: usize,
        /// The instruction as written, continuation lines joined.
        text: &'a str,
    },
    /// The layer of the instruction that began last was found in the cache.
    LayerCached {
        /// The compressed layer's digest.
        digest: &'a Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// The layer of the instruction that began last was looked for in the cache, and is not there.
    CacheMissed {
        /// The first thing in which the instruction differs from the build before; no secret is told.
        reason: &'a str,
    },
    /// A command's output, as it was read.
    Output {
        /// Where the command wrote it.
        stream: Stream,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The root filesystem was looked at and a layer packed.
    LayerMade {
        /// The compressed layer's digest.
        digest: &'a Digest,
        /// Its size in bytes.
        size: u64,
        /// How many entries it has.
        entries: usize,
        /// What looking took.
        looking: Duration,
        /// What packing took.
        packing: Duration,
    },
    /// The image is being pushed.
    Pushing {
        /// To where.
        destination: &'a str,
    },
    /// The image was pushed.
    Pushed {
        /// To where: `repository@digest`.
        destination: &'a str,
    },
    /// A file or folder was written.
    Written {
        /// Which output, as its flag is called.
        output: &'a str,
        /// Where.
        path: &'a str,
    },
    /// Something the user should know that does not stop the build.
    Warning {
        /// One sentence.
        text: &'a str,
    },
    /// Something only a person looking for a fault wants to know.
    Detail {
        /// One sentence.
        text: &'a str,
    },
    /// The build is done.
    Finished {
        /// The digest of the image's manifest.
        digest: &'a Digest,
    },
}

/// An observer that looks away.
#[derive(Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}

impl fmt::Display for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        })
    }
}
