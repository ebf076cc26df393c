//! Showing credentials: basic, and bearer tokens from a token service (the distribution project's token and `OAuth2`
//! specifications). Tokens are asked for once and kept until shortly before they expire.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::endpoint::{Endpoint, Place, server_of};
use super::error::{Refusal, RegistryError};
use super::http::{Http, message_of, status_text};
use super::lock;
use super::options::RetryPolicy;
use super::retry::repeat;
use super::transport::retry_after;
use crate::auth::{Credential, Keychain, Resolved};

/// What a request needs: `repository:<name>:<actions>` each.
pub(super) type Scopes = BTreeSet<String>;

/// Knows how each registry wants to be spoken to, and keeps the tokens.
pub(super) struct Authenticator {
    pub(super) credentials: Credentials,
    schemes: Mutex<HashMap<Endpoint, Scheme>>,
    tokens: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Option<Token>>>>>,
}

/// A request to a registry that needs a header, and what a token for it is asked for with.
#[derive(Clone, Copy)]
pub(super) struct Need<'a> {
    pub(super) http: &'a Http,
    pub(super) policy: &'a RetryPolicy,
    pub(super) place: &'a Place,
    pub(super) scopes: &'a Scopes,
    /// What is being done, for errors.
    pub(super) attempted: &'a str,
}

/// How a registry was found to want it.
#[derive(Clone)]
enum Scheme {
    /// What there is to show is shown as it is.
    Direct,
    /// It is traded for a token first.
    Bearer { realm: String, service: Option<String> },
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    endpoint: Endpoint,
    repository: String,
    scopes: Scopes,
}

struct Token {
    header: HeaderValue,
    until: Instant,
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

/// How long a token lasts that does not say (the token specification's default), and no token is believed to last longer
/// than `LONGEST`.
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_hours(1);

/// Clocks and the way there take time: a token counts as expired this much earlier, or after three quarters of its life.
const SKEW: Duration = Duration::from_secs(15);

/// The longest answer of a token service: tokens with many rights run to tens of kilobytes.
const LONGEST_ANSWER: u64 = 1024 * 1024;

/// How token services know us. Some write it into their logs, and `OAuth2` asks for it.
const CLIENT_ID: &str = "zuwai";

impl Authenticator {
    pub(super) fn new(keychain: Arc<dyn Keychain>) -> Authenticator {
        let credentials = Credentials::new(keychain);
        Authenticator { credentials, schemes: Mutex::default(), tokens: Mutex::default() }
    }

    /// The header to send with a request before anything was refused; `None` as long as the registry has not asked.
    pub(super) async fn known(&self, need: Need<'_>) -> Result<Option<HeaderValue>, RegistryError> {
        let Need { place, scopes, .. } = need;
        let scheme = lock(&self.schemes).get(&place.endpoint).cloned();
        let Some(scheme) = scheme else { return Ok(None) };
        let resolved = self.credentials.of(&place.reference).await?;
        match (&scheme, &resolved.credential) {
            (_, Credential::RegistryToken(token)) => Ok(Some(secret(&format!("Bearer {token}")))),
            (Scheme::Direct, Credential::Basic { username, password }) => Ok(Some(basic(username, password))),
            (Scheme::Direct, _) => Ok(None),
            (Scheme::Bearer { .. }, _) => {
                let request = Request { need, resolved: &resolved };
                self.token(&request, &scheme, scopes, scopes, None).await.map(Some)
            }
        }
    }

