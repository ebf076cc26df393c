//! The client against real registries (Debian's `docker-registry`), and against a fake one that fails in ways a real one
//! cannot be made to fail. Images are cross-checked with `skopeo`. A program that is missing fails the test that needs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::format_push_string, reason = "short texts")]

mod at_rest;
mod auth;
mod copy;
mod docker_registry;
mod fake_registry;
mod faults;
mod images;
mod outputs;
mod proxies;
mod pull;
mod push;
mod scene;
mod soak;
mod streams;
mod tls;
mod token_service;
mod uploads;
