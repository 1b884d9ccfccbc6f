//! How a download is watched.

/// Hears what [`ModelStore::pull`](crate::ModelStore::pull) does, for a
/// progress bar or a log.
pub trait Progress: Sync {
    /// A source is tried, for example `hub (https://huggingface.co)`.
    fn source(&self, name: &str);
    /// A file begins, or begins again from another place. `done_bytes` of it
    /// are here already; without `total_bytes` its length is not known.
    fn begin(&self, file: &str, total_bytes: Option<u64>, done_bytes: u64);
    /// More bytes of the file have arrived.
    fn advance(&self, bytes: u64);
    /// The file is complete and its checksum right.
    fn finish(&self, file: &str);
    /// Something worth knowing.
    fn note(&self, message: &str);
}

/// A [`Progress`] that says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn source(&self, _: &str) {}
    fn begin(&self, _: &str, _: Option<u64>, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self, _: &str) {}
    fn note(&self, _: &str) {}
}
