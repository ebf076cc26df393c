//! A whole image as text that a person can read in a diff: its config, its history, and every entry of every layer that was
//! built. What was there before, the base image, is named and not shown, and so are no times, which differ from build to build.
//!
//! The looking is strict: an image whose parts contradict each other (a digest, a size, the number of layers, media types
//! of two families) is an error and not a text.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::base::Known;
use crate::layout::{Layout, media, sha256, text};
use crate::tar::{self, Entry};

/// What `BuildKit` writes beside every row of history that it makes, and so what a row without another comment has here.
const USUAL_COMMENT: &str = "buildkit.dockerfile.v0";

/// The one image of a layout as text.
pub fn image(layout: &Layout, known: &[Known]) -> Result<String> {
    let index = layout.index()?;
    let [descriptor] = index.as_slice() else { bail!("the layout holds {} images, and not one", index.len()) };
    let family = family(descriptor)?;
    let manifest = layout.document(text(descriptor, "digest")?)?;
    ensure!(manifest["mediaType"] == descriptor["mediaType"], "the manifest says it is {}", manifest["mediaType"]);
    ensure!(manifest["schemaVersion"] == 2, "the manifest's schema version is {}", manifest["schemaVersion"]);
    ensure!(crate::render::family(&manifest["config"])? == family, "config and manifest are of two families");
    let mut config = layout.document(text(&manifest["config"], "digest")?)?;

    let layers = manifest["layers"].as_array().context("the manifest lists no layers")?;
    let ids: Vec<String> = strings(&config["rootfs"]["diff_ids"]);
    ensure!(layers.len() == ids.len(), "the manifest has {} layers and the config {}", layers.len(), ids.len());
    let history = config["history"].as_array().cloned().unwrap_or_default();
    let filled: Vec<_> = history.iter().filter(|row| row["empty_layer"] != true).collect();
    ensure!(
        filled.len() == layers.len(),
        "{} rows of history say they made one of {} layers",
        filled.len(),
        layers.len()
    );

    let rows: Vec<_> = history.iter().map(|row| row["created_by"].as_str().unwrap_or_default().to_owned()).collect();
    let base = known
        .iter()
        .filter(|base| ids.starts_with(&base.diff_ids) && rows.starts_with(&base.history))
        .rev() // Of equals the last is taken, and it is to be the first.
        .max_by_key(|base| (base.diff_ids.len(), base.history.len()));
    let (base_layers, base_rows) = base.map_or((0, 0), |base| (base.diff_ids.len(), base.history.len()));

    let mut out = String::new();
    let platform =
        ["os", "architecture", "variant"].map(|member| config[member].as_str().unwrap_or_default().to_owned());
    let _ = writeln!(out, "{} image for {}", family, platform.join("/").trim_end_matches('/'));
    if let Some(base) = base {
        let _ = writeln!(out, "on {} ({base_layers} layers, {base_rows} rows of history)", base.name);
    }
    if let Some(annotations) = manifest.get("annotations") {
        let _ = writeln!(out, "annotations {annotations}");
    }
    ensure!(config["created"].is_string(), "the config does not say when it was created");
    for member in ["created", "history", "rootfs"] {
        config.as_object_mut().context("the config is no object")?.remove(member);
    }
    let _ = writeln!(out, "\nconfig\n{}", serde_json::to_string_pretty(&config)?);

    let _ = writeln!(out, "\nhistory");
    for row in &history[base_rows..] {
        let _ = writeln!(out, "  {}", history_row(row)?);
    }
    for (number, (layer, id)) in layers.iter().zip(&ids).enumerate().skip(base_layers) {
        ensure!(crate::render::family(layer)? == family, "a layer and the manifest are of two families");
        let plain = layout.layer(layer)?;
        ensure!(*id == format!("sha256:{}", sha256(&plain)), "the config says layer {number} is {id}, and it is not");
        let made_by = filled[number]["created_by"].as_str().unwrap_or("(nothing)");
        let _ = writeln!(out, "\nlayer {} ({}): {made_by}", number + 1 - base_layers, packing(layer)?);
        let entries = tar::read(&plain).with_context(|| format!("read layer {number}"))?;
        if entries.is_empty() {
            let _ = writeln!(out, "  (empty)");
        }
        for shown in &entries {
            let _ = write!(out, "{}", entry(shown));
        }
    }
    Ok(out)
}

/// `Docker` or `OCI`, by media type.
fn family(descriptor: &Value) -> Result<&'static str> {
    let media_type = text(descriptor, "mediaType")?;
    if [media::DOCKER_MANIFEST, media::DOCKER_CONFIG, media::DOCKER_LAYER].contains(&media_type) {
        Ok("Docker")
    } else if media_type.starts_with("application/vnd.oci.image.") {
        Ok("OCI")
    } else {
        bail!("{media_type} is neither Docker's nor OCI's")
    }
}

fn packing(layer: &Value) -> Result<&'static str> {
    let media_type = text(layer, "mediaType")?;
    Ok(match media_type.rsplit(['+', '.']).next() {
        Some("gzip") => "gzip",
        Some("zstd") => "zstd",
        _ => "plain",
    })
}

fn history_row(row: &Value) -> Result<String> {
    let mut shown = row["created_by"].as_str().unwrap_or("(nothing)").replace('\n', "\\n");
    if row["empty_layer"] == true {
        shown.push_str("  [no layer]");
    }
    ensure!(row["created"].is_string(), "a row of history does not say when: {row}");
    match row["comment"].as_str() {
        Some(USUAL_COMMENT) => {}
        other => write!(shown, "  [comment: {}]", other.unwrap_or("none"))?,
    }
    for member in row.as_object().into_iter().flat_map(|row| row.keys()) {
        if !["created", "created_by", "empty_layer", "comment"].contains(&member.as_str()) {
            write!(shown, "  [{member}: {}]", row[member])?;
        }
    }
    Ok(shown)
}

