//! What wrk is told to send.

use std::io::{self, Write};
use std::path::Path;
use std::{fs, iter};

/// Writes a script of wrk that posts these bodies of JSON in turn.
///
/// # Errors
/// If the file cannot be written.
pub fn write_script(path: &Path, bodies: impl IntoIterator<Item = String>) -> io::Result<()> {
    let head = "wrk.method = \"POST\"\nwrk.headers[\"Content-Type\"] = \"application/json\"\nbodies = {\n";
    let tail = "}\nat = 0\nrequests = {}\ninit = function()\n  for i, body in ipairs(bodies) do requests[i] = \
                wrk.format(nil, nil, nil, body) end\nend\nrequest = function()\n  at = at % #requests + 1\n  \
                return requests[at]\nend\n";
    // A long bracket takes all but its own end.
    let bodies = bodies.into_iter().map(|body| format!("[==[{}]==],\n", body.replace("]==]", "]= =]")));
    let mut script = io::BufWriter::new(fs::File::create(path)?);
    for part in iter::once(head.to_owned()).chain(bodies).chain([tail.to_owned()]) {
        script.write_all(part.as_bytes())?;
    }
    script.flush()
}
