//! What goes wrong on the way, and that none of it loses or corrupts anything. For each fault: what must happen
//! (docs/registries.md has the list).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use zuwai_registry::{BlobDir, Client, ClientOptions, Digest, Platform, RegistryError};

use super::fake_registry::{Action, FakeRegistry, Head, Reply};
use super::images::{anonymous, assert_same, impatient, login, plain, read, reference, with_config};
use super::scene::{Scene, fake_scene, is_layer, once, pushed, put_blob, scene, times};

#[test]
fn answers_that_pass_are_asked_for_again_when_pulling() {
    for status in [408, 429, 500, 502, 503, 504] {
        let scene = pushed(&[10_000]);
        let layer = is_layer(&scene.image);
        scene.registry.fault(times(
            3,
            |head| head.target.contains("/manifests/"),
            move || Action::Reply(Reply::status(status)),
        ));
        scene.pull_whole();
        scene.registry.fault(times(3, layer, move || Action::Reply(Reply::status(status))));
        scene.pull_whole();
    }
}

#[test]
fn answers_that_pass_are_asked_for_again_when_pushing() {
    for status in [429, 500, 502, 503, 504] {
        for part in
            ["HEAD /v2/app/blobs", "POST /v2/app/blobs/uploads", "PUT /v2/app/blobs/uploads", "PUT /v2/app/manifests"]
        {
            let scene = scene(&[10_000]);
            let hit = move |head: &Head| format!("{} {}", head.method, head.target).starts_with(part);
            scene.registry.fault(times(3, hit, move || Action::Reply(Reply::status(status))));
            scene.push().unwrap_or_else(|error| panic!("{part} {status}: {error}"));
            scene.registry.fault(|_, _| Action::Serve);
            scene.pull_whole();
        }
    }
}

#[test]
fn an_answer_that_does_not_pass_is_not_asked_for_again() {
    let scene = scene(&[1000]);
    scene.registry.fault(|_, _| Action::Reply(Reply::error(400, "NAME_INVALID")));
    let name = scene.name.clone();
    let error = scene.client().check_push(&name).unwrap_err().to_string();
    assert!(error.contains("unexpected status code 400 Bad Request: NAME_INVALID"), "{error}");
    assert!(error.contains(&name.to_string()), "{error}");
    assert_eq!(scene.registry.count("POST", ""), 1);
}

#[test]
fn a_registry_that_stays_broken_is_given_up_and_the_tag_not_moved() {
    let scene = scene(&[1000]);
    scene.registry.fault(|head, _| if put_blob(head) { Action::Reply(Reply::status(503)) } else { Action::Serve });
    let error = scene.push().unwrap_err();
    assert!(error.to_string().contains("503 Service Unavailable"), "{error}");
    assert!(!scene.tag_is_there());
}

#[test]
fn a_destination_that_takes_no_blobs_leaves_the_tags_at_the_others_as_they_were() {
    let scene = fake_scene(&[1000]);
    let second = FakeRegistry::start();
    second.fault(|head, _| if put_blob(head) { Action::Reply(Reply::error(403, "DENIED")) } else { Action::Serve });
    let options = ClientOptions { insecure_registries: vec![scene.registry.name(), second.name()], ..impatient() };
    let names = [scene.name.clone(), reference(&format!("{}/app:1", second.name()))];
    scene.registry.put_manifest("app", "1", "application/vnd.oci.image.manifest.v1+json", b"as it was");
    let error = anonymous(options).push(&scene.image, &names).unwrap_err();
    assert!(error.to_string().contains("403 Forbidden"), "{error}");
    assert_eq!(scene.registry.manifest("app", "1").as_deref(), Some(&b"as it was"[..]));
    assert_eq!((scene.registry.count("PUT", "/manifests/"), second.count("PUT", "/manifests/")), (0, 0));
}