    /// The header to try again with after a 401, given what was sent before; an error when there is nothing better.
    pub(super) async fn answer(
        &self,
        need: Need<'_>,
        refusal: (&[Challenge], Option<&HeaderValue>, &str),
    ) -> Result<HeaderValue, RegistryError> {
        let Need { place, scopes, attempted, .. } = need;
        let (challenges, sent, message) = refusal;
        let resolved = self.credentials.of(&place.reference).await?;
        let unauthorized = |message: &str| {
            Err(RegistryError::Unauthorized(Box::new(refusal_of(place, attempted, message.to_owned(), &resolved))))
        };
        if let Credential::RegistryToken(token) = &resolved.credential {
            let header = secret(&format!("Bearer {token}"));
            if sent == Some(&header) {
                return unauthorized(message);
            }
            self.remember_direct(place);
            return Ok(header);
        }
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        if let Some(Challenge::Bearer { realm, service, scope }) = bearer {
            let scheme = Scheme::Bearer { realm: realm.clone(), service: service.clone() };
            lock(&self.schemes).insert(place.endpoint.clone(), scheme.clone());
            let mut asked = scopes.clone();
            asked.extend(scope.iter().flat_map(|scope| scope.split_ascii_whitespace()).map(str::to_owned));
            let request = Request { need, resolved: &resolved };
            return self.token(&request, &scheme, scopes, &merged(asked), sent).await;
        }
        if challenges.contains(&Challenge::Basic) {
            let Credential::Basic { username, password } = &resolved.credential else {
                return unauthorized(if message.is_empty() { "it asks for a user and a password" } else { message });
            };
            let header = basic(username, password);
            if sent == Some(&header) {
                return unauthorized(message);
            }
            self.remember_direct(place);
            return Ok(header);
        }
        unauthorized(if message.is_empty() { "it does not say which kind of credential it wants" } else { message })
    }

    fn remember_direct(&self, place: &Place) {
        lock(&self.schemes).insert(place.endpoint.clone(), Scheme::Direct);
    }

    /// A token from the cache or the service. Requests that want the same one wait for the first. `refused` is one that
    /// was just refused: it is not taken from the cache again.
    async fn token(
        &self,
        request: &Request<'_>,
        scheme: &Scheme,
        scopes: &Scopes,
        asked: &Scopes,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, RegistryError> {
        let Scheme::Bearer { realm, service } = scheme else {
            unreachable!("tokens belong to the bearer scheme");
        };
        let key = Key {
            endpoint: request.need.place.endpoint.clone(),
            repository: request.need.place.repository().to_owned(),
            scopes: scopes.clone(),
        };
        let slot = Arc::clone(lock(&self.tokens).entry(key).or_default());
        let mut slot = slot.lock().await;
        if let Some(token) = &*slot
            && token.until > Instant::now()
            && refused != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        let start = Instant::now();
        let answer = repeat(request.need.policy, || request.ask(realm, service.as_deref(), asked)).await?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token).unwrap_or_default();
        let life = answer.expires_in.filter(|life| life.is_finite() && *life > 0.0);
        let life = life.map_or(DEFAULT_LIFE, |life| Duration::from_secs_f64(life.min(1e9))).min(LONGEST);
        let header = secret(&format!("Bearer {token}"));
        if token.is_empty() || header.is_empty() {
            return Err(request.protocol(realm, "it answered without a token"));
        }
        *slot = Some(Token { header: header.clone(), until: start + life.saturating_sub(SKEW.min(life / 4)) });
        Ok(header)
    }
}

/// A request to the token service on behalf of a request to the registry.
struct Request<'a> {
    need: Need<'a>,
    resolved: &'a Resolved,
}

