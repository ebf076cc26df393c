//! `cargo xtask conformance`: every case, built by builders that are not zuwai, and compared with what it expects.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use zuwai_lab::base::{self, Base};
use zuwai_lab::oracle::{self, Buildah, Differences, Dockerd, Reference, Subject};
use zuwai_lab::packages;
use zuwai_lab::registry::Options;

/// `[dockerd|buildah] [part of a name]`; `ZUWAI_BLESS=1` writes differences down.
pub(crate) fn run(words: &[String]) -> Result<()> {
    packages::ensure(&["docker.io", "runc", "buildah", "docker-registry", "busybox-static", "mmdebstrap"])?;
    let bless = std::env::var_os("ZUWAI_BLESS").is_some_and(|value| value == "1");
    let (builder, name) = match words {
        [] => (None, ""),
        [word] if BUILDERS.contains(&word.as_str()) => (Some(word.as_str()), ""),
        [name] => (None, name.as_str()),
        [builder, name] if BUILDERS.contains(&builder.as_str()) => (Some(builder.as_str()), name.as_str()),
        _ => bail!("`cargo xtask conformance` takes one of {} and a part of a name", BUILDERS.join(", ")),
    };
    let bases = [Base::Busybox, Base::Debian];
    let registry = base::mirror(&bases, &Options::default())?;
    let mut known = Vec::new();
    for base in bases {
        known.extend(base.known()?);
    }
    let all = oracle::subjects()?;
    let subjects: Vec<Subject> = all.iter().filter(|subject| subject.name.contains(name)).cloned().collect();
    let mut wrong = Vec::new();
    for builder in BUILDERS.into_iter().filter(|one| builder.is_none_or(|wanted| wanted == *one)) {
        let begin = Instant::now();
        let reference: Box<dyn Reference> = match builder {
            "dockerd" => Box::new(Dockerd::start(&registry)?),
            _ => Box::new(Buildah::new(&registry)?),
        };
        // What is malformed is Docker's to say: buildah takes much of it.
        let asked = subjects.iter().filter(|subject| builder == "dockerd" || !subject.name.starts_with("malformed/"));
        let asked: Vec<Subject> = asked.cloned().collect();
        let report = oracle::compare(reference.as_ref(), &asked, &known, bless)?;
        println!(
            "{builder}: {} the same, {} different for a known reason, {} about zuwai alone, {} different ({:.0?})",
            report.same,
            report.known,
            report.own.len(),
            report.wrong.len(),
            begin.elapsed()
        );
        for own in &report.own {
            println!("  not asked: {own}");
        }
        wrong.extend(report.wrong.iter().map(|text| format!("{builder} {text}")));
        let stale = Differences::read(builder)?.stale(&all)?;
        wrong.extend(stale.into_iter().map(|name| format!("{builder} --- {name}\nthere is no such case any more")));
    }
    ensure!(wrong.is_empty(), "{} differences without a reason\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

const BUILDERS: [&str; 2] = ["dockerd", "buildah"];
