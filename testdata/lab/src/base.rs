//! The base images, under the names that Dockerfiles use. The real ones are not to be had where this is tested, so they are made
//! of Debian's packages, once, and kept in the lab's cache.

mod debian;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cache::{lock, made_once};
use crate::command::must;
use crate::layout::{Layer, Layout, media, sha256, text};
use crate::packing::Packing;
use crate::registry::Options;
use crate::storage::{Storage, as_docker};
use crate::{Registry, Scratch};

/// A base image, or a family of them that are made together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `busybox`: an index of two platforms. Beside it `busybox:layers` (every compression, every kind of whiteout),
    /// `busybox:rich` (a config with everything in it) and `busybox:trigger` (ONBUILD).
    Busybox,
    /// `debian`: one layer, with Docker's media types.
    Debian,
    /// `maven:3.5-jdk-11`.
    Maven,
    /// `adoptopenjdk/openjdk11:jdk-11.0.9_11`.
    OpenJdk,
    /// `fat:12`: what a team's image for building everything looks like, 90,000 files and 2 GB. For measuring alone.
    Fat,
}

/// What an image that was built on one of these has of it.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its name in a Dockerfile.
    pub name: String,
    /// The digests of its layers' tars.
    pub diff_ids: Vec<String>,
    /// Its history: what made each row.
    pub history: Vec<String>,
}

impl Base {
    /// All that tests are built on, the quick ones first.
    pub const ALL: [Base; 4] = [Base::Busybox, Base::Debian, Base::OpenJdk, Base::Maven];

    fn folder(self) -> &'static str {
        match self {
            Base::Busybox => "base-busybox",
            Base::Debian => "base-debian",
            Base::Maven => "base-maven",
            Base::OpenJdk => "base-openjdk",
            Base::Fat => "base-fat",
        }
    }

    /// What decides the image: another recipe is another folder in the cache.
    fn recipe(self) -> String {
        let words = match self {
            Base::Busybox => vec![BUSYBOX_IMAGES, BUSYBOX_TREE, LAYERS_TREE],
            Base::Debian | Base::Maven | Base::OpenJdk | Base::Fat => {
                self.packages().iter().copied().chain([MAVEN_HOOK]).collect()
            }
        };
        [&[RECIPE, self.folder()], words.as_slice()].concat().join("\n")
    }

    fn key(self) -> String {
        sha256(self.recipe().as_bytes())[..16].to_owned()
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Base::Busybox => &[],
            Base::Debian => &["libcap2-bin", "attr", "acl"],
            Base::OpenJdk => &["openjdk-17-jre-headless"],
            Base::Fat => &[
                "build-essential",
                "ca-certificates-java",
                "cmake",
                "git",
                "golang",
                "maven",
                "nodejs",
                "npm",
                "openjdk-17-jdk",
                "python3-numpy",
                "python3-scipy",
                "vim",
            ],
            Base::Maven => &[
                "maven",
                "openjdk-17-jdk-headless",
                "libmaven-compiler-plugin-java",
                "libmaven-resources-plugin-java",
                "libmaven-jar-plugin-java",
                "libsurefire-java",
                "libmaven-clean-plugin-java",
                "ca-certificates-java",
            ],
        }
    }

    /// The names under which its images are served, in the order of the layout's index.
    fn names(self) -> &'static [(&'static str, &'static [&'static str])] {
        match self {
            Base::Busybox => &[
                ("library/busybox", &["latest", "1.35"]),
                ("library/busybox", &["layers"]),
                ("library/busybox", &["rich"]),
                ("library/busybox", &["trigger"]),
            ],
            Base::Debian => &[("library/debian", &["latest", "12"])],
            Base::Maven => &[("library/maven", &["3.5-jdk-11"])],
            Base::Fat => &[("library/fat", &["12"])],
            Base::OpenJdk => &[("adoptopenjdk/openjdk11", &["jdk-11.0.9_11"])],
        }
    }

    /// The layout with its images, made where it is not there.
    pub fn layout(self) -> Result<Layout> {
        let folder = made_once(self.folder(), &self.key(), |part| {
            let layout = Layout::create(part)?;
            let images = match self {
                Base::Busybox => busybox(&layout)?,
                Base::Debian => {
                    let image = self.of_packages(&layout, None, &json!(["bash"]))?;
                    vec![as_docker(&layout, &image)?]
                }
                Base::Fat => vec![self.of_packages(&layout, None, &json!(["bash"]))?],
                Base::OpenJdk => vec![self.of_packages(&layout, None, &json!(["jshell"]))?],
                Base::Maven => vec![self.of_packages(&layout, Some(MAVEN_HOOK), &json!(["mvn"]))?],
            };
            layout.point_to(&images)
        })
        .with_context(|| format!("make the base images {}", self.folder()))?;
        Layout::open(&folder)
    }

    fn of_packages(self, layout: &Layout, hook: Option<&str>, cmd: &Value) -> Result<Value> {
        let scratch = Scratch::new()?;
        let layer = debian::layer(layout, &scratch, self.packages(), hook)?;
        let mut config = config(&json!({"Env": [PATH], "Cmd": cmd}));
        config["history"] = json!([{"created": CREATED, "created_by": format!("{} # packages", self.folder())}]);
        layout.put_image(config, &[layer])
    }

    /// The images as [`crate::render`] recognizes them.
    pub fn known(self) -> Result<Vec<Known>> {
        let layout = self.layout()?;
        let images = layout.index()?;
        let mut known = Vec::new();
        for (image, (repository, tags)) in images.iter().zip(self.names()) {
            for manifest in manifests(&layout, image)? {
                let manifest = layout.document(text(&manifest, "digest")?)?;
                let config = layout.document(text(&manifest["config"], "digest")?)?;
                let ids = config["rootfs"]["diff_ids"].as_array().into_iter().flatten();
                let rows = config["history"].as_array().into_iter().flatten();
                known.push(Known {
                    name: format!("{}:{}", repository.trim_start_matches("library/"), tags[0]),
                    diff_ids: ids.filter_map(Value::as_str).map(str::to_owned).collect(),
                    history: rows.map(|row| row["created_by"].as_str().unwrap_or_default().to_owned()).collect(),
                });
            }
        }
        Ok(known)
    }
}