#[test]
fn the_pause_a_registry_asks_for_is_made() {
    let scene = pushed(&[1000]);
    let manifest = |head: &Head| head.target.contains("/manifests/");
    scene.registry.fault(once(manifest, || Action::Reply(Reply::status(429).header("retry-after", "1"))));
    let start = Instant::now();
    scene.pull().unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn connections_that_break_are_made_again() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    scene.registry.fault(times(2, |head| head.target.contains("/manifests/"), || Action::Reset(0)));
    scene.pull_whole();
    scene.registry.fault(times(2, layer, || Action::Reset(0)));
    scene.pull_whole();

    for after in [0, 10_000] {
        let scene = self::scene(&[100_000]);
        scene.registry.fault(times(2, put_blob, move || Action::Reset(after)));
        scene.push_whole();
    }
}

#[test]
fn an_upload_whose_answer_was_lost_is_found_and_not_sent_again() {
    let scene = scene(&[100_000]);
    scene.registry.fault(once(put_blob, || Action::Mute));
    scene.push().unwrap();
    assert_eq!(scene.registry.count("PUT", "/blobs/uploads/"), 2, "{:#?}", scene.registry.seen());
    let scene = self::scene(&[100_000]);
    scene.registry.fault(once(|head| head.method == "PUT" && head.target.contains("/manifests/"), || Action::Mute));
    scene.push().unwrap();
    assert!(scene.tag_is_there());
}

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    let scene = pushed(&[400_000]);
    let layer = is_layer(&scene.image);
    let again = layer.clone();
    scene.registry.fault(times(3, layer, || Action::Cut(50_000)));
    scene.pull_whole();
    let ranges: Vec<_> = scene
        .registry
        .seen()
        .iter()
        .filter(|head| again(head))
        .map(|head| head.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges.len(), 4, "{ranges:?}");
    assert_eq!(ranges[0], None);
    assert!(ranges[1..].iter().all(Option::is_some), "{ranges:?}");
}

#[test]
fn a_long_download_may_break_more_often_than_a_request_is_tried() {
    let scene = pushed(&[400_000]);
    let layer = is_layer(&scene.image);
    scene.registry.fault(times(12, layer, || Action::Cut(20_000)));
    scene.pull_whole();
}

#[test]
fn a_registry_that_ignores_ranges_sends_the_whole_again() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    let blob =
        std::fs::read(scene.folder.path().join("made/sha256").join(scene.image.layers[0].descriptor.digest.hex()))
            .unwrap();
    scene.registry.fault(move |head, _| match (layer(head), head.headers.contains_key("range")) {
        (true, false) => Action::Cut(30_000),
        (true, true) => Action::Reply(Reply::status(200).body(blob.clone())),
        _ => Action::Serve,
    });
    scene.pull_whole();
}

#[test]
fn a_range_that_cannot_be_had_begins_anew() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    let cut = AtomicUsize::new(0);
    scene.registry.fault(move |head, _| match (layer(head), head.headers.contains_key("range")) {
        (true, true) => Action::Reply(Reply::status(416)),
        (true, false) if cut.fetch_add(1, Ordering::SeqCst) == 0 => Action::Cut(30_000),
        _ => Action::Serve,
    });
    scene.pull_whole();
}

#[test]
fn a_body_that_ends_early_for_good_is_told_with_both_sizes() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    scene.registry.fault(
        move |head, _| {
            if layer(head) { Action::Reply(Reply::status(200).body(vec![1; 77])) } else { Action::Serve }
        },
    );
    let error = scene.layer_error();
    let size = scene.image.layers[0].descriptor.size;
    assert!(error.contains(&format!("should have {size} bytes but has 77")), "{error}");
}

#[test]
fn a_byte_that_flips_once_is_fetched_anew_and_one_that_stays_flipped_is_told() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    scene.registry.fault(once(layer.clone(), || Action::Flip(12_345)));
    scene.pull_whole();
    scene.registry.fault(move |head, _| if layer(head) { Action::Flip(12_345) } else { Action::Serve });
    let error = scene.layer_error();
    let digest = &scene.image.layers[0].descriptor.digest;
    let expected = format!("blob {digest} from {} has other bytes: got sha256:", scene.name.name());
    assert!(error.starts_with(&expected), "{error}");
    let leftovers = walk(scene.folder.path(), ".unfinished");
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

