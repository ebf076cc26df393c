//! Azure's identity for its registries (ACR): a token of the directory, traded at the registry for a refresh token.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::identity::{Granted, Grants, Question, Source, Surroundings};
use super::{Credential, Keychain, KeychainError, Resolved};
use crate::image::Reference;

/// Finds credentials for `<name>.azurecr.io`, `.azurecr.cn` and `.azurecr.us`; nobody is asked for any other host, and the
/// directory's token is sent to the registry it is for and to nobody else.
///
/// The token comes from the first of: `AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and `AZURE_CLIENT_SECRET`; a workload identity
/// (`AZURE_FEDERATED_TOKEN_FILE`); the machine's metadata service. `AZURE_AUTHORITY_HOST` and
/// `AZURE_POD_IDENTITY_AUTHORITY_HOST` change the addresses.
#[derive(Debug)]
pub struct AzureKeychain {
    surroundings: Surroundings,
    grants: Grants,
    /// Where registries are reached; `None` is where their names say. Tests say otherwise.
    exchange: Option<String>,
}

/// A cloud of Azure's: the end of its registries' names, its directory, and for whom its tokens are.
struct Cloud {
    suffix: &'static str,
    directory: &'static str,
    audience: &'static str,
}

const CLOUDS: [Cloud; 3] = [
    Cloud {
        suffix: ".azurecr.io",
        directory: "https://login.microsoftonline.com",
        audience: "https://containerregistry.azure.net",
    },
    Cloud {
        suffix: ".azurecr.cn",
        directory: "https://login.chinacloudapi.cn",
        audience: "https://management.chinacloudapi.cn",
    },
    Cloud {
        suffix: ".azurecr.us",
        directory: "https://login.microsoftonline.us",
        audience: "https://management.usgovcloudapi.net",
    },
];

/// How long a registry's refresh token lasts.
const LIFE: Duration = Duration::from_hours(3);

impl AzureKeychain {
    /// Looks there. Nothing is asked yet.
    pub fn new(surroundings: Surroundings) -> AzureKeychain {
        AzureKeychain { surroundings, grants: Grants::default(), exchange: None }
    }

