//! Google's identity for its registries (Artifact Registry, Container Registry): an access token by the application's
//! default credentials.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::identity::{Granted, Grants, Question, Surroundings};
use super::{Credential, Keychain, KeychainError, Resolved};
use crate::image::Reference;

/// Finds credentials for `gcr.io`, hosts below it, and hosts below `pkg.dev`; nobody is asked for any other host.
///
/// A token comes from the first of: the file of `GOOGLE_APPLICATION_CREDENTIALS` (service accounts, users, and workloads of
/// other clouds); gcloud's default credentials in the home folder; the machine's metadata service (`GCE_METADATA_HOST`
/// changes its address).
#[derive(Debug)]
pub struct GoogleKeychain {
    surroundings: Surroundings,
    grants: Grants,
}

/// The user to whom an access token is the password.
const USER: &str = "oauth2accesstoken";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_SERVICE: &str = "https://oauth2.googleapis.com/token";

type Token = (String, Duration);

impl GoogleKeychain {
    /// Looks there. Nothing is asked yet.
    pub fn new(surroundings: Surroundings) -> GoogleKeychain {
        GoogleKeychain { surroundings, grants: Grants::default() }
    }

    fn grant(&self, tried: &mut Vec<String>) -> Option<Granted> {
        let named = self.surroundings.get("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
        let at_home = self.surroundings.at_home(".config/gcloud/application_default_credentials.json");
        let at_home = at_home.filter(|path| self.surroundings.file(path).is_ok());
        if named.is_none() {
            tried.push("Google, GOOGLE_APPLICATION_CREDENTIALS: not set".to_owned());
        }
        let sources = named.into_iter().chain(at_home).map(|path| (path.display().to_string(), Some(path)));
        for (name, path) in sources.chain([("the metadata service".to_owned(), None)]) {
            let found = match &path {
                Some(path) => self.by_file(path),
                None => self.by_machine(),
            };
            match found {
                Ok((password, life)) => {
                    let credential = Credential::Basic { username: USER.to_owned(), password };
                    return Some(Granted { credential, source: format!("Google by {name}"), life });
                }
                Err(reason) => tried.push(format!("Google, {name}: {reason}")),
            }
        }
        None
    }

    fn by_file(&self, path: &Path) -> Result<Token, String> {
        // The parser's message may quote what it could not read.
        let account: Value = serde_json::from_str(&self.surroundings.file(path)?).map_err(|_| "it is not JSON")?;
        match account["type"].as_str() {
            Some("service_account") => self.as_service_account(&account),
            Some("authorized_user") => self.as_user(&account),
            Some("external_account") => self.as_workload(&account),
            Some(other) => Err(format!("credentials of the type {other} are not supported")),
            None => Err("it does not say of which type it is".to_owned()),
        }
    }

    /// RFC 7523: an assertion signed with the account's key.
    fn as_service_account(&self, account: &Value) -> Result<Token, String> {
        let service = account["token_uri"].as_str().unwrap_or(TOKEN_SERVICE);
        let now = jiff::Timestamp::now().as_second();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": account["private_key_id"]});
        let claims = json!({
            "iss": text(account, "client_email")?, "scope": SCOPE, "aud": service, "iat": now, "exp": now + 3600,
        });
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let unusable = "its private key cannot be used";
        let key = PrivatePkcs8KeyDer::from_pem_slice(text(account, "private_key")?.as_bytes()).map_err(|_| unusable)?;
        let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).map_err(|_| unusable)?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &ring::rand::SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| unusable)?;
        let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        let question = Question::to_service(Method::POST, service)
            .form(&[("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)]);
        token_in(&self.surroundings.ask_json(&question)?)
    }

    fn as_user(&self, account: &Value) -> Result<Token, String> {
        let service = account["token_uri"].as_str().unwrap_or(TOKEN_SERVICE);
        let question = Question::to_service(Method::POST, service).form(&[
            ("grant_type", "refresh_token"),
            ("client_id", text(account, "client_id")?),
            ("client_secret", text(account, "client_secret")?),
            ("refresh_token", text(account, "refresh_token")?),
        ]);
        token_in(&self.surroundings.ask_json(&question)?)
    }

    /// A workload of another cloud shows that cloud's token (RFC 8693), and may act as a service account then.
    fn as_workload(&self, account: &Value) -> Result<Token, String> {
        let own = self.workloads_own_token(&account["credential_source"])?;
        let question = Question::to_service(Method::POST, text(account, "token_url")?).form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", text(account, "audience")?),
            ("scope", SCOPE),
            ("subject_token_type", text(account, "subject_token_type")?),
            ("subject_token", own.trim()),
        ]);
        let token = token_in(&self.surroundings.ask_json(&question)?)?;
        let Some(impersonated) = account["service_account_impersonation_url"].as_str() else { return Ok(token) };
        let question = Question::to_service(Method::POST, impersonated)
            .header("authorization", format!("Bearer {}", token.0))
            .json(&json!({"scope": [SCOPE], "lifetime": "3600s"}));
        let answer = self.surroundings.ask_json(&question)?;
        Ok((text(&answer, "accessToken")?.to_owned(), Duration::from_hours(1)))
    }

