//! Text as it stands, in whatever encoding.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

use super::{Parsed, Result, Unreadable};
use crate::document::Format;

/// The text of bytes: by their byte order mark, as UTF-8, or in the encoding that
/// they look most like.
pub(super) fn decoded(bytes: &[u8]) -> Result<String> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return Ok(encoding.decode_without_bom_handling(&bytes[mark..]).0.into_owned());
    }
    if bytes.contains(&0) {
        return Err(Unreadable::new("it is not text: it holds NUL bytes"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(text.to_owned());
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let encoding = detector.guess(None, Utf8Detection::Allow);
    let (text, _, damaged) = encoding.decode(bytes);
    if damaged && encoding == UTF_8 {
        return Err(Unreadable::new("it is in no encoding that is known here, convert it to UTF-8"));
    }
    Ok(text.into_owned())
}

pub(super) fn markdown(bytes: &[u8]) -> Result<Parsed> {
    let text = decoded(bytes)?;
    Ok(Parsed { title: first_heading(&text), text, format: Format::Markdown, pages: Vec::new() })
}

pub(super) fn plain(bytes: &[u8]) -> Result<Parsed> {
    Ok(Parsed { text: decoded(bytes)?, format: Format::Text, ..Parsed::default() })
}

/// The first heading of the highest level; empty if there is none.
pub(super) fn first_heading(text: &str) -> String {
    let heading = text.lines().find_map(|line| line.strip_prefix("# "));
    heading.unwrap_or_default().trim().to_owned()
}
