//! Bytes as a Dockerfile: it is refused or it is read, and what is read is printed and read as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zuwai_builder::{check_dockerfile, print_dockerfile};

fuzz_target!(|text: &[u8]| {
    let given = [("a".to_owned(), "given".to_owned())];
    let _ = check_dockerfile(text, "Dockerfile", &given);
    if let Ok(printed) = print_dockerfile(text, "Dockerfile") {
        let again = print_dockerfile(printed.as_bytes(), "Dockerfile").expect("what was printed can be read");
        assert_eq!(printed, again);
    }
});
