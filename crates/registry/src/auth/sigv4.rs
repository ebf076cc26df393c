//! Amazon's request signature, version 4 (AWS General Reference, "Signature Version 4 signing process").

use jiff::Timestamp;
use reqwest::{Method, Url};
use ring::{digest, hmac};

/// Who signs, and for what.
pub(super) struct Signer<'a> {
    pub(super) access_key: &'a str,
    pub(super) secret_key: &'a str,
    /// Of keys that expire.
    pub(super) session_token: Option<&'a str>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

impl Signer<'_> {
    /// The headers to send besides `headers` (lower-case names, signed too): `x-amz-date`, `authorization`, and the session's
    /// token. The path must be written as it is sent.
    pub(super) fn sign(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(&str, String)],
        body: &str,
        time: Timestamp,
    ) -> Vec<(&'static str, String)> {
        let date = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut added = vec![("x-amz-date", date.clone())];
        added.extend(self.session_token.map(|token| ("x-amz-security-token", token.to_owned())));

        let host = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut signed: Vec<(&str, String)> = vec![("host", host)];
        signed.extend(headers.iter().cloned());
        signed.extend(added.iter().cloned());
        signed.sort();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: Vec<String> = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let mut query: Vec<&str> = url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
        query.sort_unstable();
        let request =
            format!("{method}\n{}\n{}\n{}\n{names}\n{}", url.path(), query.join("&"), lines.concat(), sha256(body));

        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(&request));
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [day, self.region, self.service, "aws4_request"] {
            key = keyed(&key, part);
        }
        let signature = hex(&keyed(&key, &text));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
            self.access_key
        );
        added.push(("authorization", authorization));
        added
    }
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of Amazon's published test suite (aws-sig-v4-test-suite): its keys, its moment, its host.
    fn signature(method: &Method, path: &str, headers: &[(&str, String)], body: &str) -> String {
        let signer = Signer {
            access_key: "AKIDEXAMPLE",
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            session_token: None,
            region: "us-east-1",
            service: "service",
        };
        let url = Url::parse(&format!("https://example.amazonaws.com{path}")).unwrap();
        let time = "2015-08-30T12:36:00Z".parse().unwrap();
        let added = signer.sign(method, &url, headers, body, time);
        assert_eq!(added[0], ("x-amz-date", "20150830T123600Z".to_owned()));
        let authorization = &added.last().unwrap().1;
        assert!(
            authorization
                .starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, ")
        );
        authorization.rsplit('=').next().unwrap().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_published_test_suite() {
        let form = ("content-type", "application/x-www-form-urlencoded".to_owned());
        for (name, found, expected) in [
            (
                "get-vanilla",
                signature(&Method::GET, "/", &[], ""),
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                signature(&Method::GET, "/?Param2=value2&Param1=value1", &[], ""),
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-vanilla",
                signature(&Method::POST, "/", &[], ""),
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                signature(&Method::POST, "/", &[form], "Param1=value1"),
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            assert_eq!(found, expected, "{name}");
        }
    }
}