    fn workloads_own_token(&self, source: &Value) -> Result<String, String> {
        let content = match (source["file"].as_str(), source["url"].as_str()) {
            (Some(file), _) => self.surroundings.file(Path::new(file))?,
            (None, Some(url)) => {
                let mut question = Question::to_service(Method::GET, url);
                for (name, value) in source["headers"].as_object().into_iter().flatten() {
                    question = question.header(name, value.as_str().unwrap_or_default());
                }
                self.surroundings.ask(&question)?
            }
            (None, None) => return Err("its credential_source names neither a file nor a url".to_owned()),
        };
        if source["format"]["type"].as_str() != Some("json") {
            return Ok(content);
        }
        let field = source["format"]["subject_token_field_name"].as_str().unwrap_or("access_token");
        let content: Value = serde_json::from_str(&content).map_err(|_| "the workload's own token is not in JSON")?;
        text(&content, field).map(str::to_owned)
    }

    fn by_machine(&self) -> Result<Token, String> {
        let host = self.surroundings.get("GCE_METADATA_HOST").unwrap_or("169.254.169.254");
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let question = Question::to_machine(Method::GET, url).header("metadata-flavor", "Google");
        token_in(&self.surroundings.ask_json(&question)?)
    }
}

impl Keychain for GoogleKeychain {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        if !is_googles(reference.registry()) {
            return Ok(Resolved::anonymous(Vec::new()));
        }
        Ok(self.grants.get(reference.registry(), |tried| self.grant(tried)))
    }

    fn renew(&self, reference: &Reference) -> Option<Resolved> {
        self.grants.has(reference.registry()).then(|| self.resolve(reference).ok()).flatten()
    }
}

fn is_googles(registry: &str) -> bool {
    registry == "gcr.io" || registry.ends_with(".gcr.io") || registry.ends_with(".pkg.dev")
}

/// A member that must be text.
fn text<'a>(document: &'a Value, member: &str) -> Result<&'a str, String> {
    document[member].as_str().filter(|text| !text.is_empty()).ok_or_else(|| format!("there is no {member}"))
}

