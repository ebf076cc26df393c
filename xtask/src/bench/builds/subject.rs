//! What is built: the Dockerfiles and contexts of the table, made anew for each run and always the same.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use zuwai_lab::places;

/// One build of the table.
pub(crate) struct Subject {
    pub(crate) letter: char,
    /// What it is, in a few words.
    pub(crate) about: &'static str,
    pub(crate) dockerfile: &'static str,
    /// Lays the context's files, but for the Dockerfile.
    pub(crate) lay: fn(&Path) -> Result<()>,
    /// How often it is built cold, by zuwai and buildah in turns: short ones are noisy.
    pub(crate) repeats: usize,
    /// What is changed after it was built, for it to be built again; `None` where it is only built cold.
    pub(crate) change: Option<Change>,
    /// The floors that it stands on, with how often all files of each are looked at.
    pub(super) floors: &'static [(&'static str, f64)],
    /// The most processor time that it may take, as a part of buildah's.
    pub(crate) cpu_limit: Option<f64>,
    /// The most memory that it may hold, in MiB.
    pub(crate) peak_limit: Option<u64>,
    /// The most seconds that it may take when all of it is in the cache.
    pub(crate) warm_limit: Option<f64>,
}

/// One change of what is built.
pub(crate) enum Change {
    /// This file of the context has one line more.
    File(&'static str),
    /// These words of the Dockerfile are others.
    Words(&'static str, &'static str),
}

/// What e) copies out of the fat base, in the base.
pub(crate) const MADE_OF_FAT: [&str; 3] = ["usr/lib/jvm", "usr/lib/gcc", "usr/lib/python3"];

pub(crate) const SUBJECTS: [Subject; 6] = [
    Subject {
        letter: 'a',
        about: "debian + RUN echo",
        dockerfile: "FROM debian:12\nRUN echo hello\n",
        lay: nothing,
        repeats: 3,
        change: None,
        floors: &[("debian", 1.0)],
        cpu_limit: Some(0.22),
        peak_limit: Some(40),
        warm_limit: None,
    },
    Subject {
        letter: 'b',
        about: "fat + 10 RUNs that touch one file each",
        dockerfile: "FROM fat:12\nRUN touch /srv/1\nRUN touch /srv/2\nRUN touch /srv/3\nRUN touch /srv/4\nRUN touch /srv/5\n\
                     RUN touch /srv/6\nRUN touch /srv/7\nRUN touch /srv/8\nRUN touch /srv/9\nRUN touch /srv/10\n",
        lay: nothing,
        repeats: 3,
        change: Some(Change::Words("/srv/10", "/srv/11")),
        // The first look and the last one; between them the kernel tells what to look at.
        floors: &[("fat", 2.0)],
        cpu_limit: Some(0.22),
        peak_limit: Some(64),
        warm_limit: Some(0.15),
    },
    Subject {
        letter: 'c',
        about: "fat + 50,000 small files, then half of them deleted",
        dockerfile: "FROM fat:12\nRUN mkdir /many && cd /many && seq 1000000 1049999 | split --lines=1 --suffix-length=4 - f\n\
                     RUN cd /many && ls | awk 'NR % 2' | xargs rm\n",
        lay: nothing,
        repeats: 3,
        change: None,
        // The second look finds half of them.
        floors: &[("fat", 2.0), ("made by c", 1.5)],
        cpu_limit: Some(0.25),
        peak_limit: Some(96),
        warm_limit: None,
    },
    Subject {
        letter: 'd',
        about: "debian + COPY of 20,000 files, 500 MB",
        dockerfile: "FROM debian:12\nCOPY . /app\n",
        lay: twenty_thousand_files,
        repeats: 3,
        change: Some(Change::File("part-7/file-7")),
        floors: &[("debian", 0.0), ("copied by d", 0.0)],
        cpu_limit: Some(0.20),
        peak_limit: Some(64),
        warm_limit: None,
    },
    Subject {
        letter: 'e',
        about: "multi-stage: fat makes 525 MB, COPY --from into debian",
        dockerfile: "FROM fat:12 AS make\nRUN mkdir /made && cp -a /usr/lib/jvm /usr/lib/gcc \
                     /usr/lib/python3 /made/ && du -sm /made\nRUN echo made > /made/made\nFROM debian:12\n\
                     COPY --from=make /made /made\nRUN echo done > /done\n",
        lay: nothing,
        repeats: 3,
        change: Some(Change::Words("RUN echo made", "RUN echo made again")),
        floors: &[("fat", 0.0), ("debian", 1.0), ("copied by e", 0.0)],
        cpu_limit: Some(0.22),
        peak_limit: Some(96),
        warm_limit: Some(0.5),
    },
    Subject {
        letter: 'f',
        about: "the maven example",
        dockerfile: "",
        lay: maven,
        repeats: 1,
        change: Some(Change::File("src/main/java/com/example/app/Greeting.java")),
        floors: &[],
        cpu_limit: None,
        peak_limit: None,
        warm_limit: Some(0.5),
    },
];

impl Subject {
    /// Lays the whole context.
    pub(crate) fn context(&self, folder: &Path) -> Result<()> {
        (self.lay)(folder)?;
        if self.dockerfile.is_empty() {
            return Ok(());
        }
        let path = folder.join("Dockerfile");
        fs::write(&path, self.dockerfile).with_context(|| format!("write {}", path.display()))
    }
}

impl Change {
    /// Makes it in a context.
    pub(crate) fn make(&self, folder: &Path) -> Result<()> {
        let path = match self {
            Change::File(name) => folder.join(name),
            Change::Words(..) => folder.join("Dockerfile"),
        };
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let changed = match self {
            Change::File(_) => [text.as_slice(), b"// changed\n"].concat(),
            Change::Words(old, new) => {
                let text = String::from_utf8(text).context("a Dockerfile is text")?;
                ensure!(text.contains(old), "{} has no `{old}`", path.display());
                text.replace(old, new).into_bytes()
            }
        };
        fs::write(&path, changed).with_context(|| format!("write {}", path.display()))
    }
}

#[allow(clippy::unnecessary_wraps)] // One of several that may fail.
fn nothing(_: &Path) -> Result<()> {
    Ok(())
}

fn maven(folder: &Path) -> Result<()> {
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(places::testdata().join("maven").join(".")).arg(folder);
    zuwai_lab::command::must(&mut copy).map(drop)
}

/// 200 folders of 100 files of 25 kB; three fifths of each cannot be compressed.
fn twenty_thousand_files(folder: &Path) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for outer in 0..200 {
        let folder = folder.join(format!("part-{outer}"));
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        for inner in 0..100 {
            let path = folder.join(format!("file-{inner}"));
            let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
            let mut file = BufWriter::new(file);
            let mut fill = || -> std::io::Result<()> {
                for _ in 0..15_000 / 8 {
                    file.write_all(&random().to_le_bytes())?;
                }
                for line in 0..10_000 / 20 {
                    writeln!(file, "line {line:>13} ")?;
                }
                file.flush()
            };
            fill().with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
