//! Amazon's identity for its registries (ECR, private and public): keys found as Amazon's own tools find them, traded for a
//! registry password.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::{Method, Url};
use serde_json::Value;

use super::identity::{Granted, Grants, Question, Source, Surroundings};
use super::sigv4::Signer;
use super::{Credential, Keychain, KeychainError, Resolved};
use crate::image::Reference;

/// Finds credentials for `<account>.dkr.ecr.<region>.amazonaws.com` and its kin, and for `public.ecr.aws`; nobody is asked
/// for any other host.
///
/// Keys come from the first of: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`; a web identity
/// (`AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN`); the profile in `~/.aws/credentials`; the container's service
/// (`AWS_CONTAINER_CREDENTIALS_*`: ECS, EKS pod identity); the machine's metadata service. Addresses of services can be
/// changed by Amazon's own variables `AWS_ENDPOINT_URL_*` and `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
#[derive(Debug)]
pub struct AmazonKeychain {
    surroundings: Surroundings,
    grants: Grants,
}

/// Where a registry's password is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Ecr {
    public: bool,
    region: String,
    /// `amazonaws.com` or another.
    domain: String,
}

/// Keys, and where they are from.
struct Keys {
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
    source: String,
}

/// The domains of Amazon's partitions, as they stand behind `dkr.ecr.<region>.`, and that of the service itself.
const DOMAINS: [(&str, &str); 8] = [
    ("amazonaws.com", "amazonaws.com"),
    ("amazonaws.com.cn", "amazonaws.com.cn"),
    ("amazonaws.eu", "amazonaws.eu"),
    ("sc2s.sgov.gov", "sc2s.sgov.gov"),
    ("c2s.ic.gov", "c2s.ic.gov"),
    ("cloud.adc-e.uk", "cloud.adc-e.uk"),
    ("on.aws", "amazonaws.com"),
    ("on.amazonwebservices.com.cn", "amazonaws.com.cn"),
];

impl AmazonKeychain {
    /// Looks there. Nothing is asked yet.
    pub fn new(surroundings: Surroundings) -> AmazonKeychain {
        AmazonKeychain { surroundings, grants: Grants::default() }
    }

    fn grant(&self, ecr: &Ecr, tried: &mut Vec<String>) -> Option<Granted> {
        let keys = self.keys(&ecr.region, tried)?;
        match self.password(ecr, &keys) {
            Ok((credential, life)) => {
                Some(Granted { credential, source: format!("Amazon ECR by {}", keys.source), life })
            }
            Err(reason) => {
                tried.push(format!("Amazon ECR by {}: {reason}", keys.source));
                None
            }
        }
    }

    fn keys(&self, region: &str, tried: &mut Vec<String>) -> Option<Keys> {
        let sources: [(&str, Source<'_, Keys>); 5] = [
            ("AWS_ACCESS_KEY_ID", &|| self.by_variables()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", &|| self.by_web_identity(region)),
            ("~/.aws/credentials", &|| self.by_profile()),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &|| self.by_container()),
            ("the metadata service", &|| self.by_machine()),
        ];
        for (name, find) in sources {
            match find() {
                Some(Ok(keys)) => return Some(keys),
                Some(Err(reason)) => tried.push(format!("Amazon ECR, {name}: {reason}")),
                None => tried.push(format!("Amazon ECR, {name}: not there")),
            }
        }
        None
    }

    fn by_variables(&self) -> Option<Result<Keys, String>> {
        let access_key = self.surroundings.first(&["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY"])?;
        let Some(secret_key) = self.surroundings.first(&["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"]) else {
            return Some(Err("AWS_SECRET_ACCESS_KEY is not set".to_owned()));
        };
        Some(Ok(Keys {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            session_token: self.surroundings.get("AWS_SESSION_TOKEN").map(str::to_owned),
            source: "the keys of AWS_ACCESS_KEY_ID".to_owned(),
        }))
    }

    fn by_web_identity(&self, region: &str) -> Option<Result<Keys, String>> {
        let path = PathBuf::from(self.surroundings.get("AWS_WEB_IDENTITY_TOKEN_FILE")?);
        let Some(role) = self.surroundings.get("AWS_ROLE_ARN") else {
            return Some(Err("AWS_ROLE_ARN is not set".to_owned()));
        };
        let session = self.surroundings.get("AWS_ROLE_SESSION_NAME").unwrap_or("zuwai");
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let sts = self.surroundings.first(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]).map(str::to_owned);
        let sts = sts.unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
        Some(self.surroundings.file(&path).and_then(|token| {
            let question = Question::to_service(Method::POST, format!("{}/", sts.trim_end_matches('/')));
            let question = question.header("accept", "application/json").form(&[
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", role),
                ("RoleSessionName", session),
                ("WebIdentityToken", token.trim()),
            ]);
            let answer = self.surroundings.ask(&question)?;
            let keys = keys_in_xml(&answer).ok_or_else(|| format!("{sts} answered without keys"))?;
            Ok(Keys { source: format!("the web identity of {}", path.display()), ..keys })
        }))
    }