fn walk(folder: &std::path::Path, part: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(walk(&path, part));
        } else if path.to_string_lossy().contains(part) {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_body_without_an_end_is_cut_off() {
    let scene = pushed(&[100_000]);
    let layer = is_layer(&scene.image);
    let endless = || Reply { status: 200, body: vec![b' '; 65_536], endless: true, ..Reply::default() };
    scene.registry.fault(move |head, _| if layer(head) { Action::Reply(endless()) } else { Action::Serve });
    let error = scene.layer_error();
    assert!(error.contains("bytes but has more"), "{error}");
    scene.registry.fault(
        move |head, _| if head.target.contains("/manifests/") { Action::Reply(endless()) } else { Action::Serve },
    );
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { what: "manifest", .. }), "{error}");
}

#[test]
fn a_manifest_of_fifty_megabytes_is_refused_before_it_is_read() {
    let scene = pushed(&[1000]);
    scene.registry.fault(|head, _| {
        let huge = Reply::status(200)
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(vec![b' '; 50_000_000]);
        if head.target.contains("/manifests/") { Action::Reply(huge) } else { Action::Serve }
    });
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains(&scene.name.to_string()), "{error}");
}

#[test]
fn a_manifest_with_another_digest_than_asked_for_or_claimed_is_refused() {
    let scene = pushed(&[1000]);
    let wrong = Digest::of(b"wrong").to_string();
    let body = scene.registry.manifest("app", "1").unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let claimed =
        Reply::status(200).header("content-type", media_type).header("docker-content-digest", wrong).body(body);
    scene.registry.fault(move |_, _| Action::Reply(claimed.clone()));
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { what: "manifest", .. }), "{error}");

    let by_digest = scene.name.with_digest(scene.image.encode().descriptor.digest);
    scene.registry.fault(move |_, _| Action::Reply(Reply::status(200).header("content-type", media_type).body("{}")));
    let blobs = BlobDir::open(scene.folder.path().join("x")).unwrap();
    let error = scene.client().pull(&by_digest, &Platform::host(), &blobs).unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { what: "manifest", .. }), "{error}");
}

#[test]
fn a_config_with_other_bytes_is_refused() {
    let scene = pushed(&[1000]);
    let config = scene.image.encode().config_descriptor.digest.to_string();
    scene.registry.fault(move |head, _| if head.target.ends_with(&config) { Action::Flip(30) } else { Action::Serve });
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { what: "config", .. }), "{error}");
}

#[test]
fn a_layer_the_registry_lost_is_named() {
    let scene = pushed(&[1000]);
    let pulled = scene.pull().unwrap();
    scene.lose_blobs();
    let error = read(&pulled.image.layers[0]).unwrap_err();
    let error = RegistryError::behind(&error).unwrap().to_string();
    let digest = &scene.image.layers[0].descriptor.digest;
    assert!(error.starts_with(&format!("blob unknown: {digest} from {}", scene.name.name())), "{error}");
}

fn patient_for(stall: u64) -> impl Fn(&Scene) -> Client {
    move |scene| {
        let mut options = plain(&scene.registry.name());
        options.transport.stall_timeout = Duration::from_millis(stall);
        anonymous(options)
    }
}

#[test]
fn what_makes_no_progress_is_given_up_and_tried_again() {
    let scene = pushed(&[300_000]);
    let client = patient_for(300)(&scene);
    let layer = is_layer(&scene.image);
    let pull = || {
        client.pull(
            &scene.name,
            &Platform::host(),
            &BlobDir::open(tempfile::tempdir_in(scene.folder.path()).unwrap().keep()).unwrap(),
        )
    };
    scene.registry.fault(once(|head| head.target.contains("/manifests/"), || Action::Late(Duration::from_secs(3))));
    pull().unwrap();
    scene.registry.fault(once(layer, || Action::Slow(1000, Duration::from_secs(3))));
    let start = Instant::now();
    assert_same(&pull().unwrap().image, &scene.image);
    assert!(start.elapsed() < Duration::from_millis(2500), "it waited for the stalled answer");
    scene.registry.fault(|_, _| Action::Late(Duration::from_secs(2)));
    let error = pull().unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error}");
}

