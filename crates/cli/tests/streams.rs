//! Base layers that are unpacked while they come: fetched once, whatever the image is for, and exact where what came was
//! damaged.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

use std::fs;
use std::path::{Path, PathBuf};

use zuwai_lab::base::{Base, registry_of_its_own};
use zuwai_lab::layout::text;
use zuwai_lab::meter::Meter;
use zuwai_lab::registry::Options;
use zuwai_lab::{Executor, Output, Registry, Scratch};

const TWICE: &str =
    "FROM busybox AS one\nRUN echo one > /one\nFROM busybox\nRUN echo two > /two\nCOPY --from=one /one /\n";

struct Stand {
    bases: Registry,
    executor: Executor,
    scratch: Scratch,
}

impl Stand {
    fn new() -> Stand {
        let bases = registry_of_its_own(&[Base::Busybox], &Options::default()).unwrap();
        let executor = Executor::new(Path::new(env!("CARGO_BIN_EXE_zuwai"))).unwrap();
        Stand { bases, executor, scratch: Scratch::new().unwrap() }
    }

    /// Builds on bases that come from this port.
    fn build_from(&self, port: u16, dockerfile: &str, words: &[String]) -> Output {
        let context = self.scratch.folder("context").unwrap();
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let host = format!("127.0.0.1:{port}");
        let mut arguments = vec![
            "--context=dir:///workspace".to_owned(),
            "--skip-default-registry-fallback".to_owned(),
            format!("--registry-mirror={host}"),
            format!("--insecure-registry={host}"),
        ];
        arguments.extend_from_slice(words);
        let container = self.executor.container().mount(&context, "/workspace").env("NO_COLOR", "1");
        container.mount_writable(&self.out(), "/out").run(arguments).unwrap()
    }

    fn build(&self, dockerfile: &str, words: &[String]) -> Output {
        self.build_from(self.bases.port(), dockerfile, words).success().unwrap()
    }

    fn out(&self) -> PathBuf {
        self.scratch.folder("out").unwrap()
    }

    /// How often the base's layer was sent since this was asked last.
    fn sent(&self, seen: &mut usize) -> usize {
        let layer = self.layer();
        let requests = self.bases.requests();
        let new = &requests[*seen..];
        *seen = requests.len();
        new.iter().filter(|line| line.contains("GET ") && line.contains(&layer)).count()
    }

    /// The digest of the base's layer.
    fn layer(&self) -> String {
        let index = self.bases.manifest("library/busybox:latest").unwrap();
        let ours =
            index["manifests"].as_array().unwrap().iter().find(|listed| listed["platform"]["architecture"] == "amd64");
        let digest = text(ours.unwrap(), "digest").unwrap();
        let manifest = self.bases.manifest(&format!("library/busybox@{digest}")).unwrap();
        text(&manifest["layers"][0], "digest").unwrap().to_owned()
    }

    fn diff_ids(registry: &Registry, name: &str) -> usize {
        registry.config(name).unwrap()["rootfs"]["diff_ids"].as_array().unwrap().len()
    }
}

fn to(registry: &Registry, tag: &str) -> Vec<String> {
    let host = registry.host();
    vec![format!("--destination={host}/app:{tag}"), format!("--insecure-registry={host}")]
}

#[test]
fn a_layer_is_fetched_once_whatever_the_image_is_for() {
    let stand = Stand::new();
    let one = "FROM busybox\nRUN echo one > /one\n";
    let mut seen = 0;
    stand.build(one, &to(&stand.bases, "same"));
    assert_eq!(stand.sent(&mut seen), 1, "the registry takes it from the base's repository");
    stand.build(TWICE, &to(&stand.bases, "twice"));
    assert_eq!(stand.sent(&mut seen), 1, "two stages begin with it");
    let other = Registry::start(&Options::default()).unwrap();
    for (tag, why) in [("first", "the other registry is sent it"), ("second", "the other registry has it")] {
        stand.build(one, &to(&other, tag));
        assert_eq!(stand.sent(&mut seen), 1, "{why}");
    }
    for (output, path) in [("oci-layout-path", "/out/layout"), ("tar-path", "/out/image.tar")] {
        let words = [format!("--{output}={path}"), "--no-push".to_owned(), "--destination=x/app:1".to_owned()];
        stand.build(one, &words);
        assert_eq!(stand.sent(&mut seen), 1, "{output} holds it");
    }
    stand.build(one, &["--no-push".to_owned()]);
    assert_eq!(stand.sent(&mut seen), 1);
    assert_eq!([Stand::diff_ids(&stand.bases, "app:twice"), Stand::diff_ids(&other, "app:second")], [3, 2]);
}

#[test]
fn one_that_came_damaged_is_fetched_anew_and_the_build_begins_anew() {
    let stand = Stand::new();
    let dockerfile = "FROM busybox\nRUN find /bin /home /root /usr -type f | sort | xargs md5sum > /sums\n";
    let words = |tag: &str| [to(&stand.bases, tag), vec!["--reproducible".to_owned()]].concat();
    stand.build(dockerfile, &words("right"));
    // All that comes before the layer is documents of some kilobytes.
    let meter = Meter::damaging(stand.bases.port(), 1_000_000).unwrap();
    let output = stand.build_from(meter.port(), dockerfile, &words("damaged")).success().unwrap();
    let said = format!("layer {}", stand.layer());
    let begins = "the build begins anew, and verifies each layer before it is unpacked";
    assert!(output.err().contains(&said) && output.err().contains(begins), "{output}");
    assert_eq!(stand.bases.manifest("app:damaged").unwrap(), stand.bases.manifest("app:right").unwrap());
}

#[test]
fn one_that_stays_damaged_is_named_and_nothing_is_pushed() {
    let stand = Stand::new();
    let layer = stand.layer();
    stand.bases.storage().corrupt(&layer, |bytes| bytes[1_000_000] ^= 1).unwrap();
    let output = stand.build_from(stand.bases.port(), "FROM busybox\nRUN ls / > /list\n", &to(&stand.bases, "bad"));
    assert_eq!(output.code(), 1, "{output}");
    assert_eq!(output.err().matches("begins anew").count(), 1, "{output}");
    assert!(output.err().contains(&format!("blob {layer}")) && output.err().contains("has other bytes"), "{output}");
    assert!(stand.bases.manifest("app:bad").is_err());
}
