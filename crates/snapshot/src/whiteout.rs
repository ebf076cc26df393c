//! Names that say in a layer that something below is gone (OCI image spec, layer.md "Whiteouts").

/// What a whiteout's name begins with.
pub(crate) const PREFIX: &[u8] = b".wh.";
/// The whiteout that empties its folder of what layers below put there.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry's own name means in a layer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    /// An entry.
    Entry,
    /// The entry of this name is gone.
    Gone(&'a [u8]),
    /// Everything in the folder that layers below put there is gone.
    Emptied,
    /// A mark that storage drivers of old left (`.wh..wh.aufs`, `.wh..wh.plnk`): nothing.
    Nothing,
}

/// Reads an entry's own name.
pub(crate) fn meaning(name: &[u8]) -> Meaning<'_> {
    match name.strip_prefix(PREFIX) {
        None => Meaning::Entry,
        Some(_) if name == OPAQUE => Meaning::Emptied,
        Some(gone) if gone.starts_with(PREFIX) => Meaning::Nothing,
        Some(gone) => Meaning::Gone(gone),
    }
}