#[test]
fn time_limits_are_on_progress_and_not_on_the_whole() {
    let scene = pushed(&[300_000]);
    let client = patient_for(500)(&scene);
    let layer = is_layer(&scene.image);
    scene.registry.fault(move |head, _| {
        // Each answer makes progress and pauses for less than the limit; together they take longer.
        if layer(head) {
            Action::Slow(100_000, Duration::from_millis(400))
        } else {
            Action::Late(Duration::from_millis(300))
        }
    });
    let blobs = BlobDir::open(scene.folder.path().join("slow")).unwrap();
    let pulled = client.pull(&scene.name, &Platform::host(), &blobs).unwrap();
    assert_same(&pulled.image, &scene.image);
    assert_eq!(scene.registry.count("GET", "/blobs/"), 2, "one try each");
}

#[test]
fn a_mount_that_becomes_an_upload_goes_on_in_that_session() {
    let scene = pushed(&[100_000]);
    let pulled = scene.pull().unwrap();
    let other = reference(&format!("{}/other:1", scene.registry.name()));
    // It knows the blobs no more: mounts are answered with 202.
    pulled.image.layers[0].open_tar().unwrap();
    scene.registry.fault(|_, _| Action::Serve);
    let held = scene.image.layers[0].descriptor.digest.clone();
    scene.lose_blobs();
    let client = scene.client();
    client.push(&pulled.image, &[other]).unwrap();
    let posts: Vec<String> = scene
        .registry
        .seen()
        .iter()
        .filter(|head| head.method == "POST" && head.target.contains("mount="))
        .map(|head| head.target.clone())
        .collect();
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert!(posts[0].contains("from=app") && posts[0].contains(held.hex()), "{posts:?}");
    assert_eq!(scene.registry.count("POST", "/blobs/uploads/"), 2, "the layer's mount and the config's upload");
    assert!(scene.registry.manifest("other", "1").is_some());
}

#[test]
fn a_mount_that_is_refused_becomes_an_upload() {
    for status in [401, 403, 404, 405] {
        let scene = pushed(&[10_000]);
        let pulled = scene.pull().unwrap();
        let other = reference(&format!("{}/other:1", scene.registry.name()));
        scene.registry.fault(move |head, _| {
            if head.target.contains("mount=") { Action::Reply(Reply::error(status, "X")) } else { Action::Serve }
        });
        scene.client().push(&pulled.image, &[other]).unwrap();
        assert!(scene.registry.manifest("other", "1").is_some());
    }
}

#[test]
fn an_upload_session_that_is_lost_is_begun_anew() {
    for (status, code) in [(404, "BLOB_UPLOAD_UNKNOWN"), (416, "RANGE_INVALID"), (400, "DIGEST_INVALID")] {
        let scene = scene(&[100_000]);
        scene.registry.fault(times(2, put_blob, move || Action::Reply(Reply::error(status, code))));
        scene.push_whole();
    }
}

#[test]
fn a_blob_the_registry_loses_before_the_manifest_is_sent_again() {
    let scene = scene(&[10_000]);
    let manifest = |head: &Head| head.method == "PUT" && head.target.contains("/manifests/");
    scene.registry.fault(once(manifest, || Action::Reply(Reply::error(400, "MANIFEST_BLOB_UNKNOWN"))));
    scene.push().unwrap();
    assert!(scene.tag_is_there());
    assert_eq!(scene.registry.count("HEAD", "/blobs/"), 4, "asked for again");
}

#[test]
fn a_registry_that_stores_something_else_is_found_out() {
    let scene = scene(&[1000]);
    let wrong = Digest::of(b"wrong").to_string();
    scene.registry.fault(move |head, _| {
        let other = Reply::status(201).header("docker-content-digest", wrong.clone());
        if head.method == "PUT" && head.target.contains("/manifests/") { Action::Reply(other) } else { Action::Serve }
    });
    let error = scene.push().unwrap_err();
    assert!(matches!(error, RegistryError::StoredOtherwise { .. }), "{error}");
}

/// Two registries: the second stands for a store that the first sends us to.
fn guarded(users: &[&FakeRegistry]) -> serde_json::Value {
    let mut config = json!({"auths": {}});
    for registry in users {
        config["auths"][registry.name()] = login("x", "me", "hunter2")["auths"]["x"].clone();
    }
    config
}

