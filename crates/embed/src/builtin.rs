//! The model that is compiled in: static, small, there without any download.
//!
//! Its files are in `builtin/` beside the sources, with its recipe and licence.
//! They were made by `cairn model distill`. The manifest knows it like the
//! others; the feature `builtin-model` leaves it out.

/// The name of the model that is compiled in, unless the feature
/// `builtin-model` is off.
///
/// A collection remembers the name of its model, so other weights would get
/// another name.
pub const BUILTIN_MODEL: &str = "cairn/minilm-static";

/// The files of a model that is compiled in, by their paths in its folder.
pub(crate) type Files = [(&'static str, &'static [u8])];

/// The files of [`BUILTIN_MODEL`]; none if it was left out.
pub(crate) const FILES: &Files = files();

#[cfg(feature = "builtin-model")]
const fn files() -> &'static Files {
    &[
        ("README.md", include_bytes!("../builtin/minilm-static/README.md")),
        ("config.json", include_bytes!("../builtin/minilm-static/config.json")),
        ("tokenizer.json", include_bytes!("../builtin/minilm-static/tokenizer.json")),
        ("model.safetensors", include_bytes!("../builtin/minilm-static/model.safetensors")),
    ]
}

#[cfg(not(feature = "builtin-model"))]
const fn files() -> &'static Files {
    &[]
}

/// A file of the model that is compiled in.
pub(crate) fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}
