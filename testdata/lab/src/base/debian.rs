//! A Debian root file system by mmdebstrap, from wherever this machine takes its own packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::ErrorFile;
use crate::command::{explained, must};
use crate::layout::{Layer, Layout};
use crate::packing::Packing;
use crate::{Scratch, packages};

/// The release that the recipes are made for: other ones have other versions of Java and of maven's plugins.
const RELEASE: &str = "bookworm";

/// Installs these packages on top of the smallest Debian, runs the hook on the tree, and packs it as a layer.
pub(super) fn layer(layout: &Layout, scratch: &Scratch, include: &[&str], hook: Option<&str>) -> Result<Layer> {
    packages::ensure(&["mmdebstrap"])?;
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase"]);
    command.arg(format!("--include={}", include.join(",")));
    command.arg(format!("--aptopt={}", apt_options(scratch)?.display()));
    // How this machine gets its packages is nobody's business who looks into the image.
    command.arg("--customize-hook=rm -f \"$1\"/etc/apt/apt.conf.d/99mmdebstrap \"$1\"/etc/apt/sources.list");
    command.arg("--customize-hook=rm -rf \"$1\"/etc/apt/sources.list.d/* \"$1\"/var/log/apt \"$1\"/var/log/dpkg.log");
    if let Some(hook) = hook {
        let path = scratch.path().join("hook.sh");
        fs::write(&path, hook).with_context(|| format!("write {}", path.display()))?;
        command.arg(format!("--customize-hook=sh {} \"$1\"", path.display()));
    }
    command.args([RELEASE, "-"]).args(sources(scratch)?);
    command.env("TMPDIR", scratch.folder("mmdebstrap")?).env("SOURCE_DATE_EPOCH", "1577836800");

    let errors = ErrorFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors.writer()?);
    let mut child = command.spawn().map_err(|error| explained(&command, error))?;
    let mut stdout = child.stdout.take().expect("it was asked for");
    let layer = layout.put_layer(&mut stdout, Packing::Gzip);
    drop(stdout);
    errors.check(child.wait().context("wait for mmdebstrap")?, "mmdebstrap")?;
    layer
}

/// Fills a folder that becomes an image's /etc/apt: with it, packages are installed from where this machine has them.
pub(crate) fn apt_of_the_machine(folder: &Path) -> Result<()> {
    let scratch = Scratch::new()?;
    let (lists, options) = (folder.join("sources.list.d"), folder.join("apt.conf.d"));
    for folder in [&lists, &options] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let sources = sources(&scratch)?.into_iter().map(|path| (path, &lists));
    for (path, folder) in sources.chain([(apt_options(&scratch)?, &options)]) {
        let name = path.file_name().context("it was given a name")?;
        fs::copy(&path, folder.join(name)).with_context(|| format!("copy {}", path.display()))?;
    }
    Ok(())
}

/// The machine's own sources of this release, without those of other vendors: files that mmdebstrap can read.
fn sources(scratch: &Scratch) -> Result<Vec<PathBuf>> {
    let folder = Path::new("/etc/apt/sources.list.d");
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()));
    files.sort();
    let mut lines = String::new();
    let mut stanzas = String::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => {
                lines.extend(text.lines().filter(|line| is_line_of_release(line)).map(|line| format!("{line}\n")));
            }
            Some("sources") => {
                stanzas.extend(
                    text.split("\n\n")
                        .filter(|stanza| is_stanza_of_release(stanza))
                        .map(|stanza| format!("{stanza}\n\n")),
                );
            }
            _ => {}
        }
    }
    ensure!(
        !(lines.is_empty() && stanzas.is_empty()),
        "the base images need Debian 12: no source of packages below /etc/apt has the release {RELEASE}"
    );
    let mut found = Vec::new();
    for (name, text) in [("machine.list", lines), ("machine.sources", stanzas)] {
        if !text.is_empty() {
            let path = scratch.path().join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            found.push(path);
        }
    }
    Ok(found)
}

fn is_suite_of_release(word: &str) -> bool {
    word.strip_prefix(RELEASE).is_some_and(|rest| matches!(rest, "" | "-updates" | "-security"))
}

/// `deb [options] URI suite components`, its suite one of the release's and `main` among its components.
fn is_line_of_release(line: &str) -> bool {
    let line = line.trim();
    let Some(rest) = line.strip_prefix("deb ") else { return false };
    let rest = rest.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
    let mut words = rest.split_whitespace().skip(1);
    words.next().is_some_and(is_suite_of_release) && words.any(|component| component == "main")
}

/// A paragraph of deb822 with such a suite and component, and not disabled.
fn is_stanza_of_release(stanza: &str) -> bool {
    let field = |name: &str| {
        stanza
            .lines()
            .find_map(|line| line.split_once(':').filter(|(field, _)| field.eq_ignore_ascii_case(name)))
            .map_or("", |(_, value)| value)
    };
    field("Types").split_whitespace().any(|kind| kind == "deb")
        && field("Suites").split_whitespace().any(is_suite_of_release)
        && field("Components").split_whitespace().any(|component| component == "main")
        && !matches!(field("Enabled").trim(), "no" | "false")
}

/// What the machine's apt is told about proxies, time-outs and dates: mmdebstrap's apt would not know.
fn apt_options(scratch: &Scratch) -> Result<PathBuf> {
    const PREFIXES: [&str; 5] =
        ["Acquire::http", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIPv4", "Acquire::Languages"];
    let dump = must(Command::new("apt-config").arg("dump"))?;
    let lines: Vec<_> = dump
        .lines()
        .filter(|line| PREFIXES.iter().any(|prefix| line.starts_with(prefix)) && !line.ends_with("\"\";"))
        .collect();
    let path = scratch.path().join("machine-apt.conf");
    fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_release_are_told_from_those_of_other_vendors() {
        assert!(is_line_of_release("deb http://mirror.example/debian bookworm main"));
        assert!(is_line_of_release(" deb  [arch=amd64 signed-by=/k.gpg] http://m/d bookworm-updates contrib main"));
        assert!(!is_line_of_release("# deb http://mirror.example/debian bookworm main"));
        assert!(!is_line_of_release("deb-src http://mirror.example/debian bookworm main"));
        assert!(!is_line_of_release("deb http://vendor.example/apt cloud-sdk-bookworm main"));
        assert!(!is_line_of_release("deb http://vendor.example/apt bookworm stable"));
        let stanza = "Types: deb\nURIs: http://m/d\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert!(is_stanza_of_release(stanza));
        assert!(!is_stanza_of_release(&stanza.replace("bookworm", "nodistro")));
        assert!(!is_stanza_of_release(&format!("{stanza}Enabled: no\n")));
    }
}
