//! Credentials shown to real registries: basic, and tokens of a token service.

use std::sync::Arc;

use serde_json::json;
use zuwai_registry::auth::{ConfigSource, HelperOptions};
use zuwai_registry::{
    BlobDir, Client, ClientOptions, DockerConfigKeychain, Image, ImageFormat, Platform, RegistryError,
};

use super::docker_registry::{DockerRegistry, Setup};
use super::fake_registry::{Action, FakeRegistry, Reply};
use super::images::{anonymous, assert_same, image, login, plain, reference, with_config};
use super::token_service::{TokenService, USER};

/// How often a request was refused, except for the look at what the registry speaks.
fn refused(registry: &DockerRegistry) -> usize {
    registry.requests().iter().filter(|line| line.ends_with(" 401") && !line.starts_with("HEAD /v2/ ")).count()
}

fn small_image(folder: &tempfile::TempDir) -> Image {
    image(1, &[1000, 2000], ImageFormat::Oci, &BlobDir::open(folder.path()).unwrap())
}

#[test]
fn a_user_of_config_json_may_push_and_pull() {
    let folder = tempfile::tempdir().unwrap();
    let registry = DockerRegistry::start(&Setup { users: vec![("me", "pa:ss")], ..Setup::default() });
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = with_config(plain(&registry.name()), &login(&registry.name(), "me", "pa:ss"));
    client.check_push(&name).unwrap();
    let image = small_image(&folder);
    client.push(&image, std::slice::from_ref(&name)).unwrap();
    let work = BlobDir::open(folder.path().join("work")).unwrap();
    assert_same(&client.pull(&name, &Platform::host(), &work).unwrap().image, &image);
    assert_eq!(refused(&registry), 1, "asked once, then known");
}

#[test]
fn a_wrong_password_is_told_with_the_sources_that_were_tried_and_no_value() {
    let registry = DockerRegistry::start(&Setup { users: vec![("me", "right")], ..Setup::default() });
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = with_config(plain(&registry.name()), &login(&registry.name(), "me", "hunter2"));
    let error = client.check_push(&name).unwrap_err();
    let text = error.to_string();
    for part in [
        name.to_string().as_str(),
        "unexpected status code 401 Unauthorized",
        "authentication required",
        "user `me` from /kaniko/.docker/config.json",
        "DOCKER_AUTH_CONFIG: not there",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!format!("{error:?} {text} {:?}", error.hint()).contains("hunter2"));
    assert!(error.hint().unwrap().contains("did not accept user `me`"));
}

#[test]
fn without_a_credential_the_error_says_where_one_was_looked_for() {
    let registry = DockerRegistry::start(&Setup { users: vec![("me", "right")], ..Setup::default() });
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = with_config(plain(&registry.name()), &login("other.example.com", "me", "right"));
    let error = client.check_push(&name).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no credential was found"), "{text}");
    assert!(text.contains(&format!("nothing for {}, only for other.example.com", registry.name())), "{text}");
    assert!(error.hint().unwrap().contains("config.json"));
}

fn with_tokens(life: i64) -> (TokenService, DockerRegistry, ClientOptions) {
    let tokens = TokenService::start(life);
    let registry =
        DockerRegistry::start(&Setup { tokens: Some((tokens.realm(), tokens.certificate())), ..Setup::default() });
    let options = plain(&registry.name());
    (tokens, registry, options)
}

#[test]
fn a_password_is_traded_for_tokens_that_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, registry, options) = with_tokens(300);
    let name = reference(&format!("{}/team/app:1", registry.name()));
    let client = with_config(options, &login(&registry.name(), USER.0, USER.1));
    client.check_push(&name).unwrap();
    let image = small_image(&folder);
    client.push(&image, std::slice::from_ref(&name)).unwrap();
    let asked = tokens.asked();
    assert_eq!(asked.len(), 2, "one for the check and the push, one to give the check up: {asked:?}");
    assert_eq!(asked[0].all("scope"), ["repository:team/app:pull,push"]);
    assert_eq!(asked[0].all("service"), ["registry.test"]);
    let work = BlobDir::open(folder.path().join("work")).unwrap();
    let pulled = client.pull(&name, &Platform::host(), &work).unwrap();
    client.prefetch(&pulled.image.layers);
    assert_same(&pulled.image, &image);
    assert_eq!(tokens.asked()[2].all("scope"), ["repository:team/app:pull"]);
    assert_eq!(tokens.asked().len(), 3);
}

#[test]
fn a_mount_asks_for_both_repositories() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, registry, options) = with_tokens(300);
    let names = ["one:1", "two:1"].map(|name| reference(&format!("{}/{name}", registry.name())));
    let client = with_config(options, &login(&registry.name(), USER.0, USER.1));
    client.push(&small_image(&folder), &names).unwrap();
    let both = vec!["repository:one:pull".to_owned(), "repository:two:pull,push".to_owned()];
    assert!(tokens.asked().iter().any(|asked| asked.all("scope") == both), "{:?}", tokens.asked());
    assert_eq!(registry.count("PUT", "/v2/two/blobs/uploads/"), 0);
}

