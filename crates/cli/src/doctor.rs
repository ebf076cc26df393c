//! `zuwai doctor`: what this place allows, in one page that can be pasted into a report. Names of registries are in it, and
//! never what is known of them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use zuwai_builder::isolation::{Evidence, mount_points};

use crate::credentials::{self, Found};
use crate::environment::Environment;
use crate::error::Failure;
use crate::isolation::{Asked, Choice, Facts, Ids, chain};
use crate::work_place;

/// What is looked at.
pub(crate) struct Patient<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) own_folder: &'a Path,
    /// Whether that folder was named.
    pub(crate) named: bool,
    pub(crate) asked: Asked,
    pub(crate) current_directory: &'a Path,
}

/// One line, or a few, under a title.
struct Finding {
    title: &'static str,
    lines: Vec<String>,
}

/// The whole page.
pub(crate) fn report(patient: &Patient<'_>) -> String {
    let facts = Facts::find(patient.environment);
    let findings = [
        one("user", user(&facts)),
        one("capabilities", capabilities()),
        one("no new privileges", yes(status("NoNewPrivs") == "1")),
        one("seccomp", seccomp()),
        one("security modules", security_modules()),
        one("namespaces", namespaces(&facts)),
        one("container", container(&facts.evidence)),
        one("control groups", control_groups()),
        Finding { title: "mounts", lines: mounts() },
        Finding { title: "folders", lines: folders(patient) },
        Finding { title: "credentials", lines: credentials(patient) },
        one("clock", clock()),
        Finding { title: "isolation", lines: isolation(patient, &facts) },
    ];
    let mut page = String::new();
    for finding in findings {
        for (number, line) in finding.lines.iter().enumerate() {
            let title = if number == 0 { finding.title } else { "" };
            writeln!(page, "{title:18}{line}").expect("a string takes everything");
        }
    }
    page
}

fn one(title: &'static str, line: String) -> Finding {
    Finding { title, lines: vec![line] }
}

fn yes(is: bool) -> String {
    if is { "yes".to_owned() } else { "no".to_owned() }
}

/// The value of a line of /proc/self/status.
fn status(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn user(facts: &Facts) -> String {
    let group = rustix::process::getegid().as_raw();
    let ids = match &facts.ids {
        Ok(Ids::Own(u32::MAX)) => "all ids".to_owned(),
        Ok(Ids::Own(ids)) => format!("a user namespace with the ids 0 to {}", ids - 1),
        Ok(Ids::Subordinate(_)) => "with subordinate ids and newuidmap".to_owned(),
        Err(why) => why.clone(),
    };
    format!("{}, group {group}; {ids}", facts.uid)
}

fn capabilities() -> String {
    let Ok(sets) = rustix::thread::capabilities(None) else { return "unknown".to_owned() };
    let names: Vec<&str> = sets.effective.iter_names().map(|(name, _)| name).collect();
    match names.len() {
        0 => "none".to_owned(),
        _ if sets.effective.contains(CapabilitySet::SYS_ADMIN) => {
            format!("{} of them, SYS_ADMIN among them", names.len())
        }
        _ => names.join(" "),
    }
}

fn seccomp() -> String {
    match status("Seccomp").as_str() {
        "0" => "no filter".to_owned(),
        "2" => "a filter".to_owned(),
        mode => format!("mode {mode}"),
    }
}

fn security_modules() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim_matches(['\n', '\0', ' ']).to_owned();
    let (modules, label) = (read("/sys/kernel/security/lsm"), read("/proc/self/attr/current"));
    match (modules.is_empty(), label.is_empty()) {
        (true, true) => "none that can be seen".to_owned(),
        (true, false) => label,
        (false, true) => modules,
        (false, false) => format!("{modules}; this process: {label}"),
    }
}

fn namespaces(facts: &Facts) -> String {
    match &facts.namespaces {
        Ok(()) if facts.uid == 0 => "allowed".to_owned(),
        Ok(()) => "allowed, inside a user namespace".to_owned(),
        Err(error) => format!("not allowed: {}", chain(error)),
    }
}

fn container(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Container(why) => format!("yes: {why}"),
        Evidence::Machine(why) => format!("no: {why}"),
        Evidence::Unknown => "nothing shows one, and nothing shows a machine".to_owned(),
    }
}

fn control_groups() -> String {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return "version 2".to_owned();
    }
    let unified = Path::new("/sys/fs/cgroup/unified").exists();
    if unified { "versions 1 and 2".to_owned() } else { "version 1, or none".to_owned() }
}

/// What of the mount points is not the kernel's.
fn mounts() -> Vec<String> {
    let points = match mount_points(Path::new("/proc/self/mountinfo")) {
        Ok(points) => points,
        Err(error) => return vec![error.to_string()],
    };
    let kernel = ["/proc", "/sys", "/dev"];
    let mut lines: Vec<String> = points
        .iter()
        .filter(|point| kernel.iter().all(|folder| !point.starts_with(folder)))
        .map(|point| point.display().to_string())
        .collect();
    lines.push(format!("and {} below /proc, /sys and /dev", points.len() - lines.len()));
    lines
}

