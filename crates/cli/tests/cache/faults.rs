//! What is wrong with a cache: entries that lie, registries that refuse, files that change. None of it gets into an image or
//! fails a build.

use std::fs;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zuwai_lab::gate::Gate;
use zuwai_lab::layout::{Layout, media, sha256, text};
use zuwai_lab::packing::Packing;

use super::stand::Stand;

const CREATED: &str = "org.opencontainers.image.created";
const CONTENT: &str = "dev.zuwai.cache.content";
const DIFF_ID: &str = "dev.zuwai.cache.diff-id";

/// Two commands, of which the second needs the files of the first.
const TWO: &str = "FROM busybox\nRUN echo one > /one\nRUN cat /one > /two\n";
/// The same with another second one.
const OTHER: &str = "FROM busybox\nRUN echo one > /one\nRUN cat /one /one > /two\n";

/// Changes the entry of the first command. `honest` makes what it says of itself fit again, as a liar would.
fn change(stand: &Stand, honest: bool, change: impl Fn(&Layout, &mut Value)) {
    let mut changed = 0;
    for tag in entries(stand) {
        let folder = stand.scratch.path().join(format!("entry-{tag}-{}", stand.registry.requests().len()));
        let layout = stand.registry.pull(&format!("kept:{tag}"), &folder).unwrap();
        let digest = text(&layout.index().unwrap()[0], "digest").unwrap().to_owned();
        let mut manifest = layout.document(&digest).unwrap();
        let config = layout.document(text(&manifest["config"], "digest").unwrap()).unwrap();
        if !config["history"][0]["created_by"].as_str().unwrap().contains("echo one") {
            continue;
        }
        change(&layout, &mut manifest);
        if honest {
            manifest["annotations"][CONTENT] = content_of(&manifest).into();
        }
        let descriptor = layout.put_document(media::MANIFEST, &manifest).unwrap();
        stand.registry.push_layout(&layout, &descriptor, "kept", &tag).unwrap();
        changed += 1;
    }
    assert_eq!(changed, 1);
}

fn entries(stand: &Stand) -> Vec<String> {
    let tags = stand.registry.storage().tags("kept").unwrap();
    tags.into_iter().filter(|tag| tag.len() == "zuwai-".len() + 64).collect()
}

/// What an entry says of its layer, as the builder hashes it: parts behind their lengths.
fn content_of(manifest: &Value) -> String {
    let said = |name: &str| manifest["annotations"][name].as_str().unwrap().to_owned();
    let bytes = |text: String| -> Vec<u8> {
        (0..32).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap()).collect()
    };
    let layer = &manifest["layers"][0];
    let layer = format!(
        "{} {} {} {}",
        layer["mediaType"].as_str().unwrap(),
        layer["digest"].as_str().unwrap(),
        layer["size"],
        said(DIFF_ID)
    );
    let parts = [
        b"zuwai layer cache 2".to_vec(),
        bytes(said("dev.zuwai.cache.key")),
        bytes(said("dev.zuwai.cache.below")),
        layer.into_bytes(),
    ];
    let framed: Vec<u8> =
        parts.iter().flat_map(|part| [&(part.len() as u64).to_le_bytes()[..], part].concat()).collect();
    sha256(&framed)
}

/// What `/two` is in the image.
fn second(stand: &Stand, tag: &str) -> String {
    stand.file(tag, "two")
}