    fn by_profile(&self) -> Option<Result<Keys, String>> {
        let named = self.surroundings.get("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
        let asked = named.is_some();
        let path = named.or_else(|| self.surroundings.at_home(".aws/credentials"))?;
        let text = match self.surroundings.file(&path) {
            Ok(text) => text,
            Err(reason) => return asked.then_some(Err(reason)),
        };
        let profile = self.surroundings.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]).unwrap_or("default");
        let values = profile_of(&text, profile);
        let value = |key: &str| values.get(key).map(|value| (*value).to_owned());
        let (Some(access_key), Some(secret_key)) = (value("aws_access_key_id"), value("aws_secret_access_key")) else {
            return Some(Err(format!("{} has no keys for the profile {profile}", path.display())));
        };
        let source = format!("the profile {profile} of {}", path.display());
        Some(Ok(Keys { access_key, secret_key, session_token: value("aws_session_token"), source }))
    }

    fn by_container(&self) -> Option<Result<Keys, String>> {
        let relative = self.surroundings.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = match (relative, self.surroundings.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            (Some(path), _) => format!("http://169.254.170.2{path}"),
            (None, Some(url)) => url.to_owned(),
            (None, None) => return None,
        };
        let mut question = Question::to_machine(Method::GET, url);
        if let Some(path) = self.surroundings.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from) {
            match self.surroundings.file(&path) {
                Ok(token) => question = question.header("authorization", token.trim()),
                Err(reason) => return Some(Err(reason)),
            }
        } else if let Some(token) = self.surroundings.get("AWS_CONTAINER_AUTHORIZATION_TOKEN") {
            question = question.header("authorization", token);
        }
        Some(self.surroundings.ask_json(&question).and_then(|answer| keys_in(&answer, "the container's service")))
    }

    /// The second version of the protocol alone: the first gives keys to whoever makes the builder fetch a URL.
    fn by_machine(&self) -> Option<Result<Keys, String>> {
        if self.surroundings.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let base = self.surroundings.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or("http://169.254.169.254");
        let base = base.trim_end_matches('/');
        let ask = || {
            let token = Question::to_machine(Method::PUT, format!("{base}/latest/api/token"));
            let token = self.surroundings.ask(&token.header("x-aws-ec2-metadata-token-ttl-seconds", "300"))?;
            let get = |path: &str| {
                let url = format!("{base}/latest/meta-data/iam/security-credentials/{path}");
                Question::to_machine(Method::GET, url).header("x-aws-ec2-metadata-token", token.trim())
            };
            let roles = self.surroundings.ask(&get(""))?;
            let role = roles.lines().next().unwrap_or_default().trim();
            if role.is_empty() || !role.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
                return Err(format!("{base} knows no role of this machine"));
            }
            keys_in(&self.surroundings.ask_json(&get(role))?, &format!("the machine's role {role}"))
        };
        Some(ask())
    }

    /// The registry's password, which lasts twelve hours.
    fn password(&self, ecr: &Ecr, keys: &Keys) -> Result<(Credential, Duration), String> {
        let (variable, host, service, target) = if ecr.public {
            let target = "SpencerFrontendService.GetAuthorizationToken";
            ("AWS_ENDPOINT_URL_ECR_PUBLIC", format!("api.ecr-public.{}", ecr.region), "ecr-public", target)
        } else {
            let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
            ("AWS_ENDPOINT_URL_ECR", format!("api.ecr.{}", ecr.region), "ecr", target)
        };
        let given = self.surroundings.first(&[variable, "AWS_ENDPOINT_URL"]).map(str::to_owned);
        let address = given.unwrap_or_else(|| format!("https://{host}.{}", ecr.domain));
        let url = Url::parse(&address).map_err(|error| format!("{variable}: {error}"))?;
        let headers = [("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amz-target", target.to_owned())];
        let signer = Signer {
            access_key: &keys.access_key,
            secret_key: &keys.secret_key,
            session_token: keys.session_token.as_deref(),
            region: &ecr.region,
            service,
        };
        let signed = signer.sign(&Method::POST, &url, &headers, "{}", Timestamp::now());
        let mut question = Question::to_service(Method::POST, url.as_str());
        question.body = Some(("application/x-amz-json-1.1", "{}".to_owned()));
        question = question.header("x-amz-target", target);
        for (name, value) in signed {
            question = question.header(name, value);
        }
        let answer = self.surroundings.ask_json(&question)?;
        let data = &answer["authorizationData"];
        let data = data.get(0).unwrap_or(data);
        let token = data["authorizationToken"].as_str().unwrap_or_default();
        let login = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (username, password) = login
            .as_deref()
            .and_then(|login| login.split_once(':'))
            .ok_or_else(|| format!("{address} answered without a password"))?;
        let expires = data["expiresAt"].as_f64().unwrap_or(0.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let life = Duration::from_secs_f64((expires - now).clamp(300.0, 43_200.0));
        Ok((Credential::Basic { username: username.to_owned(), password: password.to_owned() }, life))
    }
}

