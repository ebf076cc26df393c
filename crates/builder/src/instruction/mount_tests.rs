//! Tables of mounts, and of what is none.

use super::*;
use crate::instruction::testing::{Stage, refused};
use crate::instruction::{Action, RunAction};

fn run(stage: &mut Stage, mount: &str) -> RunAction {
    match stage.run(&format!("RUN --mount={mount} x")).action {
        Some(Action::Run(action)) => action,
        other => panic!("{other:?}"),
    }
}

fn mount(text: &str) -> Mount {
    let mut stage = Stage::scratch();
    stage.run("WORKDIR /w");
    stage.run("ENV v=value t=cache");
    run(&mut stage, text).mounts.remove(0)
}

fn bind(from: Option<&str>, source: &str, writable: bool) -> MountKind {
    MountKind::Bind { from: from.map(str::to_owned), source: source.to_owned(), writable }
}

#[test]
fn a_namespace_of_the_build_is_in_front_of_the_ids_of_its_caches() {
    let mut stage = Stage::with("FROM scratch", &[("BUILDKIT_CACHE_MOUNT_NS", "team")]);
    let kind = run(&mut stage, "type=cache,target=/c").mounts.remove(0).kind;
    assert!(matches!(&kind, MountKind::Cache { id, .. } if id == "team//c"), "{kind:?}");
}

#[test]
fn a_mount_without_a_type_binds() {
    for (text, target, kind) in [
        ("target=/x", "/x", bind(None, "/", false)),
        ("type=bind,dst=x/,src=a/../b", "/w/x", bind(None, "/b", false)),
        ("destination=/x,from=Stage,source=/y,rw", "/x", bind(Some("Stage"), "/y", true)),
        ("TYPE=BIND,Target=/$v,source=${v}", "/value", bind(None, "/value", false)),
        ("target=/x,rw=false", "/x", bind(None, "/", false)),
        ("target=/x,ro=false", "/x", bind(None, "/", true)),
        ("target=/x,rw,ro", "/x", bind(None, "/", false)),
    ] {
        assert_eq!(mount(text), Mount { target: target.into(), kind }, "{text}");
    }
}

#[test]
fn a_cache_is_called_like_its_target_unless_it_says() {
    let cache = |text: &str| match mount(text).kind {
        MountKind::Cache { id, sharing, from, source, writable, ownership } => {
            (id, sharing, from, source, writable, ownership)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(cache("type=cache,target=/x/./y/"), ("/x/y".into(), Sharing::Shared, None, "/".into(), true, None));
    assert_eq!(cache("type=$t,target=y").0, "y");
    let given = "type=cache,id=$v,target=/x,sharing=Locked,from=a,source=/b,ro,mode=1777,uid=1,gid=2";
    let expected = ("value".into(), Sharing::Locked, Some("a".to_owned()), "/b".into(), false, Some((1, 2, 0o1777)));
    assert_eq!(cache(given), expected);
    assert_eq!(cache("type=cache,target=/x,uid=5").5, Some((5, 0, 0o755)));
}

#[test]
fn a_secret_is_a_file_a_variable_or_both() {
    let secret = |text: &str| {
        let mount = mount(text);
        match mount.kind {
            MountKind::Secret { id, env, required, ownership } => (mount.target, id, env, required, ownership),
            other => panic!("{other:?}"),
        }
    };
    let usual = (0, 0, 0o400);
    let own = str::to_owned;
    assert_eq!(secret("type=secret,id=a"), (own("/run/secrets/a"), own("a"), None, false, usual));
    assert_eq!(secret("type=secret,id=a/b"), (own("/run/secrets/b"), own("a/b"), None, false, usual));
    assert_eq!(secret("type=secret,source=a"), (own("/run/secrets/a"), own("a"), None, false, usual));
    assert_eq!(secret("type=secret,target=/t/n"), (own("/t/n"), own("n"), None, false, usual));
    assert_eq!(secret("type=secret,id=a,env=E"), (own(""), own("a"), Some(own("E")), false, usual));
    assert_eq!(secret("type=secret,id=a,env=E,target=/t"), (own("/t"), own("a"), Some(own("E")), false, usual));
    assert_eq!(secret("type=secret,id=a,required,mode=440,uid=7").4, (7, 0, 0o440));
    assert!(secret("type=secret,id=a,required=1").3);
}

#[test]
fn the_others_have_their_options() {
    assert_eq!(mount("type=tmpfs,target=/t,size=64m").kind, MountKind::Tmpfs { size: Some(64 << 20) });
    assert_eq!(mount("type=tmpfs,target=/t,size=1.5k").kind, MountKind::Tmpfs { size: Some(1536) });
    let ssh = MountKind::Ssh { id: "default".into(), required: false, ownership: (0, 0, 0o600) };
    assert_eq!(mount("type=ssh"), Mount { target: String::new(), kind: ssh });
    let ssh = MountKind::Ssh { id: "a".into(), required: true, ownership: (1, 0, 0o666) };
    assert_eq!(mount("type=ssh,id=a,target=/s,required,mode=0666,uid=1"), Mount { target: "/s".into(), kind: ssh });
}

#[test]
fn options_are_fields_of_a_line_of_csv() {
    assert_eq!(fields("a,\"b=c,d\",\"e\"\"f\",").unwrap(), ["a", "b=c,d", "e\"f", ""]);
    for text in ["a\"b", "\"a", "\"a\"b"] {
        assert!(fields(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_no_mount_is_refused_where_it_stands() {
    for (text, reason) in [
        ("x", "there is no option x"),
        ("typ=bind", "there is no option typ (did you mean type?)"),
        ("target", "target needs a value: target=…"),
        (
            "type=bnd,target=/x",
            "there is no type bnd (did you mean bind?): the types are bind, cache, tmpfs, secret, ssh",
        ),
        ("type=bind", "target is missing: target=/path"),
        ("target=/", "the target cannot be the root"),
        ("target=/x/..", "the target cannot be the root"),
        ("target=/x,from=$v", "from takes names as they are, and no variables"),
        ("target=/x,mode=1", "mode is not for type=bind"),
        ("target=/x,sharing=shared", "sharing is not for type=bind"),
        ("target=/x,required", "required is not for type=bind"),
        ("target=/x,rw=maybe", "readwrite is true or false, and not maybe"),
        ("type=cache,target=/x,sharing=most", "sharing is shared, private or locked, and not most"),
        ("type=cache,target=/x,mode=9", "mode=9 is not a number in octal"),
        ("type=cache,target=/x,uid=-1", "uid=-1 is not a number"),
        ("type=cache,target=/x,size=1", "size is not for type=cache"),
        ("type=tmpfs,target=/x,size=1x", "size=1x is not a size, such as 64m"),
        ("type=secret", "a secret needs an id"),
        ("type=secret,id=a,source=b", "id and source both name the secret"),
        ("type=secret,id=a,from=b", "from is not for type=secret"),
        ("type=secret,id=a,required=maybe", "required is true or false, and not maybe"),
        ("target=/x\\\"y", "a quote can only begin a field, as in \"source=a,b\""),
    ] {
        let shown = text.replace("\\\"", "\"");
        assert_eq!(refused(&format!("RUN --mount={text} x")), format!("--mount={shown}: {reason}"), "{text}");
    }
    let mut stage = Stage::scratch();
    stage.run("ENV t=nope");
    assert!(
        stage.fails("RUN --mount=type=$t,target=/x y").starts_with("--mount=type=$t,target=/x: there is no type nope")
    );
}