#[test]
fn an_entry_that_says_something_else_of_its_layer_is_a_miss_with_a_warning() {
    let stand = Stand::new(TWO);
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    let lies: [fn(&Layout, &mut Value); 5] = [
        |_, manifest| manifest["annotations"][DIFF_ID] = format!("sha256:{}", "0".repeat(64)).into(),
        |_, manifest| manifest["annotations"][DIFF_ID] = "nonsense".into(),
        |layout, manifest| manifest["layers"][0] = layer(layout, b"something else"),
        |_, manifest| drop(manifest["annotations"].as_object_mut().unwrap().remove(CREATED)),
        |_, manifest| manifest["annotations"][CREATED] = "2999-01-01T00:00:00Z".into(),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        change(&stand, false, lie);
        let tag = format!("lie-{number}");
        let build = stand.build(&tag, &[&repository]);
        assert!(build.output.err().contains("is not used: it"), "{number}: {}", build.output);
        assert_eq!(build.misses().len(), 2, "what was made on it is made anew, too: {}", build.output);
        assert_eq!(second(&stand, &tag), "one\n", "{number}");
        let mended = stand.build(&format!("mended-{number}"), &[&repository]);
        assert_eq!(mended.misses(), [""; 0], "{number}: {}", mended.output);
    }
}

#[test]
fn a_lie_that_shows_only_when_the_layer_is_unpacked_lets_the_build_begin_anew() {
    let stand = Stand::new(TWO);
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    let lies: [fn(&Layout, &mut Value); 3] = [
        // Another tar than it says.
        |_, manifest| manifest["annotations"][DIFF_ID] = format!("sha256:{}", "0".repeat(64)).into(),
        // No tar at all.
        |layout, manifest| manifest["layers"][0] = layer(layout, b"no archive"),
        // Not even compressed.
        |layout, manifest| manifest["layers"][0] = layout.put(&format!("{}+gzip", media::LAYER), &[7; 3_000]).unwrap(),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        stand.write("Dockerfile", TWO);
        stand.build(&format!("right-{number}"), &[&repository]);
        change(&stand, true, lie);
        // The second command is another one each time, so that the first one's files are needed.
        stand.write("Dockerfile", &OTHER.replace("> /two", &format!("> /two && echo {number} >> /two")));
        let tag = format!("lie-{number}");
        let build = stand.build(&tag, &[&repository]);
        let said = build.output.err();
        assert!(said.contains("is not used, and the build begins anew"), "{number}: {}", build.output);
        assert_eq!(second(&stand, &tag), format!("one\none\n{number}\n"), "{number}");
    }
}

#[test]
fn what_a_lying_layer_left_is_gone_when_the_build_begins_anew() {
    let stand = Stand::new("FROM busybox\nRUN echo evil > /evil\n");
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("evil", &[&repository]);
    let (layout, manifest) = stand.pulled("evil");
    let evil = layout.blob(manifest["layers"][1]["digest"].as_str().unwrap()).unwrap();
    for by_hand in [false, true] {
        stand.write("Dockerfile", TWO);
        stand.build(&format!("right-{by_hand}"), &[&repository]);
        change(&stand, true, |layout, manifest| {
            manifest["layers"][0] = layout.put(&format!("{}+gzip", media::LAYER), &evil).unwrap();
        });
        stand.write("Dockerfile", &format!("{TWO}RUN echo {by_hand} && ls / > /list\n"));
        let tag = format!("wrong-{by_hand}");
        let output = if by_hand {
            stand.build_by_hand(&tag, &[&repository]).success().unwrap()
        } else {
            stand.build(&tag, &[&repository]).output
        };
        assert!(output.err().contains("is not used, and the build begins anew"), "{output}");
        let list = stand.file(&tag, "list");
        assert!(list.contains("one\n") && !list.contains("evil"), "{by_hand}: {list}");
    }
}

/// These bytes, compressed as a layer is.
fn layer(layout: &Layout, bytes: &[u8]) -> Value {
    layout.put_layer(&mut &bytes[..], Packing::Gzip).unwrap().descriptor
}

#[test]
fn what_is_no_manifest_is_a_miss_with_a_warning() {
    let stand = Stand::new(TWO);
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    for tag in entries(&stand) {
        let digest = stand.registry.storage().tag("kept", &tag).unwrap();
        stand.registry.storage().corrupt(&digest, |bytes| bytes.truncate(bytes.len() / 2)).unwrap();
    }
    let build = stand.build("two", &[&repository]);
    assert_eq!(build.output.err().matches("is not used: ").count(), 2, "{}", build.output);
    assert_eq!((build.misses().len(), second(&stand, "two").as_str()), (2, "one\n"), "{}", build.output);
}

