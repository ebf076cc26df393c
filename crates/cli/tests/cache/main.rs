//! The cache of layers, end to end: against Debian's docker-registry and against a folder, in an unprivileged container.
//! What is downloaded and uploaded is counted in the registry's own log and on the wire.

#![allow(clippy::unwrap_used)] // Where a helper fails, the test fails.

mod faults;
mod remote;
mod stand;

use std::fs;
use std::process::Command;
use std::time::Duration;

use zuwai_lab::Meter;
use zuwai_lab::command::must;
use zuwai_lab::layout::{Layout, text};

use stand::{FIVE, Stand};

#[test]
fn a_build_of_five_stages_that_is_all_in_the_cache_moves_no_layer_and_unpacks_nothing() {
    let stand = Stand::new(FIVE);
    let cold = stand.build("cold", &[]);
    assert_eq!(cold.hits(), [""; 0], "{}", cold.output);
    // On the wire, too: what the cache, the image and the mirror give and get.
    let meters = [&stand.registry, &stand.mirror].map(|registry| Meter::start(registry.port()).unwrap());
    let [kept, mirror] = [0, 1].map(|which| format!("127.0.0.1:{}", meters[which].port()));
    let words = [
        format!("--destination={kept}/app:metered"),
        format!("--insecure-registry={kept}"),
        format!("--registry-mirror={mirror}"),
        format!("--insecure-registry={mirror}"),
        "--dockerfile=Dockerfile".to_owned(),
        "--context=dir:///workspace".to_owned(),
        "--skip-default-registry-fallback".to_owned(),
        "--cache=true".to_owned(),
    ];
    let metered = stand.run_with(&words).success().unwrap();
    assert!(!metered.err().contains("No cached layer"), "{metered}");
    let moved = meters.map(|meter| meter.take());
    let (down, up) = (moved[0].down + moved[1].down, moved[0].up + moved[1].up);
    // Two dozen small documents, and their headers: the base alone has 1,900,000 bytes.
    assert!(down < 64_000 && up < 48_000, "{down} bytes down, {up} up: {metered}");
    let warm = stand.build("warm", &[]);
    assert_eq!(warm.misses(), [""; 0], "{}", warm.output);
    assert_eq!(warm.hits().len(), 4, "only the last stage is walked: {}", warm.output);
    assert!(!warm.unpacked() && !warm.output.err().contains("Building stage 'dependencies'"), "{}", warm.output);
    // The base's config is the one thing that comes down, and the image's config the one thing that goes up.
    assert!(warm.downloads().len() <= 1, "{:?}", warm.downloads());
    assert!(warm.uploads() <= 1, "{:?}", warm.moved);
    assert!(warm.took < Duration::from_secs(3), "it took {:?}: {}", warm.took, warm.output);
    assert_eq!(stand.image("warm"), stand.image("cold"));
}

#[test]
fn one_miss_does_not_end_the_looking_and_is_explained() {
    let stand = Stand::new(FIVE);
    stand.build("one", &[]);
    stand.write("src/main", "main 2\n");
    let two = stand.build("two", &[]);
    let misses = two.misses();
    assert_eq!(
        misses,
        [
            "COPY --chmod=0644 src /app/src: content of src/main changed",
            "COPY --from=tools /tools/tool /usr/bin/tool: it follows COPY --chmod=0644 src /app/src: content of src/main \
             changed",
            "RUN cat /app/src/main /app/modules > /app/out: it follows COPY --chmod=0644 src /app/src: content of \
             src/main changed",
            "COPY --from=compile /app/out ./: the stage compile changed (COPY --chmod=0644 src /app/src: content of src/main changed)",
            "COPY --from=check /app/report ./: it follows COPY --from=compile /app/out ./: the stage compile changed \
             (COPY --chmod=0644 src /app/src: content of src/main changed)",
            "RUN cat out report > all: it follows COPY --from=compile /app/out ./: the stage compile changed \
             (COPY --chmod=0644 src /app/src: content of src/main changed)",
        ],
        "{}",
        two.output
    );
    assert!(two.hits().contains(&"RUN echo installed $VERSION > /app/modules".to_owned()), "{}", two.output);
    let made = stand.image("two");
    stand.write("Dockerfile", &FIVE.replace("ARG VERSION=1.2", "ARG VERSION=1.3"));
    let three = stand.build("three", &[]);
    let version = "RUN echo installed $VERSION > /app/modules: ARG VERSION: 1.2 → 1.3";
    assert!(three.misses().contains(&version.to_owned()), "{}", three.output);
    stand.write("Dockerfile", FIVE);
    let again = stand.build("again", &[]);
    assert_eq!(again.misses(), [""; 0], "{}", again.output);
    assert_eq!(stand.image("again"), made);
}

