//! Layers that are read while they come: each byte once and in order whatever goes wrong on the way, nothing left on the
//! disk, and what is wrong found out by the diff id.

use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zuwai_registry::{BlobDir, ClientOptions, Layer, Platform, RegistryError};

use super::fake_registry::{Action, FakeRegistry, Head, Reply};
use super::images::{anonymous, assert_same, impatient, plain, read, reference};
use super::scene::{Scene, is_layer, once, pushed, times};

/// The plain tar of a layer, read while it comes.
fn stream(layer: &Layer) -> io::Result<Vec<u8>> {
    let mut tar = Vec::new();
    layer.stream_tar()?.read_to_end(&mut tar)?;
    Ok(tar)
}

/// Reads the only layer so, and checks that it is the one that was pushed and that no blob is left. The ranges asked for.
fn stream_whole(scene: &Scene) -> Vec<Option<String>> {
    let before = scene.registry.seen().len();
    let folder = tempfile::tempdir_in(scene.folder.path()).unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let pulled = scene.client().pull(&scene.name, &Platform::host(), &blobs).unwrap();
    assert!(stream(&pulled.image.layers[0]).unwrap() == read(&scene.image.layers[0]).unwrap());
    assert_eq!(blobs.get(&pulled.image.layers[0].descriptor.digest), None);
    assert_eq!(std::fs::read_dir(folder.path().join("sha256")).unwrap().count(), 0);
    let (seen, layer) = (scene.registry.seen(), is_layer(&scene.image));
    seen[before..].iter().filter(|head| layer(head)).map(|head| head.headers.get("range").cloned()).collect()
}

fn stream_error(scene: &Scene) -> io::Error {
    stream(&scene.pull().unwrap().image.layers[0]).unwrap_err()
}

#[test]
fn a_layer_is_read_while_it_comes_and_fetched_again_by_who_opens_it() {
    let scene = pushed(&[100_000]);
    assert_eq!(stream_whole(&scene), [None]);
    let pulled = scene.pull().unwrap();
    stream(&pulled.image.layers[0]).unwrap();
    assert_same(&pulled.image, &scene.image);
    let requests = scene.registry.count("GET", "/blobs/");
    stream(&pulled.image.layers[0]).unwrap();
    assert_eq!(scene.registry.count("GET", "/blobs/"), requests, "what is here is not fetched again");
}

#[test]
fn one_that_breaks_goes_on_where_it_broke() {
    let scene = pushed(&[400_000]);
    scene.registry.fault(times(3, is_layer(&scene.image), || Action::Cut(50_000)));
    let ranges = stream_whole(&scene);
    let expected = [50_000, 100_000, 150_000].map(|from| Some(format!("bytes={from}-")));
    assert_eq!((&ranges[0], &ranges[1..]), (&None, &expected[..]));
    scene.registry.fault(times(12, is_layer(&scene.image), || Action::Cut(20_000)));
    assert_eq!(stream_whole(&scene).len(), 13, "it may break more often than a request is tried");
}

#[test]
fn one_that_comes_from_its_beginning_again_is_handed_out_once() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    let name = scene.image.layers[0].descriptor.digest.hex().to_owned();
    let blob = std::fs::read(scene.folder.path().join("made/sha256").join(name)).unwrap();
    let layer_again = layer.clone();
    scene.registry.fault(move |head, _| match (layer(head), head.headers.contains_key("range")) {
        (true, false) => Action::Cut(30_000),
        (true, true) => Action::Reply(Reply::status(200).body(blob.clone())),
        _ => Action::Serve,
    });
    assert_eq!(stream_whole(&scene).len(), 2);
    // A range that cannot be had, and then less than came before.
    let next = AtomicUsize::new(0);
    scene.registry.fault(move |head, _| match layer_again(head).then(|| next.fetch_add(1, Ordering::SeqCst)) {
        Some(0) => Action::Cut(30_000),
        Some(1) => Action::Reply(Reply::status(416)),
        Some(2) => Action::Cut(10_000),
        _ => Action::Serve,
    });
    let ranges = stream_whole(&scene);
    assert_eq!(ranges, [None, Some("bytes=30000-".to_owned()), None, Some("bytes=10000-".to_owned())]);
}