#[test]
fn what_is_used_lives_on_and_what_is_not_gets_too_old() {
    let stand = Stand::new(TWO);
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    let created = || {
        let tags = entries(&stand).into_iter();
        let manifests = tags.map(|tag| stand.registry.manifest(&format!("kept:{tag}")).unwrap());
        manifests.map(|manifest| manifest["annotations"][CREATED].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let date = |days: u64| {
        let mut command = Command::new("date");
        let output = command.args(["-u", "-d", &format!("{days} days ago"), "+%FT%TZ"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // A quarter of two weeks is over.
    let (five, twenty) = (date(5), date(20));
    let old =
        |date: String| move |_: &Layout, manifest: &mut Value| manifest["annotations"][CREATED] = date.clone().into();
    change(&stand, true, old(five.clone()));
    assert!(created().contains(&five));
    let used = stand.build("used", &[&repository]);
    assert_eq!(used.misses(), [""; 0], "{}", used.output);
    assert!(!created().contains(&five), "it was not written anew");
    // Young ones are left alone.
    let young = created();
    stand.build("again", &[&repository]);
    assert_eq!(created(), young);
    change(&stand, true, old(twenty));
    let late = stand.build("late", &[&repository]);
    assert_eq!(late.misses().len(), 2, "{}", late.output);
}

#[test]
fn entries_of_kaniko_in_the_same_repository_are_neither_used_nor_touched() {
    let stand = Stand::new(TWO);
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    // Kaniko's tags are keys of 64 digits, also of the very key that is ours.
    let ours = entries(&stand);
    let storage = stand.registry.storage();
    for (number, tag) in ours.iter().enumerate() {
        let folder = stand.scratch.path().join(format!("kaniko-{number}"));
        let layout = stand.registry.pull("app:one", &folder).unwrap();
        let image = layout.index().unwrap()[0].clone();
        stand.registry.push_layout(&layout, &image, "kept", tag.strip_prefix("zuwai-").unwrap()).unwrap();
        stand.registry.push_layout(&layout, &image, "kept", &format!("{number}").repeat(64)).unwrap();
    }
    let kaniko: Vec<String> = storage.tags("kept").unwrap().into_iter().filter(|tag| tag.len() == 64).collect();
    assert_eq!(kaniko.len(), 4);
    let digests = || kaniko.iter().map(|tag| storage.tag("kept", tag)).collect::<Vec<_>>();
    let before = digests();
    stand.write("Dockerfile", OTHER);
    let build = stand.build("two", &[&repository]);
    assert_eq!((build.hits().len(), build.misses().len()), (1, 1), "{}", build.output);
    assert_eq!(digests(), before);
    let asked = |line: &String| kaniko.iter().any(|tag| line.contains(&format!("/manifests/{tag}")));
    assert!(!build.moved.iter().any(asked), "{:?}", build.moved);
}

#[test]
fn a_repository_that_is_not_there_and_is_not_made_is_a_warning() {
    let stand = Stand::new(TWO);
    let gate = Gate::start(stand.registry.port(), |_, path| {
        let missing = r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
        path.starts_with("/v2/kept/").then(|| (404, missing.to_owned()))
    });
    let gate = gate.unwrap();
    let words = [format!("--cache-repo={}/kept", gate.host()), format!("--insecure-registry={}", gate.host())];
    let build = stand.build("one", &[&words[0], &words[1]]);
    assert!(build.output.err().contains("does not take new layers"), "{}", build.output);
    assert!(build.output.err().contains("NAME_UNKNOWN"), "{}", build.output);
    assert_eq!(second(&stand, "one"), "one\n");
}

#[test]
fn tags_that_cannot_be_moved_are_a_warning_and_new_ones_are_kept_all_the_same() {
    let stand = Stand::new(TWO);
    let known: Mutex<Vec<String>> = Mutex::default();
    let gate = Gate::start(stand.registry.port(), move |method, path| {
        if method != "PUT" || !path.starts_with("/v2/kept/manifests/") {
            return None;
        }
        let mut known = known.lock().unwrap();
        if known.iter().any(|known| known == path) {
            let message = "The image tag already exists in the 'kept' repository and cannot be overwritten because the \
                           repository is immutable.";
            return Some((400, json!({"errors": [{"code": "TAG_INVALID", "message": message}]}).to_string()));
        }
        known.push(path.to_owned());
        None
    });
    let gate = gate.unwrap();
    let words = [format!("--cache-repo={}/kept", gate.host()), format!("--insecure-registry={}", gate.host())];
    let words = [words[0].as_str(), words[1].as_str()];
    stand.build("one", &words);
    stand.write("Dockerfile", OTHER);
    let two = stand.build("two", &words);
    assert!(two.output.err().contains("immutable"), "{}", two.output);
    assert_eq!((two.hits().len(), second(&stand, "two").as_str()), (1, "one\none\n"), "{}", two.output);
    let three = stand.build("three", &words);
    assert_eq!(three.misses(), [""; 0], "the new layer was not kept: {}", three.output);
}

#[test]
fn what_was_made_of_files_that_changed_meanwhile_is_not_kept() {
    let stand = Stand::new("FROM busybox\nRUN sleep 4\nCOPY lock.json /\nRUN cat /lock.json > /two\n");
    let build = thread::scope(|scope| {
        let build = scope.spawn(|| stand.build("one", &[]));
        let begin = Instant::now();
        let asked = || stand.registry.requests().iter().any(|line| line.contains("/app/cache/manifests/zuwai-"));
        while !asked() && begin.elapsed() < Duration::from_mins(1) {
            thread::sleep(Duration::from_millis(20));
        }
        // Its key was made; it is not copied yet.
        stand.write("lock.json", "changed");
        build.join().unwrap()
    });
    assert!(build.output.err().contains("lock.json changed while the build went on"), "{}", build.output);
    assert_eq!(second(&stand, "one"), "changed");
    stand.write("lock.json", "[]");
    let two = stand.build("two", &[]);
    assert_eq!((two.hits().len(), second(&stand, "two").as_str()), (1, "[]"), "{}", two.output);
}

#[test]
fn layers_that_never_lay_upon_each_other_do_not_come_into_one_image() {
    // Each run of the first command makes another file.
    let stand = Stand::new("FROM busybox\nRUN head -c 9 /dev/urandom | base64 > /one\nRUN cat /one > /two\n");
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    let before: Vec<(String, String)> = entries(&stand)
        .into_iter()
        .map(|tag| (tag.clone(), stand.registry.storage().tag("kept", &tag).unwrap()))
        .collect();
    stand.build("two", &[&repository, "--cache-ttl=0"]);
    assert_ne!(stand.file("one", "two"), stand.file("two", "two"));
    // Two builders were at work: of the one entry this one's is there, of the other that one's.
    let of_first = |tag: &str| {
        let manifest = stand.registry.manifest(&format!("kept:{tag}")).unwrap();
        let config = stand.registry.storage().blob(manifest["config"]["digest"].as_str().unwrap()).unwrap();
        fs::read_to_string(config).unwrap().contains("urandom")
    };
    let (tag, digest) = before.iter().find(|(tag, _)| of_first(tag)).unwrap();
    stand.registry.storage().point("kept", tag, digest).unwrap();
    let three = stand.build("three", &[&repository]);
    assert_eq!(three.hits().len(), 1, "{}", three.output);
    assert!(three.output.err().contains("was made on another run of a command before it"), "{}", three.output);
    assert_eq!(stand.file("three", "two"), stand.file("three", "one"));
}
