//! What the user sees of a build: lines on standard error in the forms Kaniko's users know, and the output of commands
//! as it is, on the stream it was written to.

mod console;
mod line;
pub(crate) mod processor;
mod timings;

pub(crate) use console::Console;
pub(crate) use line::{Format, LogOptions, Verbosity};
pub(crate) use timings::Timings;