/// Fills a folder that becomes /etc/apt of an image on [`Base::Debian`]: its apt then installs packages from where this
/// machine has them.
pub fn apt_of_the_machine(folder: &Path) -> Result<()> {
    debian::apt_of_the_machine(folder)
}

/// The storage of a registry that has these base images: one for all runs, to be read only.
pub fn storage(bases: &[Base]) -> Result<Storage> {
    let recipes: Vec<_> = Base::ALL.iter().map(|base| base.key()).collect();
    let key = &sha256(recipes.concat().as_bytes())[..16];
    let storage = Storage::at(&made_once("registry", key, |_| Ok(()))?);
    for base in bases {
        let layout = base.layout()?;
        let _lock = lock("registry-filling")?;
        for (image, (repository, tags)) in layout.index()?.iter().zip(base.names()) {
            for tag in *tags {
                if storage.tag(repository, tag).as_deref() != Some(text(image, "digest")?) {
                    storage.put(&layout, image, repository, tag)?;
                }
            }
        }
    }
    Ok(storage)
}

/// A registry that serves these base images to everyone who asks: what `--registry-mirror` is for.
pub fn mirror(bases: &[Base], options: &Options<'_>) -> Result<Registry> {
    let storage = storage(bases)?;
    Registry::start(&Options { storage: Some(storage.folder()), authority: options.authority, login: options.login })
}

/// A registry that has these base images and takes others: its storage is its own and goes with it.
pub fn registry_of_its_own(bases: &[Base], options: &Options<'_>) -> Result<Registry> {
    let registry = Registry::start(options)?;
    for base in bases {
        let layout = base.layout()?;
        for (image, (repository, tags)) in layout.index()?.iter().zip(base.names()) {
            for tag in *tags {
                registry.push_layout(&layout, image, repository, tag)?;
            }
        }
    }
    Ok(registry)
}

/// Raised when this file makes other images of the same trees.
const BUSYBOX_IMAGES: &str = "2";
/// Raised when all of them are made in another way.
const RECIPE: &str = "1";
const BUSYBOX_TREE: &str = include_str!("../recipes/busybox.sh");
const LAYERS_TREE: &str = include_str!("../recipes/layers.sh");
const MAVEN_HOOK: &str = include_str!("../recipes/maven.sh");
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CREATED: &str = "2020-01-01T00:00:00Z";

fn config(section: &Value) -> Value {
    json!({"created": CREATED, "architecture": "amd64", "os": "linux", "config": section, "history": []})
}

fn manifests(layout: &Layout, image: &Value) -> Result<Vec<Value>> {
    if text(image, "mediaType")? == media::INDEX {
        let index = layout.document(text(image, "digest")?)?;
        return Ok(index["manifests"].as_array().cloned().unwrap_or_default());
    }
    Ok(vec![image.clone()])
}

