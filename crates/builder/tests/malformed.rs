//! What a user is told of a Dockerfile that is wrong: one test for all of `testdata/malformed`, in this process. Each
//! `NAME.Dockerfile` has its `NAME.error`: place, message, the lines, a way out. `ZUWAI_BLESS=1` writes what comes out.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use zuwai_builder::{SyntaxError, check_dockerfile};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/malformed")
}

/// The error as the command line shows it, without its frame.
fn shown(error: &SyntaxError) -> String {
    let mut text = format!("{}: {error}\n", error.span());
    let mut cause = error.source();
    while let Some(next) = cause {
        writeln!(text, "  caused by: {next}").unwrap();
        cause = next.source();
    }
    for line in error.span().excerpt(1) {
        let mark = if line.inside { ">>>" } else { "   " };
        let shown: String = line.text.chars().take(120).collect();
        writeln!(text, "{:>4} | {mark} {shown}", line.number).unwrap();
    }
    if let Some(hint) = error.hint() {
        writeln!(text, "  hint: {hint}").unwrap();
    }
    text
}

#[test]
fn every_malformed_dockerfile_is_refused_with_its_place_and_its_words() {
    let bless = std::env::var_os("ZUWAI_BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "Dockerfile") {
            continue;
        }
        count += 1;
        let text = fs::read(&path).unwrap();
        let found = match check_dockerfile(&text, "Dockerfile", &[]) {
            Ok(()) => "accepted\n".to_owned(),
            Err(error) => shown(&error),
        };
        let expected = path.with_extension("error");
        if bless && found != "accepted\n" {
            fs::write(&expected, &found).unwrap();
        } else if !bless && fs::read_to_string(&expected).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
        if !found.starts_with("Dockerfile:") {
            wrong.push(format!("{} is accepted", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 80, "there are {count} of them");
}

/// Every Dockerfile of the test data.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(folder()).unwrap().chain(fs::read_dir(folder().join("../cases")).unwrap()) {
        let path = entry.unwrap().path();
        let path = if path.is_dir() { path.join("Dockerfile") } else { path };
        if path.extension().is_none_or(|extension| extension == "Dockerfile") {
            seeds.extend(fs::read(path).ok().filter(|text| text.len() < 10_000));
        }
    }
    seeds
}

/// A generator of numbers that are the same in every run (Knuth's MMIX).
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 40).unwrap()
}

#[test]
fn no_mixture_of_dockerfiles_is_more_than_refused() {
    const PIECES: [&str; 16] = [
        "\\\n", "\n", "<<EOF", "<<-'A'", "${", "}", "\"", "'", "$", "`", "--mount=", "[", "ONBUILD ", "\r\n", "#", "\0",
    ];
    // ZUWAI_FUZZ_ROUNDS=1000000 for a long run.
    let rounds = std::env::var("ZUWAI_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000);
    let seeds = seeds();
    assert!(seeds.len() > 200);
    let mut state = 42;
    for round in 0..rounds {
        let mut text = seeds[next(&mut state) % seeds.len()].clone();
        for _ in 0..=(next(&mut state) % 6) {
            let at = next(&mut state) % (text.len() + 1);
            match next(&mut state) % 4 {
                0 => drop(text.splice(at..at, PIECES[next(&mut state) % PIECES.len()].bytes())),
                1 => {
                    let end = (at + next(&mut state) % 20).min(text.len());
                    drop(text.splice(at..end, []));
                }
                2 => {
                    let other = &seeds[next(&mut state) % seeds.len()];
                    let from = next(&mut state) % (other.len() + 1);
                    let to = (from + next(&mut state) % 60).min(other.len());
                    drop(text.splice(at..at, other[from..to].iter().copied()));
                }
                _ => text.truncate(at),
            }
        }
        let begin = std::time::Instant::now();
        let _ = check_dockerfile(&text, "Dockerfile", &[]);
        let took = begin.elapsed();
        assert!(took.as_secs() < 5, "round {round} took {took:?}: {:?}", String::from_utf8_lossy(&text));
    }
}

#[test]
fn a_file_that_is_ten_times_as_long_takes_about_ten_times_as_long() {
    let time = |lines: usize| {
        let text = format!("FROM a\n{}", "ENV a=${b:-$c} d=\"e f\" \\\n  g=h\nRUN <<E\nx\nE\nCOPY a b\n".repeat(lines));
        let begin = std::time::Instant::now();
        check_dockerfile(text.as_bytes(), "Dockerfile", &[]).unwrap();
        begin.elapsed()
    };
    time(100);
    let (short, long) = (time(400).max(std::time::Duration::from_millis(2)), time(4_000));
    assert!(long < short * 60, "{short:?} for one part and {long:?} for ten");
}

#[test]
fn no_kind_of_long_file_takes_more_time_than_its_length_explains() {
    const PARTS: usize = 100_000;
    let many = |part: &dyn Fn(usize) -> String| (0..PARTS).map(part).collect::<String>();
    let texts = [
        format!("FROM a\nRUN x{}", many(&|_| " \\\n y".to_owned())),
        format!("FROM a\nRUN x \\\n{} y", many(&|_| " # c\n".to_owned())),
        format!("FROM a\nRUN x \\\n{} y", many(&|_| "\n".to_owned())),
        many(&|number| format!("FROM a AS s{number}\n")),
        many(&|number| format!("FROM s{} AS s{number}\n", number.wrapping_sub(1))),
        format!("{}FROM a\n", many(&|number| format!("ARG a{number}=b\n"))),
        format!("FROM a\nENV {}x=y", many(&|number| format!("a{number}=b \\\n"))),
        format!("FROM a\n{}", many(&|number| format!("ENV a{number}=b\n"))),
        format!("FROM a\n{}", many(&|number| format!("ENV a=$a{number}\n"))),
        format!("FROM a\nLABEL {}x=y", many(&|number| format!("a{number}=b \\\n"))),
        format!("FROM a\n{}", many(&|number| format!("ARG a{number}=b\n"))),
        format!("FROM a\nRUN {}x", many(&|number| format!("--mount=type=tmpfs,target=/m{number} \\\n"))),
        format!("FROM a\nCOPY {}a b", many(&|number| format!("--exclude=a{number} \\\n"))),
        format!("FROM a\nCOPY {} b/", many(&|number| format!("a{number} \\\n"))),
        format!("FROM a\n{}", many(&|_| "RUN <<E\nx\nE\n".to_owned())),
        format!(
            "FROM a\nCOPY {} /d/\n{}",
            many(&|number| format!("<<E{number} \\\n")),
            many(&|number| format!("E{number}\n"))
        ),
        format!("FROM a\nCMD [{}\"x\"]", many(&|_| "\"a\", \\\n".to_owned())),
        format!("FROM a\nVOLUME {}/x", many(&|number| format!("/a{number} \\\n"))),
        format!("FROM a\n{}", many(&|_| "ONBUILD RUN x\n".to_owned())),
        format!("FROM a\nENV a={}", many(&|_| "${b:-\"c d\"}\\\n".to_owned())),
    ];
    for text in texts {
        let begin = std::time::Instant::now();
        check_dockerfile(text.as_bytes(), "Dockerfile", &[]).unwrap_or_else(|error| panic!("{error}"));
        let took = begin.elapsed();
        let beginning: String = text.chars().take(60).collect();
        // What grows with the square of the number of parts takes minutes.
        assert!(took.as_secs() < 10, "{took:?} for {beginning:?}…");
    }
}
