//! What fails in passing: worth the same request again, and when.

use std::error::Error;
use std::io;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::Resolution;

/// Whether the same request may well succeed in a moment. A name that does not exist, a certificate that is not trusted and
/// a handshake that was answered with something else than TLS stay as they are.
pub fn is_passing(error: &reqwest::Error) -> bool {
    let mut current: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = current {
        let tls = cause.downcast_ref::<rustls::Error>();
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::InvalidMessage(_))) {
            return false;
        }
        if let Some(resolution) = cause.downcast_ref::<Resolution>() {
            return resolution.passing;
        }
        current = next_cause(cause);
    }
    !error.is_builder() && !error.is_redirect()
}

/// Whether a server that answers with this status may well answer with another one in a moment.
pub fn is_passing_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(date.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(Duration::ZERO))
}

/// The cause of an error. An I/O error passes over the error it was made of, which is the one that says what it is.
pub(crate) fn next_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_understood_in_both_forms() {
        let parse = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(parse("3"), Some(Duration::from_secs(3)));
        assert_eq!(parse("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        let later = jiff::Timestamp::now() + Duration::from_secs(100);
        let date = later.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let pause = parse(&date).unwrap();
        assert!((90..=100).contains(&pause.as_secs()), "{date}: {pause:?}");
        assert_eq!(parse("soon"), None);
    }
}
