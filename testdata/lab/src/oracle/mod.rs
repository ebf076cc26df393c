//! The oracle: what builders that are not zuwai make of the cases, beside what each case expects of zuwai. Where they differ, the
//! difference is written down, line for line, in `testdata/differences/<builder>/<case>`, and its reason in
//! `testdata/differences.md`; anything else that differs is a fault of one of the two.
//!
//! zuwai itself does not run here: that it makes what a case expects is tested elsewhere.

mod buildah;
mod differences;
mod dockerd;
mod shown;
mod subject;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

pub use buildah::Buildah;
pub use differences::Differences;
pub use dockerd::Dockerd;
pub use subject::{Subject, subjects};

use crate::base::Known;
use crate::layout::Layout;
use crate::{Scratch, render};
use shown::Shown;

/// What a builder is given.
#[derive(Debug)]
pub struct Inputs {
    /// The subject's name.
    pub name: String,
    /// The build context.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: PathBuf,
    /// Further flags, of those that `docker build` and `buildah bud` have in common.
    pub flags: Vec<String>,
}

/// What became of it.
#[derive(Debug)]
pub enum Answer {
    /// An image.
    Image(Layout),
    /// Nothing, and the reason.
    Refused(String),
}

/// What of two images is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Config, history, and every layer.
    Layers,
    /// Config, and what all layers together are.
    Result,
}

/// A builder that knows nothing of zuwai.
pub trait Reference: Sync {
    /// Its name: a folder of `testdata/differences`.
    fn name(&self) -> &'static str;

    /// What of its images is compared.
    fn aspect(&self) -> Aspect {
        Aspect::Layers
    }

    /// Builds. What it says no to is an answer; an error is the lab's.
    fn build(&self, inputs: &Inputs, scratch: &Scratch) -> Result<Answer>;
}

/// How a comparison ended.
#[derive(Debug, Default)]
pub struct Report {
    /// How many came out as expected.
    pub same: usize,
    /// How many differ as it is written down.
    pub known: usize,
    /// What cannot be asked: it is about what zuwai alone has; the reason behind each name.
    pub own: Vec<String>,
    /// What differs otherwise.
    pub wrong: Vec<String>,
}

/// Has subjects built, two at a time, and compares. With `bless`, differences that are not written down are; their reasons are
/// for a person to write.
pub fn compare(reference: &dyn Reference, subjects: &[Subject], known: &[Known], bless: bool) -> Result<Report> {
    let differences = Differences::read(reference.name())?;
    let report = Mutex::new(Report::default());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = difference(reference, subject, known);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            match found {
                Ok(Found::Own(why)) => report.own.push(format!("{}: {why}", subject.name)),
                Ok(Found::Difference(found)) => match differences.judge(&subject.name, &found, bless) {
                    Ok(true) => report.known += 1,
                    Ok(false) => report.same += 1,
                    Err(wrong) => report.wrong.push(format!("--- {}\n{wrong:#}", subject.name)),
                },
                Err(error) => report.wrong.push(format!("--- {}\n{error:#}", subject.name)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.own.sort();
    report.wrong.sort();
    Ok(report)
}

enum Found {
    /// The lines, empty where there are none.
    Difference(String),
    /// Why nobody else can be asked.
    Own(String),
}

fn difference(reference: &dyn Reference, subject: &Subject, known: &[Known]) -> Result<Found> {
    let scratch = Scratch::new()?;
    let inputs = match subject.inputs(&scratch)? {
        Ok(inputs) => inputs,
        Err(why) => return Ok(Found::Own(why)),
    };
    let answer = reference.build(&inputs, &scratch)?;
    let difference = match (subject.expected()?, answer) {
        (None, Answer::Refused(_)) => String::new(),
        (None, Answer::Image(_)) => "it is built, and zuwai refuses it\n".to_owned(),
        (Some(_), Answer::Refused(why)) => format!("refused: {}\n", steady(&why)),
        (Some(expected), Answer::Image(layout)) => {
            let aspect = reference.aspect();
            let theirs = Shown::read(&render::image(&layout, known).context("look at the image")?)?.lines(aspect)?;
            let ours = Shown::read(&expected)?.lines(aspect)?;
            differences::lines(&ours, &theirs)
        }
    };
    Ok(Found::Difference(difference))
}

/// What a builder says last is mostly why it failed.
fn last_words(said: &str) -> String {
    said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// A message without what is another in every run: paths, addresses, names made up.
fn steady(message: &str) -> String {
    let word = |word: &str| {
        let random = word.len() >= 12 && word.bytes().any(|byte| byte.is_ascii_digit());
        if word.contains('/') || random { "…".to_owned() } else { word.to_owned() }
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
