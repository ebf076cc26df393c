//! Cases: a folder with a Dockerfile and what must come of it. `testdata/cases/README.md` tells how one is written.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::base::{self, Base, Known};
use crate::command::{self, must};
use crate::layout::{Layout, text};
use crate::registry::Options;
use crate::{Executor, Output, Person, Registry, Scratch, Who, places, render};

/// One folder of cases.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name: the behaviour that it pins.
    pub name: String,
    folder: PathBuf,
}

/// Every case there is, by name.
pub fn all() -> Result<Vec<Case>> {
    let folder = places::testdata().join("cases");
    let mut cases = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.join("Dockerfile").is_file() {
            let name = path.file_name().and_then(OsStr::to_str).context("names of cases are text")?;
            cases.push(Case { name: name.to_owned(), folder: path.clone() });
        }
    }
    cases.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(cases)
}

/// Where zuwai runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the executor's image, in a container as strict as a Pod's: `direct`.
    Container,
    /// On this machine, as root: `namespace`.
    Root,
    /// On this machine, as a user: `namespace` in a user namespace.
    User,
}

impl Place {
    /// As a case's file `places` names it.
    pub fn name(self) -> &'static str {
        match self {
            Place::Container => "container",
            Place::Root => "namespace-as-root",
            Place::User => "namespace-as-user",
        }
    }
}

/// Who builds.
#[derive(Debug)]
enum Builder {
    Container(Executor),
    Person(Person),
}

/// What cases are run with: zuwai in its place, and a registry with the base images.
#[derive(Debug)]
pub struct Stand {
    place: Place,
    builder: Builder,
    mirror: Registry,
    known: Vec<Known>,
    bless: bool,
}

impl Stand {
    /// Makes one for a binary. With `bless`, what comes out becomes what is expected.
    pub fn new(binary: &Path, place: Place, bless: bool) -> Result<Self> {
        let bases = [Base::Busybox, Base::Debian];
        let mirror = base::mirror(&bases, &Options::default())?;
        let mut known = Vec::new();
        for base in bases {
            known.extend(base.known()?);
        }
        let builder = match place {
            Place::Container => Builder::Container(Executor::new(binary)?),
            Place::Root => Builder::Person(Person::new(binary, Who::Root)?),
            Place::User => Builder::Person(Person::new(binary, Who::User)?),
        };
        Ok(Self { place, builder, mirror, known, bless })
    }

    /// Whether the case is one for this place.
    pub fn takes(&self, case: &Case) -> Result<bool> {
        case.takes(self.place)
    }

    /// Runs a case; an error says in what it came out differently.
    pub fn run(&self, case: &Case) -> Result<()> {
        let scratch = Scratch::new()?;
        let out = scratch.folder("out")?;
        let output = self.build(case, &[], &scratch, &out)?;
        let (kind, text) = if output.status.success() {
            let text = self.success(&output, &out).with_context(|| format!("the build succeeded:\n{output}"))?;
            ("expected", text)
        } else {
            let left: Vec<_> =
                fs::read_dir(&out).context("list the output")?.flatten().map(|entry| entry.path()).collect();
            ensure!(left.is_empty(), "a failed build left {left:?}:\n{output}");
            ("expected-error", failure(&output).replace(&self.mirror.host(), "MIRROR"))
        };
        case.compare(kind, &text, &output, self.bless, &scratch)
    }

    /// Builds a case several times, each time with these words more, and gives the digests that come out; `None` where it
    /// is to fail.
    pub fn digests(&self, case: &Case, builds: &[&[String]]) -> Result<Option<Vec<String>>> {
        if case.folder.join("expected-error").exists() {
            return Ok(None);
        }
        let build = |words: &&[String]| {
            let scratch = Scratch::new()?;
            let out = scratch.folder("out")?;
            let output = self.build(case, words, &scratch, &out)?.success()?;
            fs::read_to_string(out.join("digest")).with_context(|| format!("read the digest file:\n{output}"))
        };
        builds.iter().map(build).collect::<Result<_>>().map(Some)
    }

