//! Why a step is not in the cache: its inputs are compared with those of the same step in the build before, which every
//! build leaves in the cache as one document. It holds hashes; values stand in it only where they cannot be secrets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::key::{Inputs, Key, Kind};

/// Steps with more files than this are written down by folders.
const MOST_FILES: usize = 2_000;

/// A change is followed through this many stages.
const MOST_STAGES: usize = 4;

/// What a build was made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Step {
    /// The stage's name, or its number.
    stage: String,
    /// Its place in the stage, from 1; FROM is 0.
    number: usize,
    /// The instruction as written.
    text: String,
    inputs: Vec<Said>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Said {
    kind: String,
    name: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shown: Option<String>,
}

impl Record {
    /// One more step, in the order of the build.
    pub(crate) fn add(&mut self, stage: &str, number: usize, text: &str, inputs: &Inputs) {
        let inputs = said(inputs);
        self.steps.push(Step { stage: stage.to_owned(), number, text: text.to_owned(), inputs });
    }

    /// The first thing in which the step differs from what it was in the build before, or, if it does not itself, an
    /// earlier one of its stage.
    pub(crate) fn difference(&self, before: &Record, stage: &str, number: usize) -> String {
        let own = self.steps.iter().filter(|step| step.stage == stage && step.number <= number);
        let Some((step, earlier)) = own.clone().next_back().map(|step| (step, own)) else {
            return "nothing is known of it".to_owned();
        };
        if before.steps.iter().all(|known| known.stage != stage) {
            return "the build before had no such stage, or this is the first build with this cache".to_owned();
        }
        if let Some(why) = before.why(step) {
            return self.traced(before, why, MOST_STAGES);
        }
        for step in earlier {
            if let Some(why) = before.why(step) {
                return format!("it follows {}: {}", step.title(), self.traced(before, why, MOST_STAGES));
            }
        }
        "nothing changed: the entry was removed, has expired, or was never kept".to_owned()
    }

    /// Of a stage that changed, the first thing in it that did, through so many stages at most.
    fn traced(&self, before: &Record, why: String, stages: usize) -> String {
        let stage = why.strip_prefix("the stage ").and_then(|rest| rest.strip_suffix(" changed"));
        let stage = stage.filter(|_| stages > 0);
        let steps = self.steps.iter().filter(|step| Some(step.stage.as_str()) == stage);
        let mut changed = steps.filter_map(|step| Some((step, before.why(step)?)));
        match changed.next() {
            Some((step, first)) => format!("{why} ({}: {})", step.title(), self.traced(before, first, stages - 1)),
            None => why,
        }
    }

    /// In what a step differs from this build's.
    fn why(&self, step: &Step) -> Option<String> {
        let of_stage = || self.steps.iter().filter(|known| known.stage == step.stage);
        let same = of_stage().find(|known| known.text == step.text && known.number == step.number);
        let same = same.or_else(|| of_stage().find(|known| known.text == step.text));
        if let Some(known) = same {
            return differs(&known.inputs, &step.inputs);
        }
        match of_stage().find(|known| known.number == step.number) {
            Some(known) => Some(format!("the instruction was `{}`", known.text)),
            None => Some("the instruction is new".to_owned()),
        }
    }
}

