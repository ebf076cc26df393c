//! What the benches measure on, and what they measure against.
//!
//! A bench that fails panics: there is nobody to hand an error to.

#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "see above")]

pub mod floor;
pub mod ground;
pub mod tree;