fn folders(patient: &Patient<'_>) -> Vec<String> {
    let work = work_place::folder(patient.own_folder, patient.named, patient.environment);
    let mut folders = vec![PathBuf::from("/"), work.clone()];
    for folder in [patient.current_directory, patient.own_folder, Path::new("/tmp")] {
        if !folders.iter().any(|known| known == folder) && folder.exists() {
            folders.push(folder.to_owned());
        }
    }
    let line = |folder: &PathBuf| {
        let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok();
        let mut nearest = folder.as_path();
        while !nearest.exists() {
            nearest = nearest.parent().unwrap_or(Path::new("/"));
        }
        let free = rustix::fs::statvfs(nearest).map_or(0, |facts| facts.f_bavail.saturating_mul(facts.f_frsize));
        let what = match (folder.exists(), writable) {
            (false, _) => "not there yet",
            (true, true) => "writable",
            (true, false) => "not writable",
        };
        let use_of = if *folder == work { ", where builds work" } else { "" };
        format!("{}: {what}, {}.{} GB free{use_of}", folder.display(), free / 1_000_000_000, free / 100_000_000 % 10)
    };
    folders.iter().map(line).collect()
}

fn credentials(patient: &Patient<'_>) -> Vec<String> {
    let found = credentials::found(patient.environment, patient.own_folder);
    if found.is_empty() {
        return vec!["none".to_owned()];
    }
    found.into_iter().map(|Found { source, registries }| format!("{source}: {registries}")).collect()
}

fn clock() -> String {
    let now = jiff::Timestamp::now();
    // Whoever built this program had a clock, too: certificates are not valid before they are made.
    let built = jiff::Timestamp::constant(1_763_000_000, 0);
    let wrong = if now < built { "; this is too early, and certificates will seem to be of the future" } else { "" };
    format!("{}{wrong}", now.strftime("%FT%TZ"))
}

fn isolation(patient: &Patient<'_>, facts: &Facts) -> Vec<String> {
    let chosen = match facts.choose(patient.asked) {
        Ok(choice) => choice,
        Err(failure) => return vec![refusal(&failure)],
    };
    match chosen {
        Choice::Namespace(None) => vec!["namespace: root may lay mounts here".to_owned()],
        Choice::Namespace(Some(_)) => {
            vec!["namespace: user namespaces are allowed, and there are ids for one".to_owned()]
        }
        Choice::Direct => direct(facts),
        Choice::FilesOnly(no) => {
            vec![format!("files alone, no RUN: {}", no.why), format!("hint: {}", no.hint)]
        }
    }
}

fn direct(facts: &Facts) -> Vec<String> {
    match (&facts.evidence, facts.uid) {
        (Evidence::Container(_), 0) => {
            let more = match &facts.namespaces {
                Ok(()) => "; --isolation=namespace can be had, too: a command then sees nothing of the container",
                Err(_) => "",
            };
            vec![format!("direct: this is a container's root{more}")]
        }
        (Evidence::Container(_), uid) => vec![format!("none: direct needs root, and this is user {uid}")],
        (Evidence::Machine(why), _) => {
            vec![format!("none: namespaces are not allowed, and direct is not for a machine ({why})")]
        }
        (Evidence::Unknown, _) => {
            vec!["none, but direct with --force: namespaces are not allowed, and nothing shows a container".to_owned()]
        }
    }
}

fn refusal(failure: &Failure) -> String {
    failure.text().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_of_everything_and_shows_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".docker")).unwrap();
        let config = r#"{"auths":{"a.example.com":{"auth":"dTpodW50ZXIy"}},"credHelpers":{"b.example.com":"x"}}"#;
        fs::write(folder.path().join(".docker/config.json"), config).unwrap();
        let home = folder.path().to_str().unwrap();
        let environment = Environment::of(&[
            ("HOME", home),
            ("KANIKO_C_EXAMPLE_COM_USER", "u"),
            ("KANIKO_C_EXAMPLE_COM_PASSWORD", "hunter2"),
        ]);
        let patient = Patient {
            environment: &environment,
            own_folder: folder.path(),
            named: false,
            asked: Asked::Auto,
            current_directory: folder.path(),
        };
        let page = report(&patient);
        for title in [
            "user",
            "capabilities",
            "no new privileges",
            "seccomp",
            "security modules",
            "namespaces",
            "container",
            "control groups",
            "mounts",
            "folders",
            "credentials",
            "clock",
            "isolation",
        ] {
            assert!(page.lines().any(|line| line.starts_with(title)), "{title}: {page}");
        }
        for registry in ["a.example.com", "b.example.com", "KANIKO_C_EXAMPLE_COM"] {
            assert!(page.contains(registry), "{registry}: {page}");
        }
        assert!(!page.contains("hunter2") && !page.contains("dTpodW50ZXIy"), "{page}");
        assert!(page.contains("GB free, where builds work"), "{page}");
    }
}
