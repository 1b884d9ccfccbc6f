//! PDF: the text of each page.

use std::sync::mpsc;
use std::time::Duration;

use super::{Parsed, Result, Unreadable, chars};
use crate::document::Format;

/// A file that takes longer is given up. Its thread ends by itself.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) fn pdf(bytes: &[u8]) -> Result<Parsed> {
    let (sender, receiver) = mpsc::channel();
    let bytes = bytes.to_vec();
    // Broken files make the reader panic, and some keep it busy for ever.
    std::thread::spawn(move || {
        let read = std::panic::catch_unwind(|| pdf_extract::extract_text_from_mem_by_pages(&bytes));
        let _ = sender.send(match read {
            Ok(Ok(pages)) => Ok(pages),
            Ok(Err(error)) => Err(reason(&error.to_string())),
            Err(_) => Err("it is broken in a way that its reader does not know".to_owned()),
        });
    });
    let pages = receiver.recv_timeout(PATIENCE);
    let pages = pages.map_err(|_| Unreadable::new("it took too long to read"))?.map_err(Unreadable::new)?;
    let mut parsed = Parsed { format: Format::Text, ..Parsed::default() };
    for page in pages {
        if !parsed.text.is_empty() {
            parsed.text.push_str("\n\n");
        }
        parsed.pages.push(chars(&parsed.text));
        parsed.text.push_str(page.trim());
    }
    if parsed.text.trim().is_empty() {
        return Err(Unreadable::new("its pages hold no text, only pictures: put it through OCR first"));
    }
    Ok(parsed)
}

fn reason(error: &str) -> String {
    let lower = error.to_ascii_lowercase();
    if lower.contains("encrypt") || lower.contains("password") || lower.contains("decrypt") {
        return "it is encrypted: save it without a password first".to_owned();
    }
    format!("it cannot be read as PDF: {error}")
}
