//! RUN: a command in the stage's root filesystem, with the image's environment and nothing of the builder's.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use zuwai_snapshot::{RootFs, Scope};

use super::ownership::accounts;
use super::{Ground, StepError, absolute, mounts};
use crate::event::Event;
use crate::instruction::RunAction;
use crate::isolation::mount::Laid;
use crate::isolation::{Command, Exit, Identity, Network};

/// How many lines of a failed command's output are told again in the error.
const LAST_LINES: usize = 20;
/// How much of a line is kept for that.
const LINE_LIMIT: usize = 4096;

pub(super) fn execute(action: &RunAction, ground: &Ground<'_>) -> Result<Scope, StepError> {
    // Before anything is made, be it for mounts: a folder that looks as it did has nothing new in it.
    ground.snapshotter.settle(ground.root)?;
    let user = accounts(ground.root)?.user(&action.user)?;
    let mut environment = action.env.clone();
    if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(format!("HOME={}", user.home));
    }
    let working_dir = absolute(&action.working_dir, "");
    let visible = mounts::visible(&action.mounts, ground);
    let found = mounts::find(&action.mounts, ground, &visible)?;
    environment.extend(found.environment);
    let laid = ground.isolation.lay(&found.mounts, ground.root, &ground.scratch.join("aside"))?;
    let command = Command {
        arguments: action.arguments.clone(),
        environment,
        identity: Identity { uid: user.uid, gid: user.gid, groups: user.groups },
        working_dir,
        network: if action.offline { Network::None } else { Network::Host },
    };
    let last = Mutex::new(LastLines::default());
    let exit = start(&command, laid.as_ref(), ground, &last);
    // Whatever became of the command: nobody may find the mounts, and the caches go home.
    let taken_out = laid.take_out();
    drop(found.locks);
    let exit = exit?;
    if exit.is_success() {
        return taken_out.map(|()| Scope::Everywhere).map_err(StepError::from);
    }
    // What the command failed of is the reason to tell, whatever its mounts left behind.
    let last_lines = last.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).finish();
    Err(StepError::Exit { code: exit.code, last_lines })
}

fn start(command: &Command, laid: &dyn Laid, ground: &Ground<'_>, last: &Mutex<LastLines>) -> Result<Exit, StepError> {
    make_working_dir(ground.root, &command.working_dir)?;
    let output = |stream, bytes: &[u8]| {
        last.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(bytes);
        ground.observer.event(&Event::Output { stream, bytes });
    };
    Ok(ground.isolation.run(ground.root, command, laid, &output, ground.cancel)?)
}

/// A working folder that a base image names and does not have is made, as the runtimes do.
fn make_working_dir(root: &RootFs, path: &Path) -> Result<(), StepError> {
    let located = root.resolve(path)?;
    if located.kind.is_none() || !root.has_folder(&located.real) {
        root.make_dirs(path, &zuwai_snapshot::Ownership { uid: 0, gid: 0, mode: 0o755 })?;
    }
    Ok(())
}

/// The end of a command's output, bounded however long the lines are.
#[derive(Debug, Default)]
struct LastLines {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl LastLines {
    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = LINE_LIMIT.saturating_sub(self.open.len());
            self.open.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let line = String::from_utf8_lossy(&self.open).trim_end().to_owned();
        self.open.clear();
        if !line.is_empty() {
            self.lines.push_back(line);
        }
        while self.lines.len() > LAST_LINES {
            self.lines.pop_front();
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.close();
        self.lines.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(pieces: &[&str]) -> Vec<String> {
        let mut lines = LastLines::default();
        for piece in pieces {
            lines.push(piece.as_bytes());
        }
        lines.finish()
    }

    #[test]
    fn lines_are_put_together_from_reads_that_split_them() {
        assert_eq!(last(&["one\ntw", "o\n", "\n", "three"]), ["one", "two", "three"]);
    }

    #[test]
    fn only_the_last_lines_are_kept_and_long_ones_are_cut() {
        let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let many = many.join("\n");
        let kept = last(&[&many]);
        assert_eq!((kept.len(), kept[0].as_str(), kept[LAST_LINES - 1].as_str()), (LAST_LINES, "80", "99"));
        assert_eq!(last(&[&"x".repeat(10_000)])[0].len(), LINE_LIMIT);
    }
}
