//! A small text to a web address.

use std::sync::atomic::AtomicBool;

use reqwest::header::CONTENT_TYPE;
use url::Url;
use zuwai_registry::TransportOptions;

use super::{WebError, client, repeat, well};
use crate::give_up::unless_cancelled;

/// PUTs the text as `text/plain`, as Kaniko does: addresses that are signed beforehand (S3, Google's and Azure's storage)
/// take it so. Nothing of it, redirected or not, goes over a connection that is not encrypted.
pub(crate) fn put(url: &Url, text: &str, transport: &TransportOptions, cancelled: &AtomicBool) -> Result<(), WebError> {
    let (url, text, transport) = (url.clone(), text.to_owned(), transport.clone());
    let put = unless_cancelled(cancelled, move |cancelled| {
        let client = client(&url, &transport, |builder| builder.https_only(true))?;
        repeat(cancelled, || {
            let request = client.put(url.clone()).header(CONTENT_TYPE, "text/plain").body(text.clone());
            well("send to", &url, request.send()).map(drop)
        })
    });
    put.unwrap_or(Err(WebError::Cancelled))
}
