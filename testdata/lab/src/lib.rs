//! Real servers and containers for the tests and the demo: a registry, a git server, base images made of Debian
//! packages, and a container as unprivileged as a Pod's. Nothing in here knows zuwai's own crates, so that what they get
//! wrong cannot hide in the lab as well; whatever it reads of an image it reads with code of its own.
//!
//! It leaves the machine as it found it: every server, certificate, account and container lives in a scratch folder, under a
//! process that ends with the test. The one thing it installs is Debian packages ([`packages::ensure`]), and the one
//! thing it keeps is the folder `lab` in cargo's target folder: base images and the executor's image, each named by what it was
//! made of.

pub mod authority;
pub mod base;
pub mod cache;
pub mod case;
pub mod command;
pub mod container;
pub mod containerd;
pub mod example;
pub mod executor;
pub mod gate;
pub mod git_server;
pub mod layout;
pub mod meter;
mod nginx;
pub mod oracle;
pub mod packages;
pub mod packing;
pub mod person;
pub mod places;
pub mod registry;
pub mod render;
pub mod seccomp;
pub mod server;
pub mod storage;
pub mod tar;
pub mod tarpit;
pub mod web_server;

pub use authority::Authority;
pub use command::Output;
pub use container::{Capabilities, Container, Engine};
pub use containerd::Containerd;
pub use example::Example;
pub use executor::Executor;
pub use gate::Gate;
pub use git_server::GitServer;
pub use meter::Meter;
pub use person::{Person, Who};
pub use places::Scratch;
pub use registry::Registry;
pub use tarpit::{Stuck, Tarpit};
pub use web_server::{Answer, WebServer};