fn with_basic(head: &Head) -> Option<Action> {
    let refuse = Reply::status(401).header("www-authenticate", "Basic realm=x");
    (!head.headers.contains_key("authorization")).then_some(Action::Reply(refuse))
}

#[test]
fn a_redirect_to_another_host_is_followed_without_credentials() {
    let scene = pushed(&[100_000]);
    let store = FakeRegistry::start();
    let layer = scene.image.layers[0].descriptor.digest.to_string();
    let blob =
        std::fs::read(scene.folder.path().join("made/sha256").join(scene.image.layers[0].descriptor.digest.hex()))
            .unwrap();
    store.put_blob("app", &blob);
    let target = format!("http://{}/v2/app/blobs/{layer}?signature=secret", store.name());
    scene.registry.fault(move |head, _| {
        let redirect = Reply::status(307).header("location", target.clone());
        with_basic(head)
            .unwrap_or_else(|| if head.target.ends_with(&layer) { Action::Reply(redirect) } else { Action::Serve })
    });
    let client = with_config(plain(&scene.registry.name()), &guarded(&[&scene.registry, &store]));
    let blobs = BlobDir::open(scene.folder.path().join("x")).unwrap();
    let pulled = client.pull(&scene.name, &Platform::host(), &blobs).unwrap();
    assert_same(&pulled.image, &scene.image);
    assert_eq!(store.seen().len(), 1);
    assert!(store.seen().iter().all(|head| !head.headers.contains_key("authorization")), "{:?}", store.seen());
}

#[test]
fn an_upload_location_on_another_host_gets_the_bytes_and_no_credentials() {
    let scene = fake_scene(&[100_000]);
    let store = FakeRegistry::start();
    let to = store.name();
    let took = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&took);
    store.fault(move |head, _| {
        counted.fetch_add(usize::from(head.method == "PUT"), Ordering::SeqCst);
        Action::Reply(Reply::status(201))
    });
    scene.registry.fault(move |head, number| {
        let away = Reply::status(202).header("location", format!("http://{to}/upload/{number}?signature=a%2Fb"));
        with_basic(head).unwrap_or_else(|| if head.method == "POST" { Action::Reply(away) } else { Action::Serve })
    });
    let client = with_config(plain(&scene.registry.name()), &guarded(&[&scene.registry, &store]));
    client.push(&scene.image, std::slice::from_ref(&scene.name)).unwrap();
    assert_eq!(took.load(Ordering::SeqCst), 2);
    for head in store.seen() {
        assert!(!head.headers.contains_key("authorization"), "{head:?}");
        assert!(head.target.contains("?signature=a%2Fb&digest=sha256"), "{head:?}");
    }
}

#[test]
fn a_redirect_that_never_ends_is_told() {
    let scene = pushed(&[1000]);
    scene.registry.fault(|head, number| {
        Action::Reply(Reply::status(302).header("location", format!("{}?{number}", head.target)))
    });
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, RegistryError::Protocol { .. }), "{error}");
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
}

#[test]
fn an_upload_without_a_location_is_told() {
    let scene = scene(&[1000]);
    scene
        .registry
        .fault(|head, _| if head.method == "POST" { Action::Reply(Reply::status(202)) } else { Action::Serve });
    let error = scene.push().unwrap_err().to_string();
    assert!(error.contains("does not say where"), "{error}");
}