fn busybox(layout: &Layout) -> Result<Vec<Value>> {
    let scratch = Scratch::new()?;
    let root = scratch.folder("busybox")?;
    run_recipe(BUSYBOX_TREE, &root)?;
    let first = tree_layer(layout, &root, Packing::Gzip)?;
    let row = |text: &str| json!({"created": CREATED, "created_by": text});
    // The second row tells the images apart: their layers are the same.
    let history = |tag: &str| {
        let config =
            json!({"created": CREATED, "created_by": format!("the config of busybox:{tag}"), "empty_layer": true});
        json!([row("the tree of busybox"), config])
    };

    let mut plain = config(&json!({"Env": [PATH], "Cmd": ["sh"]}));
    plain["history"] = history("latest");
    let amd64 = layout.put_image(plain.clone(), std::slice::from_ref(&first))?;
    let mut foreign = plain.clone();
    foreign["architecture"] = "arm64".into();
    foreign["variant"] = "v8".into();
    let mut arm64 = layout.put_image(foreign, std::slice::from_ref(&first))?;
    arm64["platform"]["variant"] = "v8".into();
    let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [arm64, amd64]});
    let latest = layout.put_document(media::INDEX, &index)?;

    let trees = scratch.folder("layers")?;
    run_recipe(LAYERS_TREE, &trees)?;
    let mut layers = vec![first.clone()];
    for (number, packing) in [("1", Packing::GzipMembers(4096)), ("2", Packing::Zstd), ("3", Packing::Plain)] {
        layers.push(tree_layer(layout, &trees.join(number), packing)?);
    }
    let mut layered = plain.clone();
    layered["history"] = layers.iter().map(|layer| row(&layer.descriptor["mediaType"].to_string())).collect();
    let layered = layout.put_image(layered, &layers)?;

    let mut rich = config(&json!({
        "User": "app",
        "ExposedPorts": {"8080/tcp": {}},
        "Env": [PATH, "COLOR=blue"],
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["echo rich"],
        "Volumes": {"/srv/data": {}},
        "WorkingDir": "/srv",
        "Labels": {"com.example.kept": "yes", "com.example.replaced": "no"},
        "StopSignal": "SIGQUIT",
        "Shell": ["/bin/ash", "-ec"],
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_u64, "Retries": 2},
        "com.example.Unknown": {"nested": [1, null, "text"]},
    }));
    rich["author"] = "the lab".into();
    rich["com.example.unknown"] = json!({"b": 1, "a": [true]});
    rich["history"] = history("rich");
    let rich = layout.put_image(rich, std::slice::from_ref(&first))?;

    let mut trigger = plain;
    trigger["history"] = history("trigger");
    trigger["config"]["OnBuild"] =
        json!(["ARG GREETING=hello", "COPY . /triggered/", "RUN echo $GREETING > /triggered/greeting"]);
    let trigger = layout.put_image(trigger, &[first])?;
    Ok(vec![latest, layered, rich, trigger])
}

fn run_recipe(script: &str, tree: &Path) -> Result<()> {
    must(Command::new("sh").args(["-c", script, "recipe"]).arg(tree)).context("make a tree").map(drop)
}

/// Packs a folder as GNU tar does, with nothing in it that changes from day to day.
fn tree_layer(layout: &Layout, tree: &Path, packing: Packing) -> Result<Layer> {
    let errors = ErrorFile::new()?;
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--numeric-owner", "--mtime=@1577836800", "--format=pax"]);
    tar.args(["--pax-option=delete=atime,delete=ctime", "--xattrs", "--xattrs-include=*", "-cf", "-", "-C"]).arg(tree);
    let mut child = tar.arg(".").stdout(Stdio::piped()).stderr(errors.writer()?).spawn().context("start tar")?;
    let mut stdout = child.stdout.take().expect("it was asked for");
    let layer = layout.put_layer(&mut stdout, packing);
    drop(stdout);
    errors.check(child.wait().context("wait for tar")?, "tar")?;
    layer
}

/// Where a program writes its errors while its output is read.
struct ErrorFile {
    _scratch: Scratch,
    path: PathBuf,
}

impl ErrorFile {
    fn new() -> Result<Self> {
        let scratch = Scratch::new()?;
        let path = scratch.path().join("errors");
        Ok(Self { _scratch: scratch, path })
    }

    fn writer(&self) -> Result<File> {
        File::create(&self.path).with_context(|| format!("make {}", self.path.display()))
    }

    fn check(&self, status: std::process::ExitStatus, program: &str) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        anyhow::bail!("{program}: {status}\n{}", fs::read_to_string(&self.path).unwrap_or_default());
    }
}