impl Request<'_> {
    async fn ask(&self, realm: &str, service: Option<&str>, scopes: &Scopes) -> Result<Answer, RegistryError> {
        let (url, endpoint) = (self.realm(realm)?, &self.need.place.endpoint);
        let response = match &self.resolved.credential {
            Credential::IdentityToken(token) => {
                let scope = scopes.iter().cloned().collect::<Vec<_>>().join(" ");
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", service.unwrap_or_default()),
                    ("client_id", CLIENT_ID),
                    ("scope", &scope),
                    ("refresh_token", token),
                ];
                self.need.http.send_form(endpoint, url, None, Some(&form), self.need.attempted).await?
            }
            Credential::Basic { username, password } => {
                let url = with_query(url, service, scopes, Some(username));
                self.need
                    .http
                    .send_form(endpoint, url, Some(basic(username, password)), None, self.need.attempted)
                    .await?
            }
            Credential::Anonymous | Credential::RegistryToken(_) => {
                let url = with_query(url, service, scopes, None);
                self.need.http.send_form(endpoint, url, None, None, self.need.attempted).await?
            }
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.need.http.body(response, LONGEST_ANSWER, self.need.attempted).await?;
        let body = body.ok_or_else(|| self.protocol(realm, "its answer has no end"))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| self.protocol(realm, "it did not answer with a token"));
        }
        let (status, code, message) = (status_text(status), status.as_u16(), message_of(&body));
        if (400..500).contains(&code) && !matches!(code, 408 | 425 | 429) {
            let refusal = Box::new(refusal_of(self.need.place, self.need.attempted, message, self.resolved));
            return Err(RegistryError::TokenRefused { service: self.service_name(realm), status, refusal });
        }
        let attempted = format!("{}: token service {}", self.need.attempted, self.service_name(realm));
        Err(RegistryError::Status { attempted, status, code, message, retry_after: retry_after(&headers) })
    }

    /// The realm as a URL. A registry that is spoken to with TLS cannot have its passwords sent in clear to somewhere else.
    fn realm(&self, realm: &str) -> Result<Url, RegistryError> {
        let endpoint = &self.need.place.endpoint;
        let url = endpoint.follow(&endpoint.base, realm).map_err(|reason| self.protocol(realm, &reason))?;
        let clear = url.scheme() == "http" && !endpoint.plain_http() && !self.need.http.is_plain_http(&url);
        if clear {
            return Err(self.protocol(realm, "its token service is not encrypted, although the registry is"));
        }
        Ok(url)
    }

    fn service_name(&self, realm: &str) -> String {
        self.need
            .place
            .endpoint
            .base
            .join(realm)
            .map_or_else(|_| "without an address".to_owned(), |url| server_of(&url))
    }

    fn protocol(&self, realm: &str, reason: &str) -> RegistryError {
        RegistryError::Protocol {
            attempted: self.need.attempted.to_owned(),
            server: self.service_name(realm),
            reason: reason.to_owned(),
        }
    }
}

fn with_query(mut realm: Url, service: Option<&str>, scopes: &Scopes, account: Option<&str>) -> Url {
    {
        let mut query = realm.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if let Some(account) = account {
            query.append_pair("account", account);
        }
    }
    realm
}

/// A refusal with what was shown, for the message.
pub(super) fn refusal_of(place: &Place, attempted: &str, message: String, resolved: &Resolved) -> Refusal {
    let credential = match &resolved.credential {
        Credential::Anonymous => None,
        credential => Some(format!("{} from {}", credential.describe(), resolved.source)),
    };
    Refusal {
        attempted: attempted.to_owned(),
        registry: place.endpoint.registry.clone(),
        message,
        credential,
        tried: resolved.tried.clone(),
    }
}

/// One scope for each repository: `a:pull` and `a:pull,push` are the latter.
fn merged(scopes: Scopes) -> Scopes {
    let mut by_resource: HashMap<String, BTreeSet<String>> = HashMap::new();
    for scope in scopes {
        match scope.rsplit_once(':') {
            Some((resource, actions)) => {
                let actions = actions.split(',').map(str::to_owned);
                by_resource.entry(resource.to_owned()).or_default().extend(actions);
            }
            None => drop(by_resource.entry(scope).or_default()),
        }
    }
    let print = |(resource, actions): (String, BTreeSet<String>)| {
        let actions: Vec<String> = actions.into_iter().filter(|action| !action.is_empty()).collect();
        if actions.is_empty() { resource } else { format!("{resource}:{}", actions.join(",")) }
    };
    by_resource.into_iter().map(print).collect()
}

fn basic(username: &str, password: &str) -> HeaderValue {
    secret(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

/// A header that debug output leaves out. One that cannot be sent, as its token has line breaks, is empty.
fn secret(text: &str) -> HeaderValue {
    let mut header = HeaderValue::from_str(text.trim()).unwrap_or_else(|_| HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_one_repository_are_one_scope() {
        let scopes = ["repository:a/b:pull", "repository:a/b:pull,push", "repository:c:pull", "registry:catalog:*"];
        let merged = merged(scopes.map(str::to_owned).into());
        let expected = ["registry:catalog:*", "repository:a/b:pull,push", "repository:c:pull"];
        assert_eq!(merged, Scopes::from(expected.map(str::to_owned)));
    }

    #[test]
    fn headers_with_secrets_do_not_print_them() {
        assert!(!format!("{:?}", basic("me", "hunter2")).contains(&STANDARD.encode("me:hunter2")));
    }
}
