//! The image config: how a container of the image is run, and how the image came to be.
//!
//! Our own types, because a base image's config must come out whole: HEALTHCHECK, ONBUILD, SHELL and fields nobody knows
//! yet included. Maps are ordered, so the same image prints the same bytes every time; the order of fields is the one the
//! OCI's Go types print, and unknown fields follow in alphabetical order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::manifest::null_is_default;
use super::{Digest, Platform};

/// The document a manifest's `config` refers to (OCI image spec, config.md, with Docker's additions).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, as RFC 3339 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, `arm64`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `linux`, `windows`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// Of Windows images: the build they are for.
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// `v7`, `v8`, … where the architecture has variants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of it is run.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// What its layers are, decompressed.
    #[serde(default)]
    pub rootfs: RootFsSection,
    /// How it came to be, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Everything else, such as `os.features` and what older Dockers wrote.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How a container of the image is run: what the Dockerfile's metadata instructions set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers; empty is root.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// `port/protocol`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "set_as_map")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in the order they were set.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// The program; `None` is unset, and an empty list is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments, or the program where there is no entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Folders that are volumes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", with = "set_as_map")]
    pub volumes: BTreeSet<String>,
    /// The folder the program starts in; empty is `/`.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Free-form notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Windows only: the command line is already escaped.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// How to see that the container is well (Docker's addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for images built on this one (Docker's addition).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub on_build: Vec<String>,
    /// What runs shell forms (Docker's addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// Docker's health check. Durations are nanoseconds; `None` leaves the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`; empty inherits.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// Until a check counts as failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// While a failed check does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two checks during the start period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// How many failures in a row make the container unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// The decompressed layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootFsSection {
    /// The digest of each layer's tar, the lowest first.
    pub diff_ids: Vec<Digest>,
}

/// One step of how the image came to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, as RFC 3339 text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub created_by: String,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A note, such as the name of the builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
    /// Everything else.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// The platform the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
        }
    }

    /// Makes it an image for this platform.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.os.clone_from(&platform.os);
        self.architecture.clone_from(&platform.architecture);
        self.variant.clone_from(&platform.variant);
        self.os_version.clone_from(&platform.os_version);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Serialize for RootFsSection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut section = serializer.serialize_struct("rootfs", 2)?;
        section.serialize_field("type", "layers")?;
        section.serialize_field("diff_ids", &self.diff_ids)?;
        section.end()
    }
}

impl<'de> Deserialize<'de> for RootFsSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Written {
            #[serde(default, rename = "type")]
            kind: String,
            #[serde(default, deserialize_with = "null_is_default")]
            diff_ids: Vec<Digest>,
        }
        let written = Option::<Written>::deserialize(deserializer)?;
        let Some(written) = written else { return Ok(RootFsSection::default()) };
        if !matches!(written.kind.as_str(), "layers" | "") {
            return Err(serde::de::Error::custom(format!("rootfs of type `{}`: only `layers` is known", written.kind)));
        }
        Ok(RootFsSection { diff_ids: written.diff_ids })
    }
}

/// Go has no sets: `{"80/tcp": {}}`.
mod set_as_map {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serializer, Value};

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, BTreeMap::<String, String>::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_config_prints_its_fields_in_the_order_go_prints_them() {
        let text = concat!(
            r#"{"created":"2024-01-02T03:04:05Z","author":"a","architecture":"arm","os":"linux","variant":"v7","#,
            r#""config":{"User":"u","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin"],"Entrypoint":["/e"],"Cmd":["c"],"#,
            r#""Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"k":"v"},"StopSignal":"SIGINT","ArgsEscaped":true,"#,
            r#""Healthcheck":{"Test":["CMD","x"],"Interval":1,"Timeout":2,"StartPeriod":3,"StartInterval":4,"#,
            r#""Retries":5},"OnBuild":["RUN x"],"Shell":["/bin/bash"],"Hostname":"","StopTimeout":9},"#,
            r#""rootfs":{"type":"layers","#,
            r#""diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},"#,
            r#""history":[{"created":"2024-01-02T03:04:05Z","created_by":"x","comment":"c","empty_layer":true}],"#,
            r#""docker_version":"20.10"}"#
        );
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
    }

    #[test]
    fn what_go_prints_as_null_is_unset() {
        let config: ImageConfig = serde_json::from_value(json!({
            "architecture": "amd64", "os": "linux", "history": null,
            "config": {"Cmd": null, "Entrypoint": null, "Env": null, "Volumes": null, "Labels": null, "OnBuild": null,
                       "User": "", "Healthcheck": null, "ExposedPorts": null, "ArgsEscaped": null},
            "rootfs": {"type": "layers", "diff_ids": null},
        }))
        .unwrap();
        assert_eq!(config.config, RunConfig::default());
        assert!(config.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn an_unknown_kind_of_rootfs_is_refused() {
        let error = serde_json::from_str::<ImageConfig>(r#"{"rootfs":{"type":"layers+base"}}"#).unwrap_err();
        assert!(error.to_string().contains("layers+base"), "{error}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn unknown_fields() -> impl Strategy<Value = BTreeMap<String, Value>> {
        prop::collection::btree_map("x-[a-zA-Z.]{0,8}", any_json(), 0..4)
    }

    proptest! {
        #[test]
        fn a_config_comes_out_as_whole_as_it_went_in(
            top in unknown_fields(), run in unknown_fields(), step in unknown_fields(), health in unknown_fields(),
            env in prop::collection::vec(".{1,12}", 1..4),
            labels in prop::collection::btree_map(".{0,8}", ".{0,8}", 1..4),
            cmd in prop::option::of(prop::collection::vec(".{0,8}", 0..3)),
        ) {
            let mut whole = json!({
                "architecture": "amd64", "os": "linux",
                "config": {"Env": env, "Labels": labels, "Healthcheck": {"Test": ["NONE"]}, "Shell": ["/bin/sh", "-c"]},
                "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"x").to_string()]},
                "history": [{"created_by": "x"}],
            });
            if let Some(cmd) = cmd { whole["config"]["Cmd"] = json!(cmd); }
            let add = |object: &mut Value, fields: BTreeMap<String, Value>| {
                object.as_object_mut().unwrap().extend(fields);
            };
            add(&mut whole, top);
            add(&mut whole["config"], run);
            add(&mut whole["history"][0], step);
            add(&mut whole["config"]["Healthcheck"], health);
            let text = serde_json::to_string(&whole).unwrap();
            let config: ImageConfig = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(serde_json::to_value(&config).unwrap(), whole);
            let printed = serde_json::to_string(&config).unwrap();
            let again: ImageConfig = serde_json::from_str(&printed).unwrap();
            prop_assert_eq!(serde_json::to_string(&again).unwrap(), printed);
        }
    }
}