#[test]
fn an_identity_token_is_traded_by_post() {
    let (tokens, registry, options) = with_tokens(300);
    let name = reference(&format!("{}/app:1", registry.name()));
    let config = json!({"auths": {registry.name(): {"identitytoken": USER.2}}});
    with_config(options, &config).check_push(&name).unwrap();
    let asked = &tokens.asked()[0];
    assert_eq!(asked.method, "POST");
    assert_eq!(asked.all("grant_type"), ["refresh_token"]);
    assert_eq!(asked.all("scope"), ["repository:app:pull,push"]);
}

#[test]
fn strangers_pull_what_is_public_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (_tokens, registry, options) = with_tokens(300);
    let names = ["public/app:1", "private/app:1"].map(|name| reference(&format!("{}/{name}", registry.name())));
    let image = small_image(&folder);
    with_config(options.clone(), &login(&registry.name(), USER.0, USER.1)).push(&image, &names).unwrap();
    let stranger = anonymous(options);
    let work = BlobDir::open(folder.path().join("work")).unwrap();
    assert_same(&stranger.pull(&names[0], &Platform::host(), &work).unwrap().image, &image);
    for error in [
        stranger.pull(&names[1], &Platform::host(), &work).unwrap_err(),
        stranger.push(&image, &names[..1]).unwrap_err(),
    ] {
        assert!(matches!(error, RegistryError::Unauthorized(_)), "{error}");
    }
}

#[test]
fn a_password_the_token_service_refuses_is_told_with_what_it_said() {
    let (tokens, registry, options) = with_tokens(300);
    let name = reference(&format!("{}/app:1", registry.name()));
    let error = with_config(options, &login(&registry.name(), USER.0, "hunter2")).check_push(&name).unwrap_err();
    let text = error.to_string();
    for part in ["incorrect username or password", &tokens.name(), "401 Unauthorized", "/kaniko/.docker/config.json"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn tokens_that_expire_during_a_push_are_renewed() {
    let folder = tempfile::tempdir().unwrap();
    // They live for two seconds, and count as expired after one and a half.
    let (tokens, registry, options) = with_tokens(2);
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = with_config(options, &login(&registry.name(), USER.0, USER.1));
    client.check_push(&name).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    client.push(&small_image(&folder), &[name]).unwrap();
    assert!(tokens.asked().len() >= 3);
    assert_eq!(refused(&registry), 1, "known to be expired before it was sent");
}

/// A fake one, because a real registry does not forget tokens before their time.
#[test]
fn a_401_in_the_middle_of_a_push_is_answered_once_and_the_request_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (tokens, registry) = (TokenService::start(300), FakeRegistry::start());
    let challenge = format!("Bearer realm=\"{}\",service=\"registry.test\"", tokens.realm());
    let first = std::sync::Mutex::new(None::<String>);
    registry.fault(move |head, _| {
        let refuse = Action::Reply(Reply::error(401, "UNAUTHORIZED").header("www-authenticate", challenge.clone()));
        let Some(sent) = head.headers.get("authorization") else { return refuse };
        let mut first = first.lock().unwrap();
        let first = first.get_or_insert_with(|| sent.clone());
        // The first token is forgotten as soon as a blob is sent.
        if head.method == "PUT" && sent == first { refuse } else { Action::Serve }
    });
    let name = reference(&format!("{}/app:1", registry.name()));
    let client = with_config(plain(&registry.name()), &login(&registry.name(), USER.0, USER.1));
    client.push(&image(1, &[300_000], ImageFormat::Oci, &BlobDir::open(folder.path()).unwrap()), &[name]).unwrap();
    assert!(registry.manifest("app", "1").is_some());
}

#[test]
fn a_token_of_the_wrong_scope_is_replaced_once_and_then_told() {
    use base64::Engine;
    let (tokens, registry) = (TokenService::start(300), FakeRegistry::start());
    let name = reference(&format!("{}/app:1", registry.name()));
    for wanted in ["special", "what-nobody-is-granted"] {
        let challenge =
            format!("Bearer realm=\"{}\",service=\"registry.test\",scope=\"repository:app:special\"", tokens.realm());
        registry.fault(move |head, _| {
            let claims = head.headers.get("authorization").and_then(|token| token.split('.').nth(1)).map(|claims| {
                let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
                String::from_utf8(claims).unwrap()
            });
            match claims {
                Some(claims) if claims.contains(wanted) => Action::Serve,
                _ => Action::Reply(Reply::error(401, "UNAUTHORIZED").header("www-authenticate", challenge.clone())),
            }
        });
        let client = with_config(plain(&registry.name()), &login(&registry.name(), USER.0, USER.1));
        let result = client.check_login(&name).and_then(|()| client.digest(&name).map(drop));
        if wanted == "special" {
            result.unwrap();
            let asked = tokens.asked();
            assert_eq!(asked.last().unwrap().all("scope"), ["repository:app:pull,special"], "{asked:?}");
        } else {
            let before = registry.seen().len();
            let error = result.unwrap_err();
            assert!(matches!(error, RegistryError::Unauthorized(_)), "{error}");
            assert!(error.to_string().contains("/kaniko/.docker/config.json"), "{error}");
            assert!(before <= 3, "the look at what it speaks, the request, and once more: {before}");
        }
    }
}

#[test]
fn registry_tokens_are_shown_as_they_are() {
    let registry = FakeRegistry::start();
    registry.fault(|head, _| match head.headers.get("authorization").map(String::as_str) {
        Some("Bearer ready-made") => Action::Serve,
        _ => Action::Reply(Reply::status(401).header("www-authenticate", "Bearer realm=\"http://127.0.0.1:1/\"")),
    });
    let name = reference(&format!("{}/app:1", registry.name()));
    let config = |token: &str| json!({"auths": {registry.name(): {"registrytoken": token}}});
    with_config(plain(&registry.name()), &config("ready-made")).check_push(&name).unwrap();
    let error = with_config(plain(&registry.name()), &config("stale")).check_push(&name).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized(_)), "{error}");
    assert!(!error.to_string().contains("stale"), "{error}");
}