    fn build(&self, case: &Case, words: &[String], scratch: &Scratch, out: &Path) -> Result<Output> {
        match &self.builder {
            Builder::Container(executor) => self.in_container(executor, case, words, scratch, out),
            Builder::Person(person) => self.by_hand(person, case, words, scratch, out),
        }
    }

    fn in_container(
        &self,
        executor: &Executor,
        case: &Case,
        words: &[String],
        scratch: &Scratch,
        out: &Path,
    ) -> Result<Output> {
        let context = case.context(scratch)?;
        executor
            .container()
            .mount(&context, WORKSPACE)
            .mount(&case.folder, CASE)
            .mount_writable(out, OUT)
            .working_dir(CASE)
            .env("NO_COLOR", "1")
            .time_limit(Duration::from_mins(3))
            .run([self.arguments(case, WORKSPACE, OUT)?, words.to_vec()].concat())
    }

    /// The same with other paths, which are not shown.
    fn by_hand(&self, person: &Person, case: &Case, words: &[String], scratch: &Scratch, out: &Path) -> Result<Output> {
        let context = case.context(scratch)?;
        let folder = scratch.path().join("case");
        must(Command::new("cp").args(["-r", "--"]).arg(&case.folder).arg(&folder)).context("copy the case")?;
        for tree in [&context, &folder, &out.to_owned()] {
            person.own(tree)?;
        }
        let paths = [(&context, WORKSPACE), (&folder, CASE), (&out.to_owned(), OUT)];
        let paths = paths.map(|(path, shown)| (path.display().to_string(), shown));
        let mut zuwai = person.zuwai(&folder);
        let real = |text: String| paths.iter().fold(text, |text, (path, shown)| text.replace(shown, path));
        let arguments = self.arguments(case, WORKSPACE, OUT)?.into_iter().map(real);
        zuwai.arg("--isolation=namespace").args(arguments).args(words);
        let mut output = command::run(&mut zuwai, Duration::from_mins(3))?;
        for stream in [&mut output.stdout, &mut output.stderr] {
            let text = String::from_utf8_lossy(stream).into_owned();
            *stream = paths.iter().fold(text, |text, (path, shown)| text.replace(path, shown)).into_bytes();
        }
        Ok(output)
    }

    fn arguments(&self, case: &Case, context: &str, out: &str) -> Result<Vec<String>> {
        let mirror = self.mirror.host();
        let mut arguments = vec![
            "--dockerfile=Dockerfile".to_owned(),
            format!("--context=dir://{context}"),
            "--no-push".to_owned(),
            format!("--oci-layout-path={out}/image"),
            format!("--digest-file={out}/digest"),
            format!("--registry-mirror={mirror}"),
            format!("--insecure-registry={mirror}"),
            "--skip-default-registry-fallback".to_owned(),
            "--verbosity=warn".to_owned(),
        ];
        arguments.extend(case.arguments()?);
        Ok(arguments)
    }

    /// The image as text, and the warnings below it.
    fn success(&self, output: &Output, out: &Path) -> Result<String> {
        let layout = Layout::open(&out.join("image"))?;
        let mut shown = render::image(&layout, &self.known)?;
        let digest = fs::read_to_string(out.join("digest")).context("read the digest file")?;
        ensure!(text(&layout.index()?[0], "digest")? == digest, "--digest-file says {digest}, the layout another");
        let warnings: Vec<String> = output.err().lines().filter_map(|line| log_line(line, "WARN")).collect();
        if !warnings.is_empty() {
            shown = format!("{shown}\nwarnings\n  {}\n", warnings.join("\n  "));
        }
        Ok(shown)
    }
}

/// Where a case's parts are for zuwai: in the container, and in what is compared.
pub(crate) const WORKSPACE: &str = "/workspace";
pub(crate) const CASE: &str = "/lab/case";
const OUT: &str = "/lab/out";