#[test]
fn kinds_of_images_that_are_not_supported_are_named() {
    let registry = FakeRegistry::start();
    let folder = tempfile::tempdir().unwrap();
    let blobs = BlobDir::open(folder.path()).unwrap();
    let client = anonymous(plain(&registry.name()));
    let config =
        registry.put_blob("app", br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#);
    let layer =
        json!({"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": config, "size": 1});
    let image = |config_type: &str, layers: serde_json::Value| {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
               "config": {"mediaType": config_type, "digest": config, "size": 78}, "layers": layers})
    };
    let oci = "application/vnd.oci.image.config.v1+json";
    for (media_type, body, named) in [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", json!({"schemaVersion": 1}), "manifest.v1+"),
        (
            "application/vnd.example+json",
            json!({"mediaType": "application/vnd.example+json"}),
            "application/vnd.example+json",
        ),
        (
            "application/vnd.oci.image.manifest.v1+json",
            image("application/vnd.cncf.helm.config.v1+json", json!([])),
            "helm",
        ),
        ("application/vnd.oci.image.manifest.v1+json", image(oci, json!([layer])), "foreign"),
    ] {
        registry.put_manifest("app", "1", media_type, body.to_string().as_bytes());
        let name = reference(&format!("{}/app:1", registry.name()));
        let error = client.pull(&name, &Platform::host(), &blobs).unwrap_err();
        assert!(matches!(error, RegistryError::MediaType { .. }), "{error}");
        assert!(error.to_string().contains(named) && error.to_string().contains(&name.to_string()), "{error}");
    }
    let known = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": config, "size": 1});
    registry.put_manifest(
        "app",
        "1",
        "application/vnd.oci.image.manifest.v1+json",
        image(oci, json!([known])).to_string().as_bytes(),
    );
    let name = reference(&format!("{}/app:1", registry.name()));
    let error = client.pull(&name, &Platform::host(), &blobs).unwrap_err();
    assert!(error.to_string().contains("1 layers and its config has 0"), "{error}");
}

#[test]
fn indexes_may_lie_in_indexes_but_not_forever() {
    let scene = fake_scene(&[1000]);
    scene.push().unwrap();
    let index_type = "application/vnd.oci.image.index.v1+json";
    let manifest = scene.registry.manifest("app", "1").unwrap();
    let encoded = scene.image.encode();
    let arm = json!({"mediaType": encoded.descriptor.media_type, "digest": Digest::of(b"arm"), "size": 3,
                     "platform": {"os": "linux", "architecture": "s390x"}});
    let host = Platform::host();
    let mine = json!({"mediaType": encoded.descriptor.media_type, "digest": encoded.descriptor.digest, "size": manifest.len(),
                      "platform": {"os": host.os, "architecture": host.architecture}});
    let mut inner = json!({"schemaVersion": 2, "mediaType": index_type, "manifests": [arm, mine]}).to_string();
    for depth in 0..6 {
        let digest = scene.registry.put_manifest("app", "1", index_type, inner.as_bytes());
        match scene.pull() {
            Ok(pulled) => assert!(depth < 4 && pulled.digest == encoded.descriptor.digest, "{depth}"),
            Err(error) => assert!(depth >= 4 && error.to_string().contains("deep"), "{depth}: {error}"),
        }
        inner = json!({"schemaVersion": 2, "mediaType": index_type,
            "manifests": [{"mediaType": index_type, "digest": digest, "size": inner.len()}]})
        .to_string();
    }
}

#[test]
fn a_tag_that_may_not_be_moved_counts_as_pushed_only_when_asked_for() {
    let scene = scene(&[1000]);
    let words = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag '1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable."}]}"#;
    scene.registry.fault(move |head, _| {
        if head.target.contains("/manifests/") { Action::Reply(Reply::status(400).body(words)) } else { Action::Serve }
    });
    assert!(scene.push().is_err());
    let options = ClientOptions { ignore_immutable_tag_errors: true, ..plain(&scene.registry.name()) };
    anonymous(options).push(&scene.image, std::slice::from_ref(&scene.name)).unwrap();
}

#[test]
fn push_retry_and_download_retry_try_the_whole_again() {
    let scene = scene(&[1000]);
    let manifest = |head: &Head| head.target.contains("/manifests/");
    scene.registry.fault(once(manifest, || Action::Reply(Reply::error(400, "MANIFEST_INVALID"))));
    let options = ClientOptions { push_retry: 1, image_download_retry: 1, ..plain(&scene.registry.name()) };
    let client = anonymous(options);
    client.push(&scene.image, std::slice::from_ref(&scene.name)).unwrap();
    scene.registry.fault(once(manifest, || Action::Reply(Reply::error(400, "X"))));
    client.pull(&scene.name, &Platform::host(), &BlobDir::open(scene.folder.path().join("x")).unwrap()).unwrap();
}
