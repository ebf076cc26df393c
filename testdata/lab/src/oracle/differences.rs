//! Differences that are known: each line of them in a file, and a reason for each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::places;

/// What is written down of one builder.
#[derive(Debug)]
pub struct Differences {
    folder: PathBuf,
    /// The subjects that `testdata/differences.md` has a reason for.
    explained: BTreeSet<String>,
}

impl Differences {
    /// Reads what is written down of a builder.
    pub fn read(builder: &str) -> Result<Self> {
        let path = places::testdata().join("differences.md");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let explained = explained(&text, builder)?;
        Ok(Self { folder: places::testdata().join("differences").join(builder), explained })
    }

    /// Whether a subject differs as it is written down (`true`), or not at all (`false`); an error where it is neither.
    pub(super) fn judge(&self, name: &str, found: &str, bless: bool) -> Result<bool> {
        let path = self.folder.join(name);
        let written = fs::read_to_string(&path).unwrap_or_default();
        if bless && written != found {
            if found.is_empty() {
                fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            } else {
                let folder = path.parent().context("it is in a folder")?;
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&path, found))
                    .with_context(|| format!("write {}", path.display()))?;
            }
        } else if written != found {
            bail!("it differs in another way than {} says (`-` is what zuwai makes):\n{found}", path.display());
        }
        let explained = self.explained.contains(name);
        ensure!(explained || found.is_empty(), "testdata/differences.md has no reason for it:\n{found}");
        ensure!(!explained || !found.is_empty(), "testdata/differences.md has a reason for it, and it does not differ");
        Ok(!found.is_empty())
    }

    /// Subjects that are written down and that there are not.
    pub fn stale(&self, subjects: &[super::Subject]) -> Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.explained.clone();
        for folder in ["", "malformed"] {
            for entry in fs::read_dir(self.folder.join(folder)).into_iter().flatten() {
                let entry = entry.context("list the differences")?;
                if entry.path().is_file() {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    names.insert(if folder.is_empty() { name } else { format!("{folder}/{name}") });
                }
            }
        }
        Ok(names.into_iter().filter(|name| subjects.iter().all(|subject| subject.name != *name)).collect())
    }
}

/// The subjects listed under the heading of a builder: lines that begin with ``- `name` ``.
fn explained(text: &str, builder: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("# ") {
            inside = heading.split(' ').next() == Some(builder);
        } else if let Some(item) = line.strip_prefix("- `").filter(|_| inside) {
            let (name, _) = item.split_once('`').with_context(|| format!("a name without its end: {line}"))?;
            ensure!(names.insert(name.to_owned()), "{name} is explained twice for {builder}");
        }
    }
    Ok(names)
}

/// The lines that differ: `-` what is expected of zuwai, `+` what the other made; each part of them behind a line `@@`.
pub(super) fn lines(ours: &[String], theirs: &[String]) -> String {
    // The longest common subsequence, by its table: texts have some hundred lines.
    let (rows, columns) = (ours.len(), theirs.len());
    let mut longest = vec![vec![0_u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            longest[row][column] = if ours[row] == theirs[column] {
                longest[row + 1][column + 1] + 1
            } else {
                longest[row + 1][column].max(longest[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut out, mut apart) = (0, 0, String::new(), true);
    while row < rows || column < columns {
        if row < rows && column < columns && ours[row] == theirs[column] {
            (row, column, apart) = (row + 1, column + 1, true);
            continue;
        }
        if std::mem::take(&mut apart) {
            out.push_str("@@\n");
        }
        if column == columns || (row < rows && longest[row + 1][column] >= longest[row][column + 1]) {
            let _ = writeln!(out, "-{}", ours[row]);
            row += 1;
        } else {
            let _ = writeln!(out, "+{}", theirs[column]);
            column += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ours: &[&str], theirs: &[&str]) -> String {
        let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        lines(&owned(ours), &owned(theirs))
    }

    #[test]
    fn lines_that_differ_are_told_with_their_side() {
        assert_eq!(of(&["a", "b"], &["a", "b"]), "");
        assert_eq!(of(&["a", "b", "c"], &["a", "x", "c", "d"]), "@@\n-b\n+x\n@@\n+d\n");
        assert_eq!(of(&[], &["a"]), "@@\n+a\n");
    }

    #[test]
    fn names_are_read_under_their_builder() {
        let text = "# dockerd\n## reason\ntext `x`\n- `a`\n- `b`: more\n# buildah\n- `c`\n";
        assert_eq!(explained(text, "dockerd").unwrap().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(explained(text, "buildah").unwrap().into_iter().collect::<Vec<_>>(), ["c"]);
        assert!(explained("# dockerd\n- `a`\n- `a`\n", "dockerd").is_err());
    }
}
