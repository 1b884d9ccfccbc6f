//! Documents of a corpus as files of four types.
//!
//! What each type can hold is written into it: a title and a paragraph. A page of
//! the web has a menu and a script besides, a PDF has lines of its own and pages,
//! in the encoding of western languages.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A type of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Markdown,
    Html,
    Docx,
    Pdf,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Markdown, Self::Html, Self::Docx, Self::Pdf];

    /// How names of such files end.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Self::Markdown => "md",
            Self::Html => "html",
            Self::Docx => "docx",
            Self::Pdf => "pdf",
        }
    }

    /// The file of a document.
    pub(crate) fn file(self, title: &str, text: &str) -> zip::result::ZipResult<Vec<u8>> {
        Ok(match self {
            Self::Markdown if title.is_empty() => format!("{text}\n").into_bytes(),
            Self::Markdown => format!("# {title}\n\n{text}\n").into_bytes(),
            Self::Html => page(title, text).into_bytes(),
            Self::Docx => docx(title, text)?,
            Self::Pdf => pdf(title, text),
        })
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn page(title: &str, text: &str) -> String {
    let (title, text) = (escaped(title), escaped(text));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>p {{ margin: 1em }}</style></head>\n<body><nav><a href=\"/\">Home</a></nav>\n\
         <h1>{title}</h1>\n<p>{text}</p>\n<script>document.title += ' read';</script></body></html>\n"
    )
}

fn docx(title: &str, text: &str) -> zip::result::ZipResult<Vec<u8>> {
    let paragraph = |style: &str, text: &str| {
        format!(r#"<w:p>{style}<w:r><w:t xml:space="preserve">{}</w:t></w:r></w:p>"#, escaped(text))
    };
    let heading = r#"<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>"#;
    let space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main";
    let title = if title.is_empty() { String::new() } else { paragraph(heading, title) };
    let document = format!(
        r#"<w:document xmlns:w="{space}"><w:body>{title}{}</w:body></w:document>"#,
        paragraph("", text)
    );
    let styles = format!(
        r#"<w:styles xmlns:w="{space}"><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style></w:styles>"#
    );
    let office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let package = "http://schemas.openxmlformats.org/package/2006";
    let kinds = "application/vnd.openxmlformats-officedocument.wordprocessingml";
    let types = format!(
        r#"<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType="{kinds}.document.main+xml"/><Override PartName="/word/styles.xml" ContentType="{kinds}.styles+xml"/></Types>"#
    );
    let related = |kind: &str, target: &str| {
        format!(
            r#"<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{office}/{kind}" Target="{target}"/></Relationships>"#
        )
    };
    let parts = [
        ("[Content_Types].xml", types),
        ("_rels/.rels", related("officeDocument", "word/document.xml")),
        ("word/document.xml", document),
        ("word/styles.xml", styles),
        ("word/_rels/document.xml.rels", related("styles", "styles.xml")),
    ];
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, xml) in parts {
        archive.start_file(name, SimpleFileOptions::default())?;
        write!(archive, "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n{xml}")?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Characters of a line and lines of a page.
const LINE: usize = 88;
const LINES: usize = 44;

/// Pages of lines in Helvetica.
fn pdf(title: &str, text: &str) -> Vec<u8> {
    let mut lines = wrapped(title);
    lines.extend(wrapped(text));
    let pages: Vec<&[String]> = lines.chunks(LINES).collect();
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects: Vec<Vec<u8>> = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()).into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
    ];
    for (number, lines) in pages.iter().enumerate() {
        let content = 5 + 2 * number;
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {content} 0 R \
                 /Resources << /Font << /F1 3 0 R >> >> >>"
            )
            .into_bytes(),
        );
        let mut shown = "BT /F1 11 Tf 15 TL 60 780 Td\n".to_owned();
        for line in *lines {
            let _ = writeln!(shown, "({}) Tj T*", in_pdf(line));
        }
        shown.push_str("ET");
        objects.push(format!("<< /Length {} >>\nstream\n{shown}\nendstream", shown.len()).into_bytes());
    }
    let (mut pdf, mut places) = (b"%PDF-1.4\n".to_vec(), Vec::new());
    for (number, object) in (1..).zip(&objects) {
        places.push(pdf.len());
        pdf.extend(format!("{number} 0 obj\n").into_bytes());
        pdf.extend(object);
        pdf.extend(b"\nendobj\n");
    }
    let (table, size) = (pdf.len(), objects.len() + 1);
    pdf.extend(format!("xref\n0 {size}\n0000000000 65535 f \n").into_bytes());
    for place in places {
        pdf.extend(format!("{place:010} 00000 n \n").into_bytes());
    }
    pdf.extend(format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n").into_bytes());
    pdf
}

/// Lines that end between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < LINE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A string of a content stream, all ASCII: other characters by their numbers.
fn in_pdf(line: &str) -> String {
    let mut shown = String::new();
    for letter in line.chars() {
        match western(letter) {
            byte @ (b'(' | b')' | b'\\') => shown.extend(['\\', char::from(byte)]),
            byte if byte.is_ascii_graphic() || byte == b' ' => shown.push(char::from(byte)),
            byte => {
                let _ = write!(shown, "\\{byte:03o}");
            }
        }
    }
    shown
}

/// The number of a character in the encoding of western languages; a question mark
/// for what it lacks.
fn western(letter: char) -> u8 {
    const FROM_128: [char; 32] = [
        '€', '?', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '?', 'Ž', '?', '?', '‘', '’', '“',
        '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '?', 'ž', 'Ÿ',
    ];
    match u8::try_from(letter) {
        Ok(byte) if !(128..160).contains(&byte) => byte,
        _ => (128..).zip(FROM_128).find(|(_, known)| *known == letter).map_or(b'?', |(byte, _)| byte),
    }
}

#[cfg(test)]
mod tests {
    use cairn_rag::parse::parse;

    use super::*;

    #[test]
    fn what_is_written_is_read_again_word_by_word() {
        let title = "Wings & flaps";
        let text = "A (thin) wing at M < 1 is \"swept\" – see café, 5 € m. ".repeat(90);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for kind in Kind::ALL {
            let file = kind.file(title, text.trim()).unwrap();
            let parsed = parse(&format!("a.{}", kind.end()), &file).unwrap();
            let read = parsed.text.replace('\\', "");
            let read = if kind == Kind::Pdf || kind == Kind::Markdown { &parsed.text } else { &read };
            let all = words(&format!("{title} {text}"));
            let got: Vec<String> = words(read).into_iter().filter(|word| word != "#").collect();
            assert_eq!(got, all, "{kind:?}");
            assert_eq!(parsed.pages.len(), if kind == Kind::Pdf { 2 } else { 0 }, "{kind:?}");
        }
    }

    #[test]
    fn what_an_encoding_lacks_is_a_question_mark() {
        assert_eq!([western('é'), western('–'), western('Đ'), western('\u{81}')], [0xe9, 0x96, b'?', b'?']);
        assert_eq!(in_pdf("a(b) é"), "a\\(b\\) \\351");
    }
}