#[test]
fn of_a_named_context_only_what_is_taken_counts() {
    let stand = Stand::new(
        "FROM busybox\nCOPY --from=lib file /file\n\
         RUN --mount=from=lib,source=sub,target=/m cat /m/x > /x\nRUN echo done > /done\n",
    );
    fs::create_dir_all(stand.context.join("lib/sub")).unwrap();
    for name in ["lib/file", "lib/sub/x", "lib/other"] {
        stand.write(name, "one\n");
    }
    let words = ["--build-context=lib=/workspace/lib"];
    let misses = |tag: &str| {
        let built = stand.build(tag, &words);
        assert_eq!(built.hits().len() + built.misses().len(), 3, "{}", built.output);
        built.misses().len()
    };
    assert_eq!(misses("one"), 3);
    stand.write("lib/other", "two\n");
    stand.write("src/main", "of the main context\n");
    assert_eq!(misses("two"), 0);
    stand.write("lib/sub/x", "two\n");
    assert_eq!(misses("three"), 2);
    assert_eq!(stand.file("three", "x"), "two\n");
    stand.write("lib/file", "two\n");
    assert_eq!(misses("four"), 3);
    assert_eq!(stand.file("four", "file"), "two\n");
    // The same files under the same names, out of somewhere else.
    must(Command::new("cp").arg("-a").arg(stand.context.join("lib")).arg(stand.context.join("moved"))).unwrap();
    assert_eq!(stand.build("five", &["--build-context=lib=/workspace/moved"]).misses(), [""; 0]);
    // What takes the place of the base decides everything on it.
    let base = stand.build("six", &[words[0], "--build-context=busybox=docker-image://busybox:layers"]);
    assert_eq!(base.misses().len(), 3, "{}", base.output);
}

#[test]
fn a_folder_serves_as_well_and_needs_no_registry() {
    let stand = Stand::new(FIVE);
    for place in ["--cache-repo=oci:/kept/here", "--cache-dir=/kept"] {
        let words = ["--no-push", "--cache", place];
        let cold = stand.run(&words).success().unwrap();
        assert!(!cold.err().contains("Using caching version"), "{cold}");
        let warm = stand.run(&words).success().unwrap();
        assert!(!warm.err().contains("No cached layer") && !warm.err().contains("Unpacking rootfs"), "{warm}");
    }
    assert!(stand.registry.requests().is_empty());
    Layout::open(&stand.scratch.path().join("cache/layers")).unwrap();
}

#[test]
fn damage_is_a_miss_with_a_warning_and_mended() {
    let stand = Stand::new("FROM busybox\nRUN echo one > /one\nRUN cat /one /dev/null > /two\n");
    let repository = format!("--cache-repo={}/kept", stand.registry.host());
    stand.build("one", &[&repository]);
    let storage = stand.registry.storage();
    let first = stand.image("one").0[1]["digest"].as_str().unwrap().to_owned();
    // The second step is to be made anew: then the first one's bytes are needed.
    stand.write("Dockerfile", "FROM busybox\nRUN echo one > /one\nRUN cat /one /one > /two\n");
    storage.corrupt(&first, |bytes| bytes[20] ^= 1).unwrap();
    let two = stand.build("two", &[&repository]);
    assert!(two.output.err().contains("WARN") && two.output.err().contains("is not used"), "{}", two.output);
    assert_eq!(two.hits(), [""; 0], "{}", two.output);

    // Nobody's entry: a tag that somebody else has moved.
    let tags = stand.registry.storage().tags("kept").unwrap();
    let (one, other) = (&tags[0], &tags[1]);
    let manifest = storage.tag("kept", other).unwrap();
    storage.point("kept", one, &manifest).unwrap();
    let three = stand.build("three", &[&repository]);
    assert!(three.output.err().contains("is not used: its key is not the one of its content"), "{}", three.output);
}

