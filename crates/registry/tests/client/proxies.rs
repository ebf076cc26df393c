//! Proxies: who goes through one, and who does not. The fake registry stands in for a proxy, which answers what a registry
//! would.

use zuwai_registry::{Client, ClientOptions, Proxies, Reference, RegistryError};

use super::fake_registry::FakeRegistry;
use super::images::{anonymous, impatient, reference};

/// A registry whose name nobody can resolve, through this proxy.
fn through(proxy: &FakeRegistry, no_proxy: Option<&str>) -> (Client, Reference) {
    let mut options = ClientOptions { insecure_registries: vec!["registry.test".to_owned()], ..impatient() };
    options.transport.proxies = Proxies {
        http: Some(format!("http://me:hunter2@{}", proxy.name())),
        no_proxy: no_proxy.map(str::to_owned),
        ..Proxies::default()
    };
    (anonymous(options), reference("registry.test/app:1"))
}

#[test]
fn requests_go_through_the_proxy_with_its_login_and_no_name_is_resolved() {
    let proxy = FakeRegistry::start();
    let (client, name) = through(&proxy, None);
    client.check_push(&name).unwrap();
    let seen = proxy.seen();
    assert!(seen.iter().all(|head| head.target.starts_with("http://registry.test/v2/")), "{seen:?}");
    assert!(seen.iter().all(|head| head.headers["proxy-authorization"].starts_with("Basic ")), "{seen:?}");
    assert!(seen.iter().all(|head| !head.headers.contains_key("authorization")), "{seen:?}");
}

#[test]
fn hosts_that_are_excepted_are_reached_directly() {
    let proxy = FakeRegistry::start();
    for no_proxy in ["registry.test", ".test", "example.com, test", "*"] {
        let (client, name) = through(&proxy, Some(no_proxy));
        let error = client.check_push(&name).unwrap_err();
        assert!(matches!(error, RegistryError::Unreachable { .. }), "{no_proxy}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert!(proxy.seen().is_empty());
}

#[test]
fn this_machine_and_excepted_networks_are_reached_directly() {
    let (proxy, registry) = (FakeRegistry::start(), FakeRegistry::start());
    let mut options = ClientOptions { insecure_registries: vec![registry.name()], ..impatient() };
    options.transport.proxies.http = Some(format!("http://{}", proxy.name()));
    anonymous(options).check_push(&reference(&format!("{}/app:1", registry.name()))).unwrap();
    assert!(proxy.seen().is_empty());

    let name = "192.0.2.1:5000";
    let mut options = ClientOptions { insecure_registries: vec![name.to_owned()], ..impatient() };
    options.transport.connect_timeout = std::time::Duration::from_millis(100);
    options.transport.proxies.http = Some(format!("http://{}", proxy.name()));
    let check = |options: &ClientOptions| anonymous(options.clone()).check_push(&reference(&format!("{name}/app:1")));
    check(&options).unwrap();
    assert!(!proxy.seen().is_empty());
    let before = proxy.seen().len();
    options.transport.proxies.no_proxy = Some("10.0.0.0/8,192.0.2.0/24".to_owned());
    assert!(check(&options).is_err());
    assert_eq!(proxy.seen().len(), before);
}

#[test]
fn a_proxy_that_is_not_there_is_an_error_of_the_registrys() {
    let proxy = FakeRegistry::start();
    let (client, name) = through(&proxy, None);
    drop(proxy);
    let error = client.check_push(&name).unwrap_err().to_string();
    assert!(error.contains("cannot reach http://registry.test"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}