impl Step {
    fn title(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

/// The first difference between two lists of inputs.
fn differs(before: &[Said], now: &[Said]) -> Option<String> {
    let known: BTreeMap<_, _> = before.iter().map(|said| ((&said.kind, &said.name), said)).collect();
    for said in now {
        match known.get(&(&said.kind, &said.name)) {
            Some(old) if old.value == said.value => {}
            Some(old) => return Some(changed(old, said)),
            None if said.kind == Kind::Base.word() => return Some(moved(before, said)),
            None => return Some(format!("{} is new", said.name)),
        }
    }
    let here: Vec<_> = now.iter().map(|said| (&said.kind, &said.name)).collect();
    before.iter().find(|said| !here.contains(&(&said.kind, &said.name))).map(|said| format!("{} is gone", said.name))
}

fn moved(before: &[Said], new: &Said) -> String {
    match before.iter().find(|said| said.kind == new.kind) {
        Some(old) => format!("{} → {}", old.name, new.name),
        None => format!("{} is new", new.name),
    }
}

fn changed(old: &Said, new: &Said) -> String {
    let (name, file) = (&new.name, new.kind == Kind::File.word());
    let blank = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    match (&old.shown, &new.shown) {
        (Some(old), Some(new)) if new != old && file => format!("mode of {name}: {old} → {new}"),
        (Some(old), Some(new)) if new != old => format!("{name}: {} → {}", blank(old), blank(new)),
        _ if file => format!("content of {name} changed"),
        _ if new.kind == Kind::Base.word() => format!("{name} moved"),
        _ => format!("{name} changed"),
    }
}

/// The inputs as they are written down; of very many files, folders.
fn said(inputs: &Inputs) -> Vec<Said> {
    let one = |kind: Kind, name: &str, value: &Key, shown: Option<&String>| Said {
        kind: kind.word().to_owned(),
        name: name.to_owned(),
        value: value.to_string(),
        shown: shown.cloned(),
    };
    let (files, others): (Vec<_>, Vec<_>) = inputs.list.iter().partition(|input| input.kind == Kind::File);
    let mut list: Vec<Said> =
        others.iter().map(|input| one(input.kind, &input.name, &input.value, input.shown.as_ref())).collect();
    if files.len() <= MOST_FILES {
        list.extend(files.iter().map(|input| one(input.kind, &input.name, &input.value, input.shown.as_ref())));
        return list;
    }
    let mut groups: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for depth in (1..=4).rev() {
        groups.clear();
        for input in &files {
            let group: Vec<&str> = input.name.split('/').take(depth).collect();
            groups.entry(group.join("/")).or_default().push(input.value.bytes());
        }
        if groups.len() <= MOST_FILES {
            break;
        }
    }
    list.extend(groups.iter().map(|(name, values)| one(Kind::File, name, &Key::of(values), None)));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, name, value, and whether it is shown.
    type Given<'a> = (Kind, &'a str, &'a str, bool);

    fn record(steps: &[(&str, &[Given<'_>])]) -> Record {
        let mut record = Record::default();
        for (number, (text, inputs)) in steps.iter().enumerate() {
            let mut list = Inputs::default();
            for (kind, name, value, shown) in *inputs {
                if *shown { list.show(*kind, *name, value) } else { list.add(*kind, *name, &[value.as_bytes()]) }
            }
            record.add("build", number, text, &list);
        }
        record
    }

    #[test]
    fn the_first_input_that_differs_is_named() {
        const COPY: &str = "COPY package.json package-lock.json ./";
        const RUN: &str = "RUN npm ci";
        let before = record(&[
            ("FROM node:20", &[(Kind::Base, "base image node:20", "a", false)]),
            (COPY, &[(Kind::File, "package.json", "a", false), (Kind::File, "package-lock.json", "b", false)]),
            (RUN, &[(Kind::Variable, "ARG VERSION", "1.2", true), (Kind::Variable, "ARG TOKEN", "x", false)]),
        ]);
        let base: (&str, &[_]) = ("FROM node:20", &[(Kind::Base, "base image node:20", "a", false)]);
        let copy: (&str, &[_]) =
            (COPY, &[(Kind::File, "package.json", "a", false), (Kind::File, "package-lock.json", "b", false)]);
        let why = |now: Record, number| now.difference(&before, "build", number);
        let changed = record(&[
            base,
            (COPY, &[(Kind::File, "package.json", "a", false), (Kind::File, "package-lock.json", "c", false)]),
            (RUN, &[(Kind::Variable, "ARG VERSION", "1.2", true), (Kind::Variable, "ARG TOKEN", "x", false)]),
        ]);
        assert_eq!(why(changed.clone(), 1), "content of package-lock.json changed");
        assert_eq!(why(changed, 2), format!("it follows {COPY}: content of package-lock.json changed"));
        let version = [(Kind::Variable, "ARG VERSION", "1.3", true), (Kind::Variable, "ARG TOKEN", "x", false)];
        assert_eq!(why(record(&[base, copy, (RUN, &version)]), 2), "ARG VERSION: 1.2 → 1.3");
        let token = [(Kind::Variable, "ARG VERSION", "1.2", true), (Kind::Variable, "ARG TOKEN", "y", false)];
        assert_eq!(why(record(&[base, copy, (RUN, &token)]), 2), "ARG TOKEN changed");
        let gone = [(Kind::Variable, "ARG VERSION", "1.2", true)];
        assert_eq!(why(record(&[base, copy, (RUN, &gone)]), 2), "ARG TOKEN is gone");
        let moved: (&str, &[_]) = ("FROM node:20", &[(Kind::Base, "base image node:20", "b", false)]);
        assert_eq!(why(record(&[moved, copy]), 1), "it follows FROM node:20: base image node:20 moved");
        assert_eq!(why(record(&[base, ("RUN other", &[])]), 1), format!("the instruction was `{COPY}`"));
        assert!(why(before.clone(), 2).starts_with("nothing changed"));
        assert!(before.difference(&Record::default(), "build", 1).contains("first build"));
    }

    #[test]
    fn the_change_of_a_stage_is_told_by_what_changed_in_it() {
        let build = |file: &str| {
            let mut record = record(&[("FROM x", &[]), ("COPY a b", &[(Kind::File, "a", file, false)])]);
            let mut inputs = Inputs::default();
            inputs.add(Kind::Origin, "the stage build", &[file.as_bytes()]);
            record.add("last", 1, "COPY --from=build b c", &inputs);
            record
        };
        let why = build("2").difference(&build("1"), "last", 1);
        assert_eq!(why, "the stage build changed (COPY a b: content of a changed)");
        let mut inputs = Inputs::default();
        inputs.add(Kind::Origin, "the stage x", &[b"1"]);
        let (mut before, mut now) = (Record::default(), Record::default());
        before.add("x", 0, "FROM x", &inputs);
        inputs.list[0].value = Key::of(&[b"2"]);
        now.add("x", 0, "FROM x", &inputs);
        assert!(now.difference(&before, "x", 0).starts_with("the stage x changed (FROM x: the stage x changed"));
    }

    #[test]
    fn very_many_files_are_written_down_by_folders() {
        let mut inputs = Inputs::default();
        for number in 0..5000 {
            inputs.add(Kind::File, format!("src/a{}/b/c/d/{number}", number % 7), &[b"x"]);
        }
        let list = said(&inputs);
        assert!(list.len() <= MOST_FILES, "{}", list.len());
        assert_eq!(list[0].name, "src/a0/b/c");
    }
}
