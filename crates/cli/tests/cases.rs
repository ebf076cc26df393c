//! One test for each folder of `testdata/cases`: its name is the test's. `ZUWAI_BLESS=1` writes what comes out as what is
//! expected; the difference is then for a person to read.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use zuwai_lab::case::{self, Stand};

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
    let stand = if arguments.list {
        None
    } else {
        let bless = std::env::var_os("ZUWAI_BLESS").is_some_and(|value| value == "1");
        Some(Arc::new(Stand::new(Path::new(env!("CARGO_BIN_EXE_zuwai")), bless)?))
    };
    let trial = |case: case::Case| {
        let stand = stand.clone();
        Trial::test(case.name.clone(), move || {
            let stand = stand.ok_or("the tests were listed and not run")?;
            stand.run(&case).map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    Ok(cases.into_iter().map(trial).collect())
}
