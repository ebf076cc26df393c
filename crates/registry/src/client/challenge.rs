//! `WWW-Authenticate`: how a registry asks for a credential (RFC 9110, section 11.6.1).

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One scheme the registry would accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from a token service (the distribution project's token authentication).
    Bearer {
        /// The token service.
        realm: String,
        /// What it calls the registry.
        service: Option<String>,
        /// What the request would have needed, words separated by spaces.
        scope: Option<String>,
    },
}

/// Every known scheme in every header; a header may hold several, and several headers may be there.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).flat_map(parse).collect()
}

fn parse(text: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((scheme, parameters, after)) = one(rest) {
        rest = after;
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                if let Some(realm) = parameters.get("realm").filter(|realm| !realm.is_empty()) {
                    found.push(Challenge::Bearer {
                        realm: realm.clone(),
                        service: parameters.get("service").cloned(),
                        scope: parameters.get("scope").cloned(),
                    });
                }
            }
            _ => {}
        }
    }
    found
}

/// One scheme with its parameters, and what follows.
fn one(text: &str) -> Option<(&str, BTreeMap<String, String>, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
    let (scheme, mut rest) = text.split_at(end);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = BTreeMap::new();
    loop {
        let next = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, value, after)) = parameter(next) else { break };
        parameters.entry(name.to_ascii_lowercase()).or_insert(value);
        rest = after;
    }
    Some((scheme, parameters, rest))
}

/// `name=value` or `name="quoted value"`; `None` when the next word is another scheme.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let end = text.find(['=', ' ', '\t', ',', '"']).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let after = after.trim_start_matches([' ', '\t']).strip_prefix('=')?.trim_start_matches([' ', '\t']);
    if name.is_empty() {
        return None;
    }
    let Some(quoted) = after.strip_prefix('"') else {
        let end = after.find([',', ' ', '\t']).unwrap_or(after.len());
        return Some((name, after[..end].to_owned(), &after[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (index, character) in quoted.char_indices() {
        match character {
            _ if escaped => {
                value.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((name, value, &quoted[index + 1..])),
            _ => value.push(character),
        }
    }
    // A quote that is never closed runs to the end.
    Some((name, value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) }
    }

    #[test]
    fn what_registries_send_is_understood() {
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Basic realm="a, b", Bearer realm="https://t/", error="invalid_token""#,
                vec![Challenge::Basic, bearer("https://t/", None, None)],
            ),
            (r#"bearer REALM = "https://t/" , Service = s"#, vec![bearer("https://t/", Some("s"), None)]),
            (r#"Bearer realm="https://t/?a=\"q\"""#, vec![bearer(r#"https://t/?a="q""#, None, None)]),
            (r#"Negotiate, Bearer realm="https://t/""#, vec![bearer("https://t/", None, None)]),
            ("Bearer", vec![]),
            (r#"Digest realm="x", nonce="y""#, vec![]),
            ("", vec![]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn several_headers_are_all_read() {
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, "Basic realm=x".parse().unwrap());
        headers.append(WWW_AUTHENTICATE, r#"Bearer realm="https://t/""#.parse().unwrap());
        assert_eq!(challenges(&headers), [Challenge::Basic, bearer("https://t/", None, None)]);
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic_or_run_forever(text in "[ -~]{0,60}|[BbaseicrlmRx=\", \\\\]{0,60}") {
            parse(&text);
        }
    }
}