impl Keychain for AmazonKeychain {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        let Some(ecr) = Ecr::of(reference.registry()) else { return Ok(Resolved::anonymous(Vec::new())) };
        Ok(self.grants.get(reference.registry(), |tried| self.grant(&ecr, tried)))
    }

    fn renew(&self, reference: &Reference) -> Option<Resolved> {
        self.grants.has(reference.registry()).then(|| self.resolve(reference).ok()).flatten()
    }
}

impl Ecr {
    /// `None` for hosts that are not Amazon's. The account has twelve digits; nothing may stand behind the domain.
    fn of(registry: &str) -> Option<Ecr> {
        if matches!(registry, "public.ecr.aws" | "ecr-public.aws.com") {
            return Some(Ecr { public: true, region: "us-east-1".to_owned(), domain: "amazonaws.com".to_owned() });
        }
        let (account, rest) = registry.split_once('.')?;
        let rest = rest.strip_prefix("dkr.").or_else(|| rest.strip_prefix("dkr-"))?;
        let (service, rest) = rest.split_once('.')?;
        let (region, domain) = rest.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_region = !region.is_empty()
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let (_, domain) = DOMAINS.iter().find(|(known, _)| *known == domain)?;
        let known = is_account && is_region && matches!(service, "ecr" | "ecr-fips");
        known.then(|| Ecr { public: false, region: region.to_owned(), domain: (*domain).to_owned() })
    }
}

/// Keys as the container's and the machine's services write them.
fn keys_in(answer: &Value, source: &str) -> Result<Keys, String> {
    let text = |key: &str| answer[key].as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let (Some(access_key), Some(secret_key)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
        return Err(format!("{source} answered without keys"));
    };
    Ok(Keys { access_key, secret_key, session_token: text("Token"), source: source.to_owned() })
}

/// Keys as the token service writes them: three elements of an XML document that hold plain text.
fn keys_in_xml(answer: &str) -> Option<Keys> {
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text.trim().to_owned())
    };
    Some(Keys {
        access_key: element("AccessKeyId")?,
        secret_key: element("SecretAccessKey")?,
        session_token: element("SessionToken"),
        source: String::new(),
    })
}