#[test]
fn what_its_bytes_are_is_known_however_few_come_first() {
    let scene = pushed(&[100_000]);
    for first in 1..5 {
        let pause = move || Action::Slow(first, Duration::from_millis(50));
        scene.registry.fault(once(is_layer(&scene.image), pause));
        stream_whole(&scene);
    }
}

#[test]
fn where_a_mirror_has_no_more_of_it_the_registry_goes_on() {
    let scene = pushed(&[400_000]);
    let behind = scene.behind.as_ref().unwrap();
    let (mirror, original) = (FakeRegistry::in_front_of(behind), &scene.registry);
    let (layer, cut) = (is_layer(&scene.image), AtomicBool::new(false));
    mirror.fault(move |head, _| match (layer(head), cut.load(Ordering::SeqCst)) {
        (true, false) => {
            cut.store(true, Ordering::SeqCst);
            Action::Cut(50_000)
        }
        (true, true) => Action::Reply(Reply::status(404)),
        _ => Action::Serve,
    });
    let client = anonymous(ClientOptions {
        insecure_registries: vec![mirror.name(), original.name()],
        registry_maps: [(original.name(), vec![mirror.name()])].into(),
        ..impatient()
    });
    let blobs = BlobDir::open(scene.folder.path().join("other")).unwrap();
    let pulled = client.pull(&scene.name, &Platform::host(), &blobs).unwrap();
    assert_eq!(pulled.origin, reference(&format!("{}/app:1", mirror.name())));
    assert!(stream(&pulled.image.layers[0]).unwrap() == read(&scene.image.layers[0]).unwrap());
    let layer = is_layer(&scene.image);
    let seen = original.seen();
    let asked: Vec<&Head> = seen.iter().filter(|head| layer(head)).collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers.get("range").map(String::as_str), Some("bytes=50000-"));
}

#[test]
fn other_bytes_are_an_error_of_what_is_in_them_and_not_of_the_transfer() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    for place in [5_000, 50_000] {
        scene.registry.fault(once(layer.clone(), move || Action::Flip(place)));
        let error = stream_error(&scene);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        assert!(RegistryError::behind(&error).is_none(), "{error}");
    }
    stream_whole(&scene);
}

#[test]
fn one_of_another_size_is_told_with_both() {
    let scene = pushed(&[100_000]);
    let told = |scene: &Scene| {
        let error = stream_error(scene);
        RegistryError::behind(&error).unwrap_or_else(|| panic!("not of the client: {error}")).to_string()
    };
    let (layer, again) = (is_layer(&scene.image), is_layer(&scene.image));
    let short = Reply::status(200).body(vec![1; 77]);
    scene.registry.fault(move |head, _| if layer(head) { Action::Reply(short.clone()) } else { Action::Serve });
    let (error, size) = (told(&scene), scene.image.layers[0].descriptor.size);
    assert!(error.contains(&format!("should have {size} bytes but has 77")), "{error}");
    let endless = Reply { status: 200, body: vec![b' '; 65_536], endless: true, ..Reply::default() };
    scene.registry.fault(move |head, _| if again(head) { Action::Reply(endless.clone()) } else { Action::Serve });
    let error = told(&scene);
    assert!(error.contains("bytes but has more"), "{error}");
    scene.registry.fault(|_, _| Action::Serve);
    let pulled = scene.pull().unwrap();
    scene.lose_blobs();
    let error = stream(&pulled.image.layers[0]).unwrap_err();
    let error = RegistryError::behind(&error).unwrap().to_string();
    assert!(error.starts_with("blob unknown: "), "{error}");
}

