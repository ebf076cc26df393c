//! The law of keys, over generated pairs: what can change a layer changes its key, what cannot does not, and no two
//! different lists of inputs have the same key.
//!
//! The tests walk at random: a step changes one thing of a whole build (`build`) or of a context (`tree`), and says whether
//! a layer could differ for it. What decides the layers is also written down as text, apart from the hashing, so that every
//! key that was ever seen can be held against what it stood for.

#![allow(clippy::unwrap_used)]

mod build;
mod pairs;
mod tree;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use zuwai_registry::{Digest, TransportOptions};

use super::key::Key;
use super::remote::Remotes;
use crate::request::GitOptions;

/// Nobody to ask: what is written down is all there is.
fn with_remotes<T>(work: impl FnOnce(&Remotes<'_>) -> T) -> T {
    work(&Remotes {
        git: &GitOptions::default(),
        transport: &TransportOptions::default(),
        scratch: PathBuf::new(),
        cancelled: &AtomicBool::new(false),
        told: Mutex::default(),
    })
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % limit
    }

    /// Short texts of few letters: boundaries between them are what goes wrong.
    fn word(&mut self) -> String {
        (0..self.below(4)).map(|_| ['a', 'b', '=', '/', ' ', '\0'][self.below(6)]).collect()
    }

    fn name(&mut self) -> String {
        (0..=self.below(2)).map(|_| ['a', 'b', 'c'][self.below(3)]).collect()
    }
}

/// What became of a step of the walk.
enum Step {
    /// It changed what a layer is made of.
    Decides,
    /// It changed something else.
    Idle,
}

/// Every key that was seen, and what it stood for.
#[derive(Default)]
struct Seen(HashMap<Key, u64>);

impl Seen {
    fn check(&mut self, key: Key, decision: &str) {
        // Half of a hash of another kind is enough to tell texts apart here, and keeps the table small.
        let text = Digest::of(decision.as_bytes());
        let text = u64::from_str_radix(&text.hex()[..16], 16).unwrap();
        assert_eq!(*self.0.entry(key).or_insert(text), text, "two lists of inputs have the key {key}: {decision}");
    }
}