/// One entry of a layer: kind, mode, owner, what it is, name; below it what is unusual.
fn entry(entry: &Entry) -> String {
    let kind = match entry.kind {
        b'0' => '-',
        b'1' => 'h',
        b'2' => 'l',
        b'3' => 'c',
        b'4' => 'b',
        b'5' => 'd',
        b'6' => 'p',
        other => char::from(other),
    };
    let mut out = format!("  {kind} {:04o} {}:{} {}", entry.mode, entry.uid, entry.gid, escaped(&entry.name));
    match entry.kind {
        b'0' if entry.name.rsplit(|byte| *byte == b'/').next().is_some_and(|name| name.starts_with(b".wh.")) => {}
        b'0' => {
            let _ = write!(out, "  {} {}", entry.data.len(), &sha256(&entry.data)[..12]);
            if let Some(content) = readable(&entry.data) {
                let _ = write!(out, " {content}");
            }
        }
        b'1' => {
            let _ = write!(out, " = {}", escaped(&entry.link));
        }
        b'2' => {
            let _ = write!(out, " -> {}", escaped(&entry.link));
        }
        b'3' | b'4' => {
            let _ = write!(out, "  {},{}", entry.device.0, entry.device.1);
        }
        _ => {}
    }
    out.push('\n');
    if entry.owner_names != (Vec::new(), Vec::new()) {
        let (user, group) = &entry.owner_names;
        let _ = writeln!(out, "      owner names {} {}", escaped(user), escaped(group));
    }
    for (name, value) in &entry.xattrs {
        let value = readable(value).unwrap_or_else(|| format!("0x{}", crate::layout::hex(value)));
        let _ = writeln!(out, "      {} = {value}", escaped(name));
    }
    let pax: Vec<_> = entry.pax.iter().filter(|key| !key.starts_with("SCHILY.xattr.")).map(String::as_str).collect();
    if !pax.is_empty() {
        let _ = writeln!(out, "      PAX {}", pax.join(" "));
    }
    out
}

/// Short text in quotes; nothing for what is long or no text.
fn readable(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |character: char| character == '\n' || character == '\t' || !character.is_control();
    (text.len() <= 72 && text.chars().all(plain)).then(|| format!("{text:?}"))
}

/// Bytes that are no printable ASCII as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
        text
    })
}

fn strings(array: &Value) -> Vec<String> {
    array.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn file(name: &[u8]) -> Entry {
        Entry {
            kind: b'0',
            name: name.to_vec(),
            mode: 0o4755,
            uid: 1,
            gid: 2,
            mtime: 3,
            link: b"target".to_vec(),
            device: (5, 1),
            owner_names: (Vec::new(), Vec::new()),
            xattrs: BTreeMap::new(),
            pax: Vec::new(),
            data: b"hello\n".to_vec(),
        }
    }

    #[test]
    fn every_kind_of_entry_has_its_form() {
        assert_eq!(entry(&file(b"a/b")), "  - 4755 1:2 a/b  6 5891b5b522d5 \"hello\\n\"\n");
        assert_eq!(entry(&Entry { kind: b'2', ..file(b"a") }), "  l 4755 1:2 a -> target\n");
        assert_eq!(entry(&Entry { kind: b'1', ..file(b"a") }), "  h 4755 1:2 a = target\n");
        assert_eq!(entry(&Entry { kind: b'3', ..file(b"a") }), "  c 4755 1:2 a  5,1\n");
        assert_eq!(entry(&file(b"a/.wh.b")), "  - 4755 1:2 a/.wh.b\n");
        assert_eq!(entry(&Entry { kind: b'5', ..file(b"\xff\\\n/") }), "  d 4755 1:2 \\xff\\\\\\x0a/\n");
    }

    #[test]
    fn what_is_unusual_stands_below() {
        let mut odd = file(b"a");
        odd.data = vec![0];
        odd.owner_names.0 = b"root".to_vec();
        odd.xattrs.insert(b"security.capability".to_vec(), vec![1, 0]);
        odd.pax = vec!["SCHILY.xattr.security.capability".to_owned(), "path".to_owned()];
        let shown = entry(&odd);
        let expected = "  - 4755 1:2 a  1 6e340b9cffb3\n      owner names root \n      \
                        security.capability = 0x0100\n      PAX path\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_image_of_the_labs_own_is_shown_and_a_contradiction_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let layer = layout.put_layer(&mut [0; 1024].as_slice(), crate::packing::Packing::Zstd).unwrap();
        let row = serde_json::json!({"created": "2020-01-01T00:00:00Z", "created_by": "RUN true"});
        let config = serde_json::json!({"created": "2020-01-01T00:00:00Z", "os": "linux", "architecture": "amd64",
            "config": {}, "history": [row]});
        let image_of = |config: &Value| {
            let image = layout.put_image(config.clone(), std::slice::from_ref(&layer)).unwrap();
            layout.point_to(&[image]).unwrap();
            image_text(&layout)
        };
        let shown = image_of(&config).unwrap();
        assert!(shown.starts_with("OCI image for linux/amd64\n\nconfig\n{"), "{shown}");
        assert!(
            shown.ends_with("history\n  RUN true  [comment: none]\n\nlayer 1 (zstd): RUN true\n  (empty)\n"),
            "{shown}"
        );
        let mut contradiction = config.clone();
        contradiction["history"] = serde_json::json!([]);
        assert!(image_of(&contradiction).unwrap_err().to_string().contains("0 rows of history"));
    }

    fn image_text(layout: &Layout) -> Result<String> {
        image(layout, &[])
    }
}
