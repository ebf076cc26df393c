//! One test for each folder of `testdata/cases`, in the container: its name is the test's. `ZUWAI_BLESS=1` writes what comes out
//! as what is expected; the difference is then for a person to read. And one test for each other place that zuwai builds in,
//! which runs all of them there and expects the same.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use zuwai_lab::Scratch;
use zuwai_lab::case::{self, Case, Place, Stand};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn trials(arguments: &Arguments) -> anyhow::Result<Vec<Trial>> {
    let cases = case::all()?;
    // Made by the thread that outlives the tests, since the registry ends with the thread that started it.
    let container = if arguments.list || is_one_place(arguments) {
        None
    } else {
        let bless = std::env::var_os("ZUWAI_BLESS").is_some_and(|value| value == "1");
        Some(Arc::new(stand(Place::Container, bless)?))
    };
    let trial = |case: &Case| {
        let (stand, case) = (container.clone(), case.clone());
        Trial::test(case.name.clone(), move || {
            let stand = stand.ok_or("the tests were listed and not run")?;
            if !stand.takes(&case).map_err(failed)? {
                return Ok(());
            }
            stand.run(&case).map_err(failed)
        })
    };
    let mut trials: Vec<Trial> = cases.iter().map(trial).collect();
    for place in PLACES {
        let cases = cases.clone();
        trials.push(Trial::test(format!("{ALL}{}", place.name()), move || everywhere(place, &cases).map_err(failed)));
    }
    trials.push(Trial::test(CACHED, move || cached(&cases).map_err(failed)));
    Ok(trials)
}

/// The places where all cases are one test: they share what is made once for all of them.
const PLACES: [Place; 2] = [Place::Root, Place::User];
const ALL: &str = "all-cases-";

/// The test that builds some cases without a cache, with an empty one, and with a full one.
const CACHED: &str = "all-cases-with-and-without-a-cache";
/// Every so manieth case is one of them.
const SOME: usize = 6;

/// Whether nothing is to be run but the cases in such a place: then no container is needed.
fn is_one_place(arguments: &Arguments) -> bool {
    arguments.filter.as_ref().is_some_and(|filter| filter.starts_with(ALL))
}

/// With and without a cache the same image comes out, digest by digest; `ZUWAI_CASE` names the cases to build.
fn cached(cases: &[Case]) -> anyhow::Result<()> {
    let stand = stand(Place::Root, false)?;
    let wanted = std::env::var("ZUWAI_CASE").ok();
    let some = cases.iter().enumerate().filter(|(number, case)| match &wanted {
        Some(wanted) => case.name.contains(wanted),
        None => number % SOME == 0,
    });
    let (mut wrong, mut built) = (Vec::new(), 0);
    for (_, case) in some {
        // What a cache mount holds decides what a command that copies it makes, and the next build finds it.
        if !stand.takes(case)? || case.name.starts_with("mount-cache") {
            continue;
        }
        let kept = Scratch::new()?;
        let plain = vec!["--reproducible".to_owned()];
        let place = format!("--cache-repo=oci:{}", kept.path().join("kept").display());
        let cached = [plain.clone(), vec!["--cache=true".to_owned(), place]].concat();
        match stand.digests(case, &[&plain, &cached, &cached]) {
            Ok(Some(digests)) if digests.iter().all(|digest| *digest == digests[0]) => built += 1,
            Ok(None) => {}
            other => wrong.push(format!("--- {}\n{other:?}", case.name)),
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{} cases came out differently\n{}", wrong.len(), wrong.join("\n"));
    anyhow::ensure!(built > 0, "no case was built");
    Ok(())
}

fn stand(place: Place, bless: bool) -> anyhow::Result<Stand> {
    Stand::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), place, bless)
}

/// Every case, in one place, several at a time; `ZUWAI_CASE` names those to run. What came out differently is told
/// together.
fn everywhere(place: Place, cases: &[Case]) -> anyhow::Result<()> {
    let stand = stand(place, false)?;
    let wanted = std::env::var("ZUWAI_CASE").unwrap_or_default();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = match stand.takes(case) {
                Ok(true) if case.name.contains(&wanted) => stand.run(case),
                other => other.map(drop),
            };
            if let Err(error) = done {
                wrong.lock().expect("nobody panics with it").push(format!("--- {}\n{error:#}", case.name));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let wrong = wrong.into_inner().expect("nobody panics with it");
    anyhow::ensure!(wrong.is_empty(), "{} cases came out differently\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}