impl Case {
    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text of what is built.
    pub(crate) fn dockerfile(&self) -> Result<String> {
        let path = self.folder.join("Dockerfile");
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The image that is expected, as text; `None` where an error is.
    pub(crate) fn expected(&self) -> Result<Option<String>> {
        let path = self.folder.join("expected");
        path.is_file()
            .then(|| fs::read_to_string(&path).with_context(|| format!("read {}", path.display())))
            .transpose()
    }

    /// Whether it is for a place: all are, unless its file `places` names some.
    fn takes(&self, place: Place) -> Result<bool> {
        let named = self.lines("places")?;
        Ok(named.is_empty() || named.iter().any(|name| name == place.name()))
    }

    /// A copy of the context with modes that do not depend on who checked it out, as `setup` leaves it.
    pub(crate) fn context(&self, scratch: &Scratch) -> Result<PathBuf> {
        let context = scratch.folder("context")?;
        let written = self.folder.join("context");
        if written.is_dir() {
            must(Command::new("cp").arg("-a").arg(written.join(".")).arg(&context)).context("copy the context")?;
        }
        must(Command::new("chown").args(["-R", "--no-dereference", "0:0"]).arg(&context)).context("own the context")?;
        must(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&context)).context("set the context's modes")?;
        let setup = self.folder.join("setup");
        if setup.is_file() {
            must(Command::new("sh").arg("-eu").arg(&setup).current_dir(&context)).context("run the case's setup")?;
        }
        Ok(context)
    }

    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        self.lines("args")
    }

    /// The lines of a file of the case, without empty ones and comments.
    fn lines(&self, name: &str) -> Result<Vec<String>> {
        let path = self.folder.join(name);
        if !path.is_file() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
    }

    fn compare(&self, kind: &str, found: &str, output: &Output, bless: bool, scratch: &Scratch) -> Result<()> {
        let path = self.folder.join(kind);
        let other = self.folder.join(if kind == "expected" { "expected-error" } else { "expected" });
        if bless {
            if other.exists() {
                fs::remove_file(&other).with_context(|| format!("remove {}", other.display()))?;
            }
            return fs::write(&path, found).with_context(|| format!("write {}", path.display()));
        }
        if other.exists() {
            bail!("{} is there, but the build came to another end:\n{output}", other.display());
        }
        ensure!(path.exists(), "{} is not there; ZUWAI_BLESS=1 would write:\n{found}", path.display());
        let expected = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if expected == found {
            return Ok(());
        }
        bail!("{}\n{output}", difference(&path, found, scratch)?)
    }
}

/// What a user sees of a failed build: the exit code and what was said on standard error, without the log.
fn failure(output: &Output) -> String {
    let said = output.err();
    let lines =
        said.lines().filter(|line| ["WARN", "INFO", "DEBU"].iter().all(|level| log_line(line, level).is_none()));
    let warnings = said.lines().filter_map(|line| log_line(line, "WARN")).map(|line| format!("warning: {line}"));
    let shown: Vec<_> = warnings.chain(lines.map(str::to_owned)).collect();
    format!("exit code {}\n{}\n", output.code(), shown.join("\n"))
}

/// The message of a line of the log, `WARN[0003] message`, that has this level.
fn log_line(line: &str, level: &str) -> Option<String> {
    let (seconds, message) = line.strip_prefix(level)?.strip_prefix('[')?.split_once(']')?;
    seconds.bytes().all(|byte| byte.is_ascii_digit()).then(|| message.trim().to_owned())
}

/// The unified difference between a file and a text.
fn difference(path: &Path, found: &str, scratch: &Scratch) -> Result<String> {
    let file = scratch.path().join("found");
    fs::write(&file, found).with_context(|| format!("write {}", file.display()))?;
    let mut diff = Command::new("diff");
    diff.args(["--unified", "--label=expected", "--label=found"]).arg(path).arg(&file);
    Ok(command::run(&mut diff, Duration::from_secs(30))?.out())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_log_are_told_from_others() {
        assert_eq!(log_line("WARN[0003] no match", "WARN").as_deref(), Some("no match"));
        assert_eq!(log_line("WARN[0003] no match", "INFO"), None);
        assert_eq!(log_line("WARNING: x", "WARN"), None);
    }

    #[test]
    fn every_case_says_what_it_expects() {
        for case in all().unwrap() {
            let expects = ["expected", "expected-error"].map(|kind| case.folder.join(kind).is_file());
            assert_ne!(expects[0], expects[1], "{} has one of expected and expected-error", case.name);
        }
    }
}