    fn grant(&self, cloud: &Cloud, registry: &str, tried: &mut Vec<String>) -> Option<Granted> {
        let sources: [(&str, Source<'_, String>); 3] = [
            ("AZURE_CLIENT_SECRET", &|| self.by_secret(cloud)),
            ("AZURE_FEDERATED_TOKEN_FILE", &|| self.by_workload(cloud)),
            ("the metadata service", &|| Some(self.by_machine(cloud))),
        ];
        for (name, find) in sources {
            let found = match find() {
                Some(found) => found.and_then(|token| self.refresh_token(registry, &token)),
                None => Err("not set".to_owned()),
            };
            match found {
                Ok(token) => {
                    let credential = Credential::IdentityToken(token);
                    return Some(Granted { credential, source: format!("Azure by {name}"), life: LIFE });
                }
                Err(reason) => tried.push(format!("Azure, {name}: {reason}")),
            }
        }
        None
    }

    fn by_secret(&self, cloud: &Cloud) -> Option<Result<String, String>> {
        let secret = self.surroundings.get("AZURE_CLIENT_SECRET")?;
        Some(self.of_directory(cloud, &[("client_secret", secret)]))
    }

    fn by_workload(&self, cloud: &Cloud) -> Option<Result<String, String>> {
        let path = PathBuf::from(self.surroundings.get("AZURE_FEDERATED_TOKEN_FILE")?);
        Some(self.surroundings.file(&path).and_then(|token| {
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            self.of_directory(cloud, &[("client_assertion_type", kind), ("client_assertion", token.trim())])
        }))
    }

    /// A token of the directory for an application.
    fn of_directory(&self, cloud: &Cloud, proof: &[(&str, &str)]) -> Result<String, String> {
        let given = |name: &str| self.surroundings.get(name).ok_or_else(|| format!("{name} is not set"));
        let (client, tenant) = (given("AZURE_CLIENT_ID")?, given("AZURE_TENANT_ID")?);
        let directory = self.surroundings.get("AZURE_AUTHORITY_HOST").unwrap_or(cloud.directory).trim_end_matches('/');
        let scope = format!("{}/.default", cloud.audience);
        let mut form = vec![("grant_type", "client_credentials"), ("client_id", client), ("scope", &scope)];
        form.extend(proof);
        let url = format!("{directory}/{tenant}/oauth2/v2.0/token");
        access_token(&self.surroundings.ask_json(&Question::to_service(Method::POST, url).form(&form))?)
    }

    fn by_machine(&self, cloud: &Cloud) -> Result<String, String> {
        let base = self.surroundings.get("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or("http://169.254.169.254");
        let url = format!("{}/metadata/identity/oauth2/token", base.trim_end_matches('/'));
        let mut url =
            reqwest::Url::parse(&url).map_err(|error| format!("AZURE_POD_IDENTITY_AUTHORITY_HOST: {error}"))?;
        url.query_pairs_mut().append_pair("api-version", "2018-02-01").append_pair("resource", cloud.audience);
        if let Some(client) = self.surroundings.get("AZURE_CLIENT_ID") {
            url.query_pairs_mut().append_pair("client_id", client);
        }
        let question = Question::to_machine(Method::GET, url).header("metadata", "true");
        access_token(&self.surroundings.ask_json(&question)?)
    }

    /// The registry's own token for the directory's.
    fn refresh_token(&self, registry: &str, token: &str) -> Result<String, String> {
        let base = self.exchange.clone().unwrap_or_else(|| format!("https://{registry}"));
        let mut form = vec![("grant_type", "access_token"), ("service", registry), ("access_token", token)];
        form.extend(self.surroundings.get("AZURE_TENANT_ID").map(|tenant| ("tenant", tenant)));
        let question = Question::to_service(Method::POST, format!("{base}/oauth2/exchange")).form(&form);
        let answer = self.surroundings.ask_json(&question)?;
        let token = answer["refresh_token"].as_str().filter(|token| !token.is_empty());
        token.map(str::to_owned).ok_or_else(|| format!("{registry} answered without a token"))
    }
}

impl Keychain for AzureKeychain {
    fn resolve(&self, reference: &Reference) -> Result<Resolved, KeychainError> {
        let registry = reference.registry();
        let Some(cloud) = cloud_of(registry) else { return Ok(Resolved::anonymous(Vec::new())) };
        Ok(self.grants.get(registry, |tried| self.grant(cloud, registry, tried)))
    }

    fn renew(&self, reference: &Reference) -> Option<Resolved> {
        self.grants.has(reference.registry()).then(|| self.resolve(reference).ok()).flatten()
    }
}

/// The cloud a registry belongs to; `None` for hosts that are not Azure's.
fn cloud_of(registry: &str) -> Option<&'static Cloud> {
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(':');
    CLOUDS.iter().find(|cloud| registry.strip_suffix(cloud.suffix).is_some_and(is_name))
}

fn access_token(answer: &Value) -> Result<String, String> {
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or_else(|| "it answered without a token".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransportOptions;
    use crate::auth::identity::fake::FakeService;

    fn granting() -> FakeService {
        FakeService::start(|seen| {
            let token = |text: &str| (200, format!(r#"{{"access_token":"{text}"}}"#));
            let line = seen.line.as_str();
            match line {
                "POST /tenant/oauth2/v2.0/token" if seen.body.contains("client_secret=s") => token("by-secret"),
                "POST /tenant/oauth2/v2.0/token" if seen.body.contains("client_assertion=jwt") => token("by-workload"),
                "POST /oauth2/exchange" => {
                    let of = seen.body.split("access_token=").last().unwrap().split('&').next().unwrap();
                    (200, format!(r#"{{"refresh_token":"refresh {of}"}}"#))
                }
                _ if line.starts_with("GET /metadata/identity/oauth2/token?")
                    && seen.header("metadata") == Some("true") =>
                {
                    token("by-machine")
                }
                _ => (401, r#"{"error":"invalid_client","error_description":"no such client"}"#.to_owned()),
            }
        })
    }

    fn resolve(service: &FakeService, variables: &[(&str, &str)], reference: &str) -> Resolved {
        let all =
            ["AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST"].map(|name| (name, service.url.as_str()));
        let all = all.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let keychain = AzureKeychain {
            exchange: Some(service.url.clone()),
            ..AzureKeychain::new(Surroundings::new(all, TransportOptions::default()))
        };
        keychain.resolve(&reference.parse().unwrap()).unwrap()
    }

    const NAMED: [(&str, &str); 2] = [("AZURE_CLIENT_ID", "client"), ("AZURE_TENANT_ID", "tenant")];

    #[test]
    fn tokens_of_every_source_are_traded_at_the_registry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "jwt\n").unwrap();
        let path = path.display().to_string();
        let service = granting();
        for (variables, expected) in [
            ([&NAMED[..], &[("AZURE_CLIENT_SECRET", "s")]].concat(), "by-secret"),
            ([&NAMED[..], &[("AZURE_FEDERATED_TOKEN_FILE", &path)]].concat(), "by-workload"),
            (Vec::new(), "by-machine"),
        ] {
            let resolved = resolve(&service, &variables, "team.azurecr.io/app:1");
            assert!(
                resolved.credential == Credential::IdentityToken(format!("refresh {expected}")),
                "{expected}: {:?}",
                resolved.tried
            );
        }
        let seen = service.seen();
        assert!(seen.last().unwrap().body.contains("service=team.azurecr.io"));
        assert!(seen[seen.len() - 2].line.contains("resource=https%3A%2F%2Fcontainerregistry.azure.net"));
    }

    #[test]
    fn hosts_that_only_look_like_azures_get_nothing() {
        let service = granting();
        for other in [
            "azurecr.io",
            "evilazurecr.io",
            "team.azurecr.io.evil.test",
            "team.azurecr.io:5000",
            "team.azurecr.com",
            "team-azurecr.io",
            "localhost:5000",
        ] {
            let resolved = resolve(&service, &NAMED, &format!("{other}/app:1"));
            assert!(resolved.credential.is_anonymous() && resolved.tried.is_empty(), "{other}");
        }
        assert!(service.seen().is_empty());
        for own in ["team.azurecr.cn", "team.azurecr.us", "team.eastus.data.azurecr.io"] {
            assert!(cloud_of(own).is_some(), "{own}");
        }
    }

    #[test]
    fn what_each_source_said_is_told() {
        let refusing = FakeService::start(|_| (401, r#"{"error":"invalid_client"}"#.to_owned()));
        let variables = [&NAMED[..], &[("AZURE_CLIENT_SECRET", "hunter2")]].concat();
        let resolved = resolve(&refusing, &variables, "team.azurecr.io/app:1");
        assert!(resolved.credential.is_anonymous());
        let told = resolved.tried.join("\n");
        assert!(
            told.contains("Azure, AZURE_CLIENT_SECRET: ") && told.contains("401 Unauthorized: invalid_client"),
            "{told}"
        );
        assert!(told.contains("Azure, AZURE_FEDERATED_TOKEN_FILE: not set") && !told.contains("hunter2"), "{told}");
        let half = resolve(&refusing, &[("AZURE_CLIENT_SECRET", "s")], "team.azurecr.io/app:1");
        assert!(half.tried[0].contains("AZURE_CLIENT_ID is not set"), "{:?}", half.tried);
    }
}
