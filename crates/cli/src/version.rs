//! What `version` prints.

/// Under Kaniko's name the line has Kaniko's shape, two blanks included: scripts cut it apart.
pub(crate) fn version(program: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if program == "executor" { format!("Kaniko version :  v{version}") } else { format!("zuwai version v{version}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executor_prints_what_kaniko_does() {
        assert!(version("executor").starts_with("Kaniko version :  v"));
        assert!(version("zuwai").starts_with("zuwai version v"));
    }
}