#[test]
fn one_that_a_registry_does_not_take_from_its_other_repository_is_fetched_again_and_sent() {
    let scene = pushed(&[10_000]);
    let pulled = scene.pull().unwrap();
    let name = reference(&format!("{}/other:1", scene.registry.name()));
    assert!(scene.client().can_do_without(&pulled.image.layers[0], std::slice::from_ref(&name)));
    stream(&pulled.image.layers[0]).unwrap();
    scene.registry.fault(|head, _| {
        if head.target.contains("mount=") { Action::Reply(Reply::error(403, "DENIED")) } else { Action::Serve }
    });
    scene.client().push(&pulled.image, &[name]).unwrap();
    let layer = is_layer(&scene.image);
    assert_eq!(scene.registry.seen().iter().filter(|head| layer(head)).count(), 1, "fetched again");
    assert!(scene.registry.manifest("other", "1").is_some());
}

#[test]
fn who_stops_reading_keeps_nobody_else_from_it() {
    let scene = pushed(&[4_000_000]);
    let client = scene.client();
    let pull = |name: &str| {
        let blobs = BlobDir::open(scene.folder.path().join(name)).unwrap();
        client.pull(&scene.name, &Platform::host(), &blobs).unwrap().image
    };
    // More than go on at a time.
    for number in 0..20 {
        let mut tar = pull(&number.to_string()).layers[0].stream_tar().unwrap();
        tar.read_exact(&mut [0; 100]).unwrap();
    }
    assert!(stream(&pull("last").layers[0]).unwrap() == read(&scene.image.layers[0]).unwrap());
    // Nor where nothing comes that would show it.
    scene.registry.fault(times(10, is_layer(&scene.image), || Action::Slow(50_000, Duration::from_secs(20))));
    let begin = Instant::now();
    for number in 20..30 {
        drop(pull(&number.to_string()).layers[0].stream_tar().unwrap());
    }
    stream(&pull("the very last").layers[0]).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_destination_is_asked_as_for_a_push_and_not_for_long() {
    let (scene, other) = (pushed(&[1000]), FakeRegistry::start());
    let layer = &scene.pull().unwrap().image.layers[0];
    let name = [reference(&format!("{}/app:1", other.name()))];
    let can = |options: ClientOptions| anonymous(options).can_do_without(layer, &name);
    assert!(!can(ClientOptions { insecure: true, ..impatient() }), "it has no such blob");
    other.fault(|head, _| if head.method == "HEAD" { Action::Reply(Reply::status(200)) } else { Action::Serve });
    assert!(can(ClientOptions { insecure: true, ..impatient() }));
    let asked = other.seen().len();
    assert!(!can(ClientOptions { insecure_pull: true, ..impatient() }), "what holds for pulls is not for it");
    assert_eq!(other.seen().len(), asked);
    other.fault(|_, _| Action::Late(Duration::from_secs(9)));
    let begin = Instant::now();
    assert!(!can(ClientOptions { insecure: true, ..impatient() }));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn who_waits_for_more_of_it_is_woken_when_the_build_is_to_stop() {
    let scene = pushed(&[300_000]);
    let cancelled = Arc::new(AtomicBool::new(false));
    let client = anonymous(ClientOptions { cancelled: Some(Arc::clone(&cancelled)), ..plain(&scene.registry.name()) });
    let blobs = BlobDir::open(scene.folder.path().join("cancelled")).unwrap();
    let pulled = client.pull(&scene.name, &Platform::host(), &blobs).unwrap();
    scene.registry.fault(once(is_layer(&scene.image), || Action::Slow(100_000, Duration::from_secs(8))));
    let begin = Instant::now();
    let told = Arc::clone(&cancelled);
    let teller = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        told.store(true, Ordering::SeqCst);
    });
    let error = stream(&pulled.image.layers[0]).unwrap_err();
    teller.join().unwrap();
    assert!(matches!(RegistryError::behind(&error), Some(RegistryError::Cancelled)), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}
