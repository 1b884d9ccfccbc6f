//! Doors for the fuzz targets of `tests/fuzz` to what is private otherwise. They
//! are no part of the interface and may change at any time.

use serde_json::{Map, Value};

use crate::path::Path;

/// The path written anew from what was read of it.
pub fn written_anew(path: &Path) -> Path {
    path.anew()
}

/// Whether two paths reach the same, however they are written.
pub fn reach_the_same(path: &Path, other: &Path) -> bool {
    path.reaches_as(other)
}

/// Removes what the path reaches; true if there was something.
pub fn remove(path: &Path, object: &mut Map<String, Value>) -> bool {
    path.remove(object)
}

/// Merges a payload into each object the path names.
pub fn merge(path: &Path, object: &mut Map<String, Value>, payload: &Map<String, Value>) {
    path.merge(object, payload);
}

/// Levels that a payload comes to lie below the top when it is merged at the path.
pub fn levels(path: &Path) -> usize {
    path.levels()
}
