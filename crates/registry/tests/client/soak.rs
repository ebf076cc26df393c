//! Many pushes and pulls with failing requests, by a seed: each request's fate depends on what it asks for and how often it
//! was asked, not on the moment.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use zuwai_registry::{BlobDir, ClientOptions, ImageFormat, Platform};

use super::docker_registry::DockerRegistry;
use super::fake_registry::{Action, FakeRegistry, Head, Reply};
use super::images::{anonymous, assert_same, image, reference};

const SEED: u64 = 42;
/// They mostly wait for their next try.
const AT_ONCE: usize = 16;

/// One request in ten fails, in one of these ways.
fn fate(seen: &Mutex<HashMap<String, u32>>, head: &Head) -> Action {
    // The ids of upload sessions are the registry's own choice.
    let target = head.target.split("/uploads/").next().unwrap_or_default();
    let digest = head.target.split("digest=").nth(1).unwrap_or_default();
    let key = format!("{} {target} {digest}", head.method);
    let times = {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(key.clone()).or_default();
        *times += 1;
        *times
    };
    let mut hasher = DefaultHasher::new();
    (SEED, key, times).hash(&mut hasher);
    let random = hasher.finish();
    if !random.is_multiple_of(10) {
        return Action::Serve;
    }
    match random / 10 % 7 {
        0 => Action::Reset(0),
        1 => Action::Reset(5000),
        2 => Action::Cut(5000),
        3 => Action::Mute,
        4 => Action::Reply(Reply::status(429).header("retry-after", "0")),
        5 => Action::Reply(Reply::status(502)),
        _ => Action::Reply(Reply::status(503)),
    }
}

#[test]
fn with_one_request_in_ten_failing_two_hundred_pushes_and_pulls_of_twenty_layers_end_right() {
    // The fake registry: a real one would need minutes of the processor for so many.
    soak(&FakeRegistry::start(), 200);
}

#[test]
fn with_one_request_in_ten_failing_a_real_registry_loses_nothing() {
    let behind = DockerRegistry::open();
    soak(&FakeRegistry::in_front_of(&behind), 8);
}

#[test]
#[ignore = "minutes of two cores: cargo nextest run -p zuwai-registry --run-ignored only"]
fn with_one_request_in_ten_failing_two_hundred_pushes_and_pulls_at_a_real_registry_end_right() {
    let behind = DockerRegistry::open();
    soak(&FakeRegistry::in_front_of(&behind), 200);
}

/// So many pushes of one image, each to a repository of its own, and pulls of what was pushed.
fn soak(registry: &FakeRegistry, cycles: usize) {
    let folder = tempfile::tempdir().unwrap();
    let made = BlobDir::open(folder.path().join("made")).unwrap();
    let image = image(5, &[6000; 20], ImageFormat::Oci, &made);
    let (seen, failed) = (Mutex::default(), std::sync::Arc::new(AtomicUsize::new(0)));
    let counted = std::sync::Arc::clone(&failed);
    registry.fault(move |head, _| {
        let action = fate(&seen, head);
        counted.fetch_add(usize::from(!matches!(action, Action::Serve)), Ordering::Relaxed);
        action
    });
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let cycle = next.fetch_add(1, Ordering::Relaxed);
                    if cycle >= cycles {
                        return;
                    }
                    // What a user has who gives no flag but the one for plain HTTP.
                    let options =
                        ClientOptions { insecure_registries: vec![registry.name()], ..ClientOptions::default() };
                    let client = anonymous(options);
                    let name = reference(&format!("{}/app{cycle}:1", registry.name()));
                    let digest = client.push(&image, std::slice::from_ref(&name)).unwrap();
                    let blobs = BlobDir::open(folder.path().join(cycle.to_string())).unwrap();
                    let pulled = client.pull(&name, &Platform::host(), &blobs).unwrap();
                    assert_eq!(pulled.digest, digest);
                    client.prefetch(&pulled.image.layers);
                    assert_same(&pulled.image, &image);
                    std::fs::remove_dir_all(blobs.path()).unwrap();
                }
            });
        }
    });
    let failed = failed.load(Ordering::Relaxed);
    assert!(failed > cycles * 5, "only {failed} requests failed");
}