fn token_in(answer: &Value) -> Result<Token, String> {
    let life = answer["expires_in"].as_u64().unwrap_or(3600);
    Ok((text(answer, "access_token")?.to_owned(), Duration::from_secs(life)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransportOptions;
    use crate::auth::identity::fake::FakeService;

    fn granting() -> FakeService {
        FakeService::start(|seen| {
            let token = |text: &str| (200, format!(r#"{{"access_token":"{text}","expires_in":3599}}"#));
            match seen.line.as_str() {
                "GET /computeMetadata/v1/instance/service-accounts/default/token"
                    if seen.header("metadata-flavor") == Some("Google") =>
                {
                    token("machine")
                }
                "POST /token" if seen.body.contains("jwt-bearer") => token("service"),
                "POST /token" if seen.body.contains("refresh_token=r") => token("user"),
                "POST /sts" if seen.body.contains("subject_token=own&") || seen.body.ends_with("subject_token=own") => {
                    token("federated")
                }
                "GET /own" if seen.header("x-key") == Some("k") => (200, r#"{"value":"own"}"#.to_owned()),
                "POST /as" if seen.header("authorization") == Some("Bearer federated") => {
                    (200, r#"{"accessToken":"impersonated"}"#.to_owned())
                }
                _ => (403, "no".to_owned()),
            }
        })
    }

    fn resolve(service: &FakeService, variables: &[(&str, &str)], reference: &str) -> Resolved {
        let host = service.url.trim_start_matches("http://").to_owned();
        let all = [("GCE_METADATA_HOST", host.as_str())];
        let all = all.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let keychain = GoogleKeychain::new(Surroundings::new(all, TransportOptions::default()));
        keychain.resolve(&reference.parse().unwrap()).unwrap()
    }

    fn password(resolved: &Resolved) -> &str {
        match &resolved.credential {
            Credential::Basic { username, password } if username == USER => password,
            _ => panic!("{resolved:?}"),
        }
    }

    #[test]
    fn the_machines_token_is_shown_to_googles_hosts_and_no_others() {
        let service = granting();
        for host in ["gcr.io", "eu.gcr.io", "europe-west3-docker.pkg.dev"] {
            let resolved = resolve(&service, &[], &format!("{host}/project/app:1"));
            assert_eq!(password(&resolved), "machine");
            assert_eq!(resolved.source, "Google by the metadata service");
        }
        let asked = service.seen().len();
        for other in
            ["evilgcr.io", "gcr.io.evil.test", "pkg.dev.evil.test", "evilpkg.dev", "gcr.io:5000", "pkg.dev", "quay.io"]
        {
            let resolved = resolve(&service, &[], &format!("{other}/project/app:1"));
            assert!(resolved.credential.is_anonymous() && resolved.tried.is_empty(), "{other}");
        }
        assert_eq!(service.seen().len(), asked);
    }

    #[test]
    fn every_kind_of_file_is_traded_for_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        let named = path.display().to_string();
        let service = granting();
        let url = |name: &str| format!("{}/{name}", service.url);
        let key =
            std::process::Command::new("openssl").args(["genpkey", "-quiet", "-algorithm", "RSA"]).output().unwrap();
        let key = String::from_utf8(key.stdout).unwrap();
        std::fs::write(folder.path().join("own"), "own\n").unwrap();
        let workload = |source: Value, more: Option<String>| {
            json!({"type": "external_account", "audience": "a", "subject_token_type": "t", "token_url": url("sts"),
                "credential_source": source, "service_account_impersonation_url": more})
        };
        let file = json!({"file": folder.path().join("own")});
        let web = json!({"url": url("own"), "headers": {"x-key": "k"},
            "format": {"type": "json", "subject_token_field_name": "value"}});
        for (account, expected) in [
            (
                json!({"type": "service_account", "client_email": "a@b", "private_key": key, "token_uri": url("token")}),
                "service",
            ),
            (
                json!({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": url("token")}),
                "user",
            ),
            (workload(file.clone(), None), "federated"),
            (workload(file, Some(url("as"))), "impersonated"),
            (workload(web, None), "federated"),
        ] {
            std::fs::write(&path, account.to_string()).unwrap();
            let resolved = resolve(&service, &[("GOOGLE_APPLICATION_CREDENTIALS", &named)], "gcr.io/p/app");
            assert_eq!(password(&resolved), expected);
            assert_eq!(resolved.source, format!("Google by {named}"));
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_is_told_and_the_next_source_tried() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.json");
        let named = path.display().to_string();
        let service = granting();
        for (content, said) in [
            ("hunter2", "it is not JSON"),
            (r#"{"type":"hunter3"}"#, "hunter3 are not supported"),
            (r#"{"type":"service_account","client_email":"x","private_key":"hunter2"}"#, "private key cannot be used"),
        ] {
            std::fs::write(&path, content).unwrap();
            let resolved = resolve(&service, &[("GOOGLE_APPLICATION_CREDENTIALS", &named)], "gcr.io/p/app");
            assert_eq!(password(&resolved), "machine");
            assert!(resolved.tried[0].contains(said) && !resolved.tried[0].contains("hunter2"), "{:?}", resolved.tried);
        }
        let gone = resolve(&service, &[("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/x.json")], "gcr.io/p/app");
        assert!(gone.tried[0].contains("/nowhere/x.json cannot be read"), "{:?}", gone.tried);
    }
}
