//! WORKDIR: where commands run and relative paths begin. A relative one goes on from the one before it; the folder is
//! made if it is not there.

use super::error::Fault;
use super::{Action, Instruction, InstructionError, Step, WorkdirAction, one_argument};
use crate::settings::Settings;
use crate::syntax::Line;

pub(super) const KEYWORD: &str = "WORKDIR";

#[derive(Debug)]
struct Workdir {
    path: String,
}

pub(super) fn read(line: &Line) -> Result<Box<dyn Instruction>, Fault> {
    Ok(Box::new(Workdir { path: one_argument(line, KEYWORD)? }))
}

impl Instruction for Workdir {
    fn configure(&self, settings: &mut Settings) -> Result<Step, InstructionError> {
        let path = joined(settings.working_dir(), &settings.expand(&self.path)?);
        settings.config_mut().config.working_dir.clone_from(&path);
        let created_by = format!("{KEYWORD} {path}");
        if path == "/" {
            return Ok(Step::metadata(created_by));
        }
        let user = settings.config().config.user.clone();
        Ok(Step::of(created_by, Action::MakeDir(WorkdirAction { path, user })))
    }
}

/// An absolute path is taken as it is written, slash at the end included; a relative one is cleaned when it is joined.
fn joined(current: &str, path: &str) -> String {
    if path.is_empty() {
        return current.to_owned();
    }
    if path.starts_with('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in current.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use zuwai_registry::ImageConfig;

    use crate::instruction::testing::{Stage, refused};
    use crate::instruction::{Action, WorkdirAction};

    #[test]
    fn relative_folders_go_on_from_the_one_before() {
        let mut stage = Stage::scratch();
        stage.run("ENV d=data");
        for (text, path) in [
            ("WORKDIR a", "/a"),
            ("WORKDIR b/", "/a/b"),
            ("WORKDIR ./c/../d", "/a/b/d"),
            ("WORKDIR /x/", "/x/"),
            ("WORKDIR y", "/x/y"),
            ("WORKDIR /$d", "/data"),
            ("WORKDIR $d", "/data/data"),
            ("WORKDIR /a/../b", "/a/../b"),
            ("WORKDIR .", "/b"),
            ("WORKDIR \"\"", "/b"),
            ("WORKDIR /with space", "/with space"),
            ("WORKDIR '/quoted'", "/quoted"),
            ("WORKDIR ../../..", "/"),
        ] {
            let step = stage.run(text);
            assert_eq!(step.created_by, Some(format!("WORKDIR {path}")), "{text}");
            assert_eq!(stage.settings.config().config.working_dir, path, "{text}");
            let made =
                (path != "/").then(|| Action::MakeDir(WorkdirAction { path: path.to_owned(), user: String::new() }));
            assert_eq!(step.action, made, "{text}");
        }
    }

    #[test]
    fn the_folder_is_made_for_the_user() {
        let mut stage = Stage::scratch();
        stage.run("USER app:web");
        let expected = WorkdirAction { path: "/a".into(), user: "app:web".into() };
        assert_eq!(stage.run("WORKDIR /a").action, Some(Action::MakeDir(expected)));
    }

    #[test]
    fn the_folder_of_the_base_is_where_it_goes_on() {
        let mut config = ImageConfig::default();
        config.config.working_dir = "srv".into();
        let mut stage = Stage::on_image(&config);
        assert_eq!(stage.settings.config().config.working_dir, "/srv");
        assert_eq!(stage.run("WORKDIR app").created_by.as_deref(), Some("WORKDIR /srv/app"));
        config.config.working_dir = String::new();
        assert_eq!(Stage::on_image(&config).run("WORKDIR app").created_by.as_deref(), Some("WORKDIR /app"));
    }

    #[test]
    fn a_folder_is_needed() {
        assert_eq!(refused("WORKDIR"), "WORKDIR needs an argument");
        assert_eq!(refused("WORKDIR --x /a"), "WORKDIR has no flag --x");
    }
}
