//! An image as [`crate::render`] shows it, taken apart again, without what cannot be the same in images of two builders.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Aspect;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The platform and the base.
    head: Vec<String>,
    config: Value,
    history: Vec<String>,
    layers: Vec<Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    made_by: String,
    entries: Vec<Entry>,
}

/// One entry of a layer.
#[derive(Debug, Clone)]
struct Entry {
    kind: char,
    path: String,
    /// Everything that is shown of it.
    lines: Vec<String>,
}

impl Shown {
    /// Takes a text apart.
    pub(super) fn read(text: &str) -> Result<Self> {
        let mut shown = Shown::default();
        let mut parts = text.split("\n\n");
        let head = parts.next().unwrap_or_default();
        // `OCI image for linux/amd64`: the family is the output's and not the builder's.
        shown.head =
            head.lines().map(|line| line.split_once(" image ").map_or(line, |(_, rest)| rest).to_owned()).collect();
        for part in parts {
            let (title, rest) = part.split_once('\n').unwrap_or((part, ""));
            match title {
                "config" => shown.config = serde_json::from_str(rest).context("the config is no JSON")?,
                "history" => shown.history = rest.lines().map(|line| line.trim_start().to_owned()).collect(),
                "warnings" => {}
                _ => shown.layers.push(layer(title, rest)),
            }
        }
        Ok(shown)
    }

    /// The lines to compare.
    pub(super) fn lines(mut self, aspect: Aspect) -> Result<Vec<String>> {
        clean(&mut self.config);
        let mut lines = self.head;
        if aspect == Aspect::Result {
            // The base is told by its history, which is another one here.
            lines.truncate(1);
            standard(&mut self.config);
            self.layers.iter_mut().for_each(|layer| layer.entries.retain(|entry| !is_placeholder(entry)));
        }
        lines.extend(serde_json::to_string_pretty(&self.config)?.lines().map(str::to_owned));
        match aspect {
            Aspect::Layers => {
                lines.extend(self.history);
                for layer in self.layers {
                    lines.push(format!("layer: {}", layer.made_by));
                    lines.extend(layer.entries.into_iter().flat_map(|entry| entry.lines));
                }
            }
            Aspect::Result => lines.extend(merged(self.layers).into_iter().flat_map(|entry| entry.lines)),
        }
        Ok(lines)
    }
}

fn layer(title: &str, text: &str) -> Layer {
    // `layer 1 (gzip): RUN …`
    let made_by = title.split_once(": ").map_or(title, |(_, made_by)| made_by).to_owned();
    let mut entries: Vec<Entry> = Vec::new();
    for line in text.lines() {
        if let Some(more) = line.strip_prefix("      ") {
            // Names of owners are the builder's machine's; PAX records are needed where the format's limits are.
            if let Some(entry) =
                entries.last_mut().filter(|_| !more.starts_with("owner names ") && !more.starts_with("PAX "))
            {
                entry.lines.push(line.to_owned());
            }
        } else if let Some(entry) = entry(line.trim_start()) {
            entries.push(entry);
        }
    }
    // A folder that a builder touches for what it mounts there, and nothing in it changed.
    let is_touched = |position: usize| {
        let Entry { kind, path, .. } = &entries[position];
        *kind == 'd'
            && TOUCHED.contains(&path.as_str())
            && !entries.iter().any(|other| other.path != *path && other.path.starts_with(path.as_str()))
    };
    let kept = (0..entries.len())
        .filter(|position| !is_touched(*position))
        .map(|position| entries[position].clone())
        .collect();
    Layer { made_by, entries: kept }
}

/// Where builders mount things before a command runs.
const TOUCHED: [&str; 5] = ["etc/", "dev/", "proc/", "sys/", "run/"];

/// `- 0644 0:0 name  5 8b911a8716b9 "text"`
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.splitn(4, ' ');
    let kind = words.next().filter(|kind| kind.chars().count() == 1)?.chars().next()?;
    let (mode, owner, rest) = (words.next()?, words.next()?, words.next()?);
    // Docker's tar writer puts the kind of the file among the bits of its mode; the mode of a whiteout means nothing.
    let mode = if is_whiteout(rest) { "----" } else { &mode[mode.len().saturating_sub(4)..] };
    let separator = match kind {
        'h' => " = ",
        'l' => " -> ",
        _ => "  ",
    };
    let path = rest.split_once(separator).map_or(rest, |(path, _)| path).to_owned();
    Some(Entry { kind, path, lines: vec![format!("  {kind} {mode} {owner} {rest}")] })
}

/// An entry that removes; the mark of a folder that hides what was in it is told apart, since it is another thing.
fn is_whiteout(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.starts_with(".wh.") && name != ".wh..wh..opq"
}

/// What all layers together are, by path.
fn merged(layers: Vec<Layer>) -> Vec<Entry> {
    let mut tree: BTreeMap<String, Entry> = BTreeMap::new();
    for layer in layers {
        for entry in layer.entries {
            let path = entry.path.trim_end_matches('/').to_owned();
            let (folder, name) = path.rsplit_once('/').map_or(("", path.as_str()), |(folder, name)| (folder, name));
            if let Some(gone) = name.strip_prefix(".wh.") {
                let gone = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
                tree.retain(|path, _| {
                    *path != gone && !path.strip_prefix(&gone).is_some_and(|below| below.starts_with('/'))
                });
            } else if entry.kind != 'd' {
                tree.retain(|other, _| !other.strip_prefix(&path).is_some_and(|below| below.starts_with('/')));
            }
            tree.insert(path, entry);
        }
    }
    tree.into_values().collect()
}

/// Takes members away that say nothing.
fn clean(config: &mut Value) {
    if let Some(config) = config.as_object_mut() {
        config.retain(|_, value| !is_empty(value));
    }
    let Some(section) = config.get_mut("config").and_then(Value::as_object_mut) else { return };
    section.retain(|_, value| !is_empty(value));
}

/// Leaves what OCI's standard has of a config: buildah writes no more, and says in a label that it was there.
fn standard(config: &mut Value) {
    const OUTER: [&str; 5] = ["architecture", "author", "config", "os", "variant"];
    const INNER: [&str; 9] =
        ["Cmd", "Entrypoint", "Env", "ExposedPorts", "Labels", "StopSignal", "User", "Volumes", "WorkingDir"];
    let Some(members) = config.as_object_mut() else { return };
    members.retain(|name, _| OUTER.contains(&name.as_str()));
    let Some(section) = members.get_mut("config").and_then(Value::as_object_mut) else { return };
    section.retain(|name, value| INNER.contains(&name.as_str()) && !(name == "WorkingDir" && value == "/"));
    if let Some(labels) = section.get_mut("Labels").and_then(Value::as_object_mut) {
        labels.remove("io.buildah.version");
    }
    section.retain(|_, value| !is_empty(value));
}

/// The empty files on which a builder mounts its own; and the folder they are in, where nothing else is.
fn is_placeholder(entry: &Entry) -> bool {
    let file = ["etc/hosts", "etc/hostname", "etc/resolv.conf", "run/.containerenv"].contains(&entry.path.as_str());
    let empty = entry.lines.first().is_some_and(|line| line.contains("  0 e3b0c442"));
    (file && empty) || (entry.kind == 'd' && TOUCHED.contains(&entry.path.as_str()))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}