#[test]
fn a_cache_that_refuses_is_a_warning() {
    let stand = Stand::new("FROM busybox\nRUN echo one > /one\n");
    // The mirror's storage can only be read.
    let repository = format!("--cache-repo={}/kept", stand.mirror.host());
    let build = stand.build("one", &[&repository]);
    assert!(build.output.err().contains("does not take new layers"), "{}", build.output);
    let absent = format!("127.0.0.1:{}", zuwai_lab::server::free_port().unwrap());
    let build = stand.build("two", &[&format!("--cache-repo={absent}/kept"), &format!("--insecure-registry={absent}")]);
    assert!(build.output.err().contains("cannot be read, and the build goes on without"), "{}", build.output);
    // What is kept is used, and nothing new is kept.
    stand.build("three", &[]);
    stand.write("Dockerfile", "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n");
    for tag in ["four", "five"] {
        let build = stand.build(tag, &["--no-push-cache"]);
        assert_eq!((build.hits().len(), build.misses().len()), (1, 1), "{}", build.output);
    }
    assert_eq!(stand.build("six", &["--cache-ttl=0"]).hits(), [""; 0]);
}

#[test]
fn a_layer_out_of_the_cache_is_unpacked_where_a_step_behind_it_needs_it() {
    let dockerfile = "FROM busybox AS first\nCOPY lock.json /stay/\nRUN rm /etc/group && echo one > /one\n\
        COPY src /src\nRUN cat /one /src/main > /two && ls /stay /etc > /list\n\
        FROM busybox\nCOPY --from=first /two /list /\n";
    let stand = Stand::new(dockerfile);
    // COPY is carried out each time, and RUN behind it found.
    let words = ["--cache-copy-layers=false"];
    let one = stand.build("one", &words);
    let two = stand.build("two", &words);
    assert_eq!(one.hits().len(), 0, "{}", one.output);
    assert_eq!(two.hits().len(), 2, "{}", two.output);
    assert_eq!(stand.image("two").0, stand.image("one").0);
    stand.write("src/main", "main 2\n");
    let three = stand.build("three", &words);
    assert_eq!(three.hits(), ["RUN rm /etc/group && echo one > /one"], "{}", three.output);
    let folder = stand.scratch.path().join("pulled-three");
    let layout = stand.registry.pull("app:three", &folder).unwrap();
    let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
    let tar = layout.layer(&manifest["layers"][1]).unwrap();
    let tar = String::from_utf8_lossy(&tar).into_owned();
    assert!(tar.contains("one\nmain 2\n") && tar.contains("lock.json") && !tar.contains("group\n"), "{tar}");
}

#[test]
fn single_snapshot_has_one_entry_for_a_stage() {
    let stand = Stand::new(FIVE);
    stand.build("one", &["--single-snapshot"]);
    let two = stand.build("two", &["--single-snapshot"]);
    assert!(!two.unpacked(), "{}", two.output);
    assert_eq!(stand.image("two"), stand.image("one"));
    let three = stand.build("three", &[]);
    assert_eq!(three.hits(), [""; 0], "{}", three.output);
}