#[test]
fn credentials_scoped_to_a_path_are_shown_for_that_path_alone() {
    let registry = FakeRegistry::start();
    registry.fault(|head, _| {
        let user = head.headers.get("authorization").map(|value| {
            use base64::Engine;
            let bytes = base64::engine::general_purpose::STANDARD.decode(&value["Basic ".len()..]).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        let wanted = if head.target.contains("/v2/team/") { "team:1" } else { "all:1" };
        match user {
            Some(user) if user == wanted => Action::Serve,
            _ => Action::Reply(Reply::status(401).header("www-authenticate", "Basic realm=x")),
        }
    });
    let auth = |user: &str| json!({"username": user, "password": "1"});
    let config = json!({"auths": {registry.name(): auth("all"), format!("{}/team", registry.name()): auth("team")}});
    let client = with_config(plain(&registry.name()), &config);
    for name in ["team/app", "other/app"] {
        client.check_push(&reference(&format!("{}/{name}:1", registry.name()))).unwrap();
    }
}

#[test]
fn a_denied_push_is_told_apart_from_a_login_that_failed() {
    let registry = FakeRegistry::start();
    registry.fault(|_, _| Action::Reply(Reply::error(403, "DENIED")));
    let name = reference(&format!("{}/app:1", registry.name()));
    let error = anonymous(plain(&registry.name())).check_push(&name).unwrap_err();
    assert!(matches!(error, RegistryError::Denied(_)), "{error}");
    assert!(error.to_string().contains("403 Forbidden") && error.to_string().contains("DENIED"), "{error}");
}

#[test]
fn after_sealing_no_helper_is_started_and_what_was_resolved_is_still_shown() {
    use std::os::unix::fs::PermissionsExt;
    let registry = DockerRegistry::start(&Setup { users: vec![("me", "right")], ..Setup::default() });
    let folder = tempfile::tempdir().unwrap();
    let (program, log) = (folder.path().join("docker-credential-test"), folder.path().join("log"));
    let script =
        format!("#!/bin/sh\necho x >> {}\necho '{{\"Username\":\"me\",\"Secret\":\"right\"}}'\n", log.display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({"credHelpers": {registry.name(): "test"}}).to_string().into_bytes();
    let source = ConfigSource { name: "config.json".to_owned(), content: Some(config) };
    let helpers = HelperOptions { search_path: vec![folder.path().to_owned()], ..HelperOptions::default() };
    let keychain = DockerConfigKeychain::new(vec![source], helpers);
    let client = Client::new(plain(&registry.name()), Arc::new(keychain)).unwrap();
    let runs = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();

    let [early, other_tag, late] =
        ["early:1", "early:2", "late:1"].map(|name| reference(&format!("{}/{name}", registry.name())));
    client.resolve_credentials(&[early.clone(), other_tag.clone()]);
    assert_eq!(runs(), 1);
    client.seal_credentials();
    client.check_push(&early).unwrap();
    client.check_push(&other_tag).unwrap();
    let error = client.check_push(&late).unwrap_err();
    assert!(matches!(error, RegistryError::Sealed { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{}/late", registry.name())), "{error}");
    assert_eq!(runs(), 1);
}
