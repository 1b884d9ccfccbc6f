//! Everything that is printed. A reader that stops reading ends the program
//! quietly, as `head` expects.

use std::io::{ErrorKind, Write};

use serde::Serialize;

/// Prints a line.
pub(crate) fn line(text: impl std::fmt::Display) {
    write(format!("{text}\n").as_bytes());
}

/// Prints a value as one line of JSON.
pub(crate) fn json(value: &impl Serialize) {
    let mut bytes = serde_json::to_vec(value).expect("keys are strings and scores finite");
    bytes.push(b'\n');
    write(&bytes);
}

/// Prints raw bytes.
pub(crate) fn write(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        let code = if error.kind() == ErrorKind::BrokenPipe { 0 } else { 1 };
        std::process::exit(code);
    }
}

/// Standard output as something to write to, in large pieces.
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Tells the user something beside the results.
pub(crate) fn note(text: impl std::fmt::Display) {
    // When even this cannot be written there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Tells why the command failed, causes and all.
pub(crate) fn error(error: &(dyn std::error::Error + 'static)) {
    let mut text = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!("\n  because: {cause}"));
        source = cause.source();
    }
    note(text);
}
