//! `$BUILDER_OUTPUT/images`: what Google Cloud Build reads to learn what was pushed, one line of JSON an image.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use zuwai_registry::Digest;

#[derive(Serialize)]
struct Line {
    name: String,
    digest: String,
}

/// Writes the file into a folder that exists. Destinations are named as the user named them, as Kaniko has it.
pub(crate) fn write(folder: &Path, destinations: &[String], digest: &Digest) -> io::Result<()> {
    let mut text = String::new();
    for destination in destinations {
        let line = Line { name: destination.clone(), digest: digest.to_string() };
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
    }
    fs::write(folder.join("images"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_destination_is_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let destinations = ["a.example.com/x:1", "me/y"].map(str::to_owned);
        let digest = Digest::of(b"");
        write(folder.path(), &destinations, &digest).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("images")).unwrap(),
            format!(
                "{{\"name\":\"a.example.com/x:1\",\"digest\":\"{digest}\"}}\n{{\"name\":\"me/y\",\"digest\":\"{digest}\"}}\n"
            )
        );
    }
}
