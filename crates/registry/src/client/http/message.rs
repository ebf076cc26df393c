//! What registries and token services say with an error, in one line for a terminal.

use reqwest::StatusCode;

/// What a registry said with an error, in one line.
pub(crate) fn message_of(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else {
        let text = String::from_utf8_lossy(body);
        let line = text.trim().lines().next().unwrap_or_default().trim().to_owned();
        // A web page says nothing to a terminal.
        return if line.starts_with('<') { String::new() } else { shortened(&line) };
    };
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let errors = value["errors"].as_array().into_iter().flatten().map(|error| {
        // A detail that is no text is for programs.
        let parts = [text(&error["code"]), text(&error["message"]), text(&error["detail"])];
        parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
    });
    let errors: Vec<String> = errors.filter(|error| !error.is_empty()).collect();
    if !errors.is_empty() {
        return shortened(&errors.join("; "));
    }
    let plain = ["error", "error_description", "message", "details", "detail"].map(|key| text(&value[key]));
    shortened(&plain.into_iter().flatten().collect::<Vec<_>>().join(": "))
}

fn shortened(text: &str) -> String {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match clean.char_indices().nth(400) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

/// Number and words.
pub(crate) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_and_token_services_say_becomes_one_line() {
        for (body, message) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied","detail":[{"Type":"r"}]}]}"#,
                "DENIED: requested access to the resource is denied",
            ),
            (r#"{"errors":[{"code":"A","message":"b","detail":{}},{"code":"C"}]}"#, "A: b; C"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_grant","error_description":"expired"}"#, "invalid_grant: expired"),
            ("too many\nrequests", "too many"),
            ("<html><body>502</body></html>", ""),
            ("", ""),
            ("{}", ""),
        ] {
            assert_eq!(message_of(body.as_bytes()), message);
        }
        assert!(message_of("x".repeat(5000).as_bytes()).chars().count() < 500);
        assert_eq!(message_of(b"a\x1b[31mb"), "a [31mb");
    }
}