/// The values of a section of an INI file, by their names.
fn profile_of<'a>(text: &'a str, profile: &str) -> BTreeMap<String, &'a str> {
    let mut values = BTreeMap::new();
    let mut inside = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.trim().strip_prefix("profile ").unwrap_or(name.trim()).trim() == profile;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
            values.insert(key.trim().to_ascii_lowercase(), value.trim());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransportOptions;
    use crate::auth::identity::fake::{FakeService, Seen};

    const ECR: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/app:1";

    #[test]
    fn hosts_are_amazons_or_get_nothing() {
        let region = |registry: &str| Ecr::of(registry).map(|ecr| format!("{} {}", ecr.region, ecr.domain));
        for (registry, expected) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "eu-central-1 amazonaws.com"),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1 amazonaws.com"),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1 amazonaws.com.cn"),
            ("123456789012.dkr-ecr.us-west-2.on.aws", "us-west-2 amazonaws.com"),
            ("public.ecr.aws", "us-east-1 amazonaws.com"),
        ] {
            assert_eq!(region(registry).as_deref(), Some(expected), "{registry}");
        }
        for other in [
            "12345678901.dkr.ecr.eu-central-1.amazonaws.com",
            "x23456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.test",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com:8443",
            "123456789012.dkr.ecr.eu-central-1.evilamazonaws.com",
            "123456789012.dkr.ecr.eu_central.amazonaws.com",
            "123456789012.ecr.eu-central-1.amazonaws.com",
            "evil.public.ecr.aws",
            "public.ecr.aws.evil.test",
            "index.docker.io",
        ] {
            assert_eq!(region(other), None, "{other}");
        }
    }

    fn granting() -> FakeService {
        FakeService::start(|seen| {
            let password = STANDARD.encode("AWS:pass");
            let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 43_000;
            let ecr = format!(r#"{{"authorizationData":[{{"authorizationToken":"{password}","expiresAt":{at}.5}}]}}"#);
            match seen.line.as_str() {
                "POST /" if seen.body.contains("AssumeRole") => (
                    200,
                    "<R><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken></R>"
                        .to_owned(),
                ),
                "POST /" => (200, ecr),
                "PUT /latest/api/token" => (200, "imds-token".to_owned()),
                "GET /latest/meta-data/iam/security-credentials/" => (200, "builder\n".to_owned()),
                "GET /latest/meta-data/iam/security-credentials/builder" | "GET /keys" => {
                    (200, r#"{"AccessKeyId":"ROLE","SecretAccessKey":"s","Token":"t"}"#.to_owned())
                }
                _ => (404, String::new()),
            }
        })
    }

    fn keychain(service: &FakeService, variables: &[(&str, &str)]) -> AmazonKeychain {
        let addresses =
            ["AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT"].map(|name| (name, service.url.as_str()));
        let all = addresses.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        AmazonKeychain::new(Surroundings::new(all, TransportOptions::default()))
    }

    fn resolve(keychain: &AmazonKeychain, reference: &str) -> Resolved {
        keychain.resolve(&reference.parse().unwrap()).unwrap()
    }

    fn key_shown(seen: &[Seen]) -> String {
        let authorization = seen.last().unwrap().header("authorization").unwrap();
        authorization.split(['=', '/']).nth(1).unwrap().to_owned()
    }

    #[test]
    fn keys_of_every_source_are_traded_for_the_registrys_password() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).display().to_string()
        };
        let profiles = write(
            "credentials",
            "[default]\naws_access_key_id = DEF\naws_secret_access_key=s\n[ci]\n# x\naws_access_key_id=CI\naws_secret_access_key = s\n",
        );
        let token = write("token", "jwt\n");
        let service = granting();
        let keys = format!("{}/keys", service.url);
        for (variables, key, source) in [
            (vec![("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")], "ENV", "AWS_ACCESS_KEY_ID"),
            (vec![("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()), ("AWS_ROLE_ARN", "arn:x")], "WEB", "web identity"),
            (vec![("AWS_SHARED_CREDENTIALS_FILE", profiles.as_str())], "DEF", "profile default"),
            (vec![("AWS_SHARED_CREDENTIALS_FILE", &profiles), ("AWS_PROFILE", "ci")], "CI", "profile ci"),
            (vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", keys.as_str())], "ROLE", "container's service"),
            (vec![], "ROLE", "role builder"),
        ] {
            let keychain = keychain(&service, &variables);
            let resolved = resolve(&keychain, ECR);
            let expected = Credential::Basic { username: "AWS".to_owned(), password: "pass".to_owned() };
            assert!(resolved.credential == expected, "{source}: {resolved:?}");
            assert!(resolved.source.contains(source), "{}", resolved.source);
            assert_eq!(key_shown(&service.seen()), key, "{source}");
            let asked = service.seen().len();
            assert!(resolve(&keychain, &ECR.replace("app", "other")).credential == expected);
            assert_eq!(service.seen().len(), asked, "kept for the registry");
        }
        let seen = service.seen().last().unwrap().clone();
        assert_eq!(seen.header("x-amz-target"), Some("AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"));
        assert!(seen.header("authorization").unwrap().contains("/eu-central-1/ecr/aws4_request"));
    }

    #[test]
    fn nobody_is_asked_for_another_host_whatever_is_set() {
        let service = granting();
        // Shipwright sets these in every build.
        let keychain = keychain(&service, &[("AWS_ACCESS_KEY_ID", "NOT_SET"), ("AWS_SECRET_KEY", "NOT_SET")]);
        for other in ["debian", "123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.test/app", "ghcr.io/a/b"] {
            let resolved = resolve(&keychain, other);
            assert!(resolved.credential.is_anonymous() && resolved.tried.is_empty(), "{other}");
        }
        assert!(service.seen().is_empty());
    }

    #[test]
    fn what_each_source_said_is_told_without_a_secret() {
        let refusing = FakeService::start(|_| (403, r#"{"message":"no such role"}"#.to_owned()));
        let none = resolve(&keychain(&refusing, &[("AWS_ROLE_ARN", "x")]), ECR);
        assert!(none.credential.is_anonymous());
        assert_eq!(none.tried.len(), 5, "{:?}", none.tried);
        assert!(
            none.tried[4].contains("the metadata service") && none.tried[4].contains("403 Forbidden: no such role")
        );
        let keys = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
        let refused = resolve(&keychain(&refusing, &keys), ECR);
        assert!(refused.tried[0].contains("403 Forbidden"), "{:?}", refused.tried);
        assert!(!format!("{refused:?} {:?}", keychain(&refusing, &keys)).contains("hunter2"));
        let off = resolve(&keychain(&refusing, &[("AWS_EC2_METADATA_DISABLED", "true")]), ECR);
        assert_eq!(off.tried[4], "Amazon ECR, the metadata service: not there");
    }
}
