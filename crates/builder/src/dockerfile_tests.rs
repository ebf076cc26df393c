//! Whole files.

use proptest::prelude::*;

use super::*;
use crate::instruction::testing::chain;

fn parse(text: &str) -> Dockerfile {
    Dockerfile::parse(text.as_bytes(), "Dockerfile").unwrap()
}

#[test]
fn the_example_is_read_as_it_stands() {
    let dockerfile = parse(
        "FROM maven:3.5-jdk-11 as maven\nCOPY . .\nRUN mvn clean package -Dmaven.test.skip=true\n\
         FROM adoptopenjdk/openjdk11:jdk-11.0.9_11\nCOPY --from=maven target/app.jar app.jar\n\
         CMD [\"java\", \"-jar\", \"/app.jar\"]\n",
    );
    let [first, second] = dockerfile.stages.as_slice() else { panic!() };
    assert_eq!((first.name.as_deref(), first.from.image.as_str()), (Some("maven"), "maven:3.5-jdk-11"));
    assert_eq!((second.name.as_deref(), second.instructions.len()), (None, 2));
    assert_eq!(second.instructions[0].uses(), ["maven"]);
    assert_eq!(second.instructions[1].text, "CMD [\"java\", \"-jar\", \"/app.jar\"]");
    assert_eq!(second.instructions[1].span.to_string(), "Dockerfile:6");
    assert!(dockerfile.notices.is_empty());
}

#[test]
fn arguments_before_the_first_from_are_global() {
    let dockerfile = parse("ARG a=1 b\narg c\nFROM x\nARG d");
    let names: Vec<_> = dockerfile.global_args.iter().map(|arg| (arg.name.as_str(), arg.default.as_deref())).collect();
    assert_eq!(names, [("a", Some("1")), ("b", None), ("c", None)]);
    assert_eq!(dockerfile.stages[0].instructions.len(), 1);
}

#[test]
fn errors_have_place_and_words() {
    for (text, place, message) in [
        ("ARG a", "Dockerfile:1:1", "the file has no stage to build: there is no FROM"),
        ("ARG a\nRUN x\nFROM y", "Dockerfile:2:1", "RUN stands before the first FROM: only ARG can"),
        ("FROM a\nFOO b", "Dockerfile:2:1", "unknown instruction: FOO (did you mean FROM?)"),
        ("FROM a\n  INSTALL b", "Dockerfile:2:3", "unknown instruction: INSTALL"),
        ("FROM a\n\nrnu b", "Dockerfile:3:1", "unknown instruction: rnu (did you mean run?)"),
        ("FROM a\nCOPY --form=x \\\n  a b", "Dockerfile:2:6", "COPY has no flag --form (did you mean --from?)"),
        ("FROM a\nCOPY b \\\n<<E\nx\nE\n", "Dockerfile:2:6", "the heredoc <<E cannot be a destination"),
        (
            "FROM a AS 1",
            "Dockerfile:1:6",
            "`1` cannot name a stage: a name begins with a letter and goes on with letters, digits, `-`, `_`, `.`",
        ),
        ("FROM a\nENV x", "Dockerfile:2:5", "ENV x needs a value: ENV x=…"),
        ("FROM a\nENV", "Dockerfile:2:4", "ENV needs an argument"),
        ("", "Dockerfile:1:1", "the file has no instructions"),
    ] {
        let error = Dockerfile::parse(text.as_bytes(), "Dockerfile").unwrap_err();
        assert_eq!((error.span().to_string().as_str(), chain(&error).as_str()), (place, message), "{text}");
    }
}

#[test]
fn an_error_of_a_global_default_stands_at_its_line() {
    let dockerfile = parse("ARG a=1\nARG b=${a\nFROM x");
    let platform = zuwai_registry::Platform::new("linux", "amd64", None);
    let error = crate::settings::Globals::new(&dockerfile, &[], &platform, &platform, None).unwrap_err();
    assert_eq!((error.span().first_line, error.text()), (2, "ARG b=${a"));
}

#[test]
fn an_error_when_an_instruction_takes_effect_stands_at_its_line() {
    let dockerfile = parse("FROM scratch\nEXPOSE \\\n $p");
    let platform = zuwai_registry::Platform::new("linux", "amd64", None);
    let globals = crate::settings::Globals::new(&dockerfile, &[], &platform, &platform, None).unwrap();
    let mut settings = std::sync::Arc::new(globals).for_scratch();
    settings.set_env("p", "http");
    let error = dockerfile.stages[0].instructions[0].configure(&mut settings).unwrap_err();
    assert_eq!((error.span().first_line, error.span().last_line), (2, 3));
    assert_eq!(error.to_string(), "`http` is not a port: a port is a number");
    assert!(error.hint().is_some());
}

#[test]
fn what_is_odd_is_told() {
    let dockerfile = parse("FROM a AS x\nMAINTAINER me\nRUN a \\\n\n b\nFROM b AS X\nFROM c AS scratch");
    let lines: Vec<_> = dockerfile.notices.iter().map(|notice| notice.span.first_line).collect();
    assert_eq!(lines, [4, 2, 6, 7], "{:?}", dockerfile.notices);
}

#[test]
fn directives_are_noted() {
    let dockerfile = parse("# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM a");
    assert_eq!(dockerfile.escape(), '`');
    assert_eq!(dockerfile.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(dockerfile.directives.check.as_deref(), Some("skip=all"));
}

/// Every table row's keyword, and what can stand behind it.
fn instruction() -> impl Strategy<Value = String> {
    let keywords: Vec<&'static str> = instruction::INSTRUCTIONS.iter().map(|row| row.keyword).collect();
    (proptest::sample::select(keywords), "[-a-c0-9=:/$ {}'\"\\[\\],]{0,24}")
        .prop_map(|(keyword, rest)| format!("{keyword} {rest}"))
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused_and_takes_effect_or_not(lines in proptest::collection::vec(instruction(), 0..12)) {
        let text = format!("FROM scratch\n{}", lines.join("\n"));
        if let Ok(dockerfile) = Dockerfile::parse(text.as_bytes(), "Dockerfile") {
            let platform = zuwai_registry::Platform::new("linux", "amd64", None);
            if let Ok(globals) = crate::settings::Globals::new(&dockerfile, &[], &platform, &platform, None) {
                let globals = std::sync::Arc::new(globals);
                for stage in &dockerfile.stages {
                    let _ = stage.from.base(&globals);
                    let mut settings = globals.for_scratch();
                    for placed in &stage.instructions {
                        let _ = placed.configure(&mut settings);
                    }
                }
            }
        }
    }
}

/// Twice the text may take about twice the time. Measured generously: the machine does other things, too.
#[test]
fn reading_takes_time_in_proportion_to_the_text() {
    let time = |copies: usize| {
        let text = "FROM a\n".to_owned()
            + &"RUN a \\\n# x\n\n b ${c:-'d'} <<E\n$x\nE\nENV a=\"b c\" d=${e:-f}\nCOPY [\"a\", \"b\"]\n"
                .repeat(copies);
        let begin = std::time::Instant::now();
        let _ = syntax::parse(text.as_bytes(), "Dockerfile").unwrap();
        begin.elapsed()
    };
    time(1000);
    let (small, large) = (time(2000), time(16000));
    assert!(large < 40 * small.max(std::time::Duration::from_millis(1)), "{small:?} and {large:?}");
}