#[test]
fn a_base_that_the_warmer_has_fetched_is_not_fetched_again_and_a_pinned_one_not_asked_for() {
    let stand = Stand::new("");
    let digest = stand.mirror.storage().tag("library/busybox", "latest").unwrap();
    stand.write("Dockerfile", "ARG D\nFROM busybox\nRUN echo x > /x\n");
    let folder = stand.scratch.folder("cache").unwrap();
    let mirror = stand.mirror.host();
    let warm = |words: &[&str]| {
        let shared = [
            "--cache-dir=/kept".to_owned(),
            format!("--registry-mirror={mirror}"),
            format!("--insecure-registry={mirror}"),
            "--skip-default-registry-fallback".to_owned(),
        ];
        let container = stand.executor.container().entrypoint("/kaniko/warmer").env("NO_COLOR", "1");
        let container = container.mount_writable(&folder, "/kept").mount(&stand.context, "/workspace");
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).chain(shared).collect();
        container.working_dir("/workspace").run(words).unwrap()
    };
    let output = warm(&[]);
    assert!(output.code() == 1 && output.err().contains("you must select at least one image"), "{output}");
    let output = warm(&["--image=no-such-image"]);
    assert!(output.code() == 1 && output.err().contains("failed to warm any"), "{output}");
    // Several at once, on one volume.
    std::thread::scope(|scope| {
        let both =
            [0, 1].map(|_| scope.spawn(|| warm(&["--force", "--dockerfile=Dockerfile", "--image=no-such-image"])));
        for warmer in both {
            warmer.join().unwrap().success().unwrap();
        }
    });
    let asked = stand.mirror.requests().len();
    assert!(warm(&["--image=busybox"]).success().unwrap().err().contains("is there already"));
    assert!(stand.mirror.requests().len() <= asked + 2);

    let layers = |from: usize| {
        let requests = stand.mirror.requests()[from..].to_vec();
        requests.iter().filter(|line| line.contains("\"GET ") && line.contains("/blobs/")).count()
    };
    let words = ["--no-push", "--cache-dir=/kept", "--oci-layout-path=/kept/out"];
    let asked = stand.mirror.requests().len();
    stand.run(&words).success().unwrap();
    assert_eq!(layers(asked), 1, "the config alone is fetched");

    stand.write("Dockerfile", &format!("FROM busybox@{digest}\nRUN echo x > /x\n"));
    let asked = stand.mirror.requests().len();
    let pinned = stand.run(&words).success().unwrap();
    assert_eq!(stand.mirror.requests().len(), asked, "{pinned}");

    // Damage is seen, and what is damaged is fetched.
    for entry in fs::read_dir(folder.join("images/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.len() > 100_000 {
            bytes[50_000] ^= 1;
            fs::write(&path, bytes).unwrap();
        }
    }
    stand.run(&words).success().unwrap();
    assert!(layers(asked) >= 1, "a damaged layer was used");
    warm(&["--image=busybox"]).success().unwrap();
    let asked = stand.mirror.requests().len();
    stand.run(&words).success().unwrap();
    assert_eq!(stand.mirror.requests().len(), asked);
}

#[test]
fn a_second_pod_finds_the_cache_mounts_of_the_first() {
    let dockerfile = |words: &str| {
        format!(
            "FROM busybox\nRUN --mount=type=cache,target=/m2,mode=0750 cat /m2/* > /found 2>/dev/null; {words} > /m2/file\n"
        )
    };
    let stand = Stand::new(&dockerfile("echo first"));
    let found = |tag: &str| {
        let folder = stand.scratch.path().join(format!("pulled-{tag}"));
        let layout = stand.registry.pull(&format!("app:{tag}"), &folder).unwrap();
        let manifest = layout.document(text(&layout.index().unwrap()[0], "digest").unwrap()).unwrap();
        let layers = manifest["layers"].as_array().unwrap().clone();
        String::from_utf8_lossy(&layout.layer(layers.last().unwrap()).unwrap()).into_owned()
    };
    stand.build("one", &["--cache-mounts=registry"]);
    assert!(!found("one").contains("first"));
    stand.write("Dockerfile", &dockerfile("echo second"));
    let two = stand.build("two", &["--cache-mounts=registry"]);
    assert!(two.output.err().contains("Cache mount"), "{}", two.output);
    assert!(found("two").contains("first\n"), "{}", two.output);
    // Where they are not asked for, a clean machine has none; and a volume serves as well.
    stand.write("Dockerfile", &dockerfile("echo third"));
    stand.build("three", &["--cache-mounts-dir=/kept/mounts"]);
    assert!(!found("three").contains("second"));
    stand.write("Dockerfile", &dockerfile("echo fourth"));
    stand.build("four", &["--cache-mounts-dir=/kept/mounts"]);
    assert!(found("four").contains("third\n"));
}

#[test]
fn with_and_without_the_cache_the_same_image_comes_out_digest_by_digest() {
    let stand = Stand::new(FIVE);
    let digest = |tag: &str| stand.registry.storage().tag("app", tag).unwrap();
    stand.build("cold", &["--reproducible"]);
    let warm = stand.build("warm", &["--reproducible"]);
    assert_eq!(warm.misses(), [""; 0], "{}", warm.output);
    stand.run(&[&stand.destination("plain"), "--reproducible"]).success().unwrap();
    assert_eq!((digest("warm"), digest("plain")), (digest("cold"), digest("cold")));
    // One step is made anew on the layers of the others.
    stand.write("src/main", "main 2\n");
    stand.build("partly", &["--reproducible"]);
    stand.run(&[&stand.destination("anew"), "--reproducible"]).success().unwrap();
    assert_eq!(digest("partly"), digest("anew"));
    assert_ne!(digest("partly"), digest("cold"));
}
