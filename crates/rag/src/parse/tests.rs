use std::io::Write;

use super::*;

pub(super) fn zipped(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn the_text_of_text_is_the_file_letter_by_letter() {
    let parsed = parse("a.md", "\u{feff}# Größe 🪨\n\n* one\n".as_bytes()).unwrap();
    assert_eq!((parsed.text.as_str(), parsed.title.as_str()), ("# Größe 🪨\n\n* one\n", "Größe 🪨"));
    assert_eq!(parse("a.rs", b"fn main() {}\n").unwrap().text, "fn main() {}\n");
}

#[test]
fn other_encodings_are_recognized() {
    let utf16: Vec<u8> = "\u{feff}Straße".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(parse("a.txt", &utf16).unwrap().text, "Straße");
    let latin = b"Die Stra\xdfe f\xfchrt \xfcber die Br\xfccke nach M\xfcnchen.";
    assert_eq!(parse("a.txt", latin).unwrap().text, "Die Straße führt über die Brücke nach München.");
    assert!(parse("a.md", b"\x7fELF\0\0\0\x01").unwrap_err().to_string().contains("not text"));
    assert!(parse("a.txt", b" \n ").unwrap_err().to_string().contains("no text"));
}

#[test]
fn a_web_page_gives_its_words_and_no_script() {
    let html = "<html><head><title>Cairns</title><style>p{}</style></head><body><nav>Home</nav>\
        <h1>Stones</h1><script>alert('no')</script><p>A pile &amp; a <b>mark</b>.</p>\
        <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></body></html>";
    let parsed = parse("a.html", html.as_bytes()).unwrap();
    assert_eq!(parsed.title, "Cairns");
    assert!(parsed.text.contains("# Stones") && parsed.text.contains("A pile & a"), "{}", parsed.text);
    for gone in ["alert", "Home", "p{}"] {
        assert!(!parsed.text.contains(gone), "{}", parsed.text);
    }
}

#[test]
fn links_that_run_something_are_words_and_others_stay() {
    let html = "<p><a href=\"java\nscript:steal()\">one</a> <a href=' JavaScript:x'>two</a> \
        <a href='data:text/html,x'>three</a> <a href='https://example.org/javascript:'>four</a></p>";
    let text = parse("a.html", html.as_bytes()).unwrap().text;
    assert_eq!(text, "one two three [four](https://example.org/javascript:)");
}

#[test]
fn a_word_document_keeps_headings_paragraphs_and_tables() {
    let body = r#"<w:document xmlns:w="w"><w:body>
        <w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Backups</w:t></w:r></w:p>
        <w:p><w:r><w:t>Copied to </w:t></w:r><w:r><w:t xml:space="preserve">tape &amp; disk.</w:t></w:r></w:p>
        <w:tbl><w:tr><w:tc><w:p><w:r><w:t>Day</w:t></w:r></w:p></w:tc>
        <w:tc><w:p><w:r><w:t>Friday</w:t></w:r></w:p></w:tc></w:tr></w:tbl></w:body></w:document>"#;
    let parsed = parse("a.docx", &zipped(&[("word/document.xml", body.as_bytes())])).unwrap();
    assert_eq!(parsed.text, "# Backups\n\nCopied to tape & disk.\n\nDay | Friday");
    assert_eq!(parsed.title, "Backups");
}

#[test]
fn slides_are_pages_in_the_order_of_their_numbers() {
    let slide = |text: &str| {
        format!(r#"<p:sld xmlns:a="a" xmlns:p="p"><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>"#)
    };
    let (first, second) = (slide("one"), slide("two"));
    let parts = [("ppt/slides/slide10.xml", second.as_bytes()), ("ppt/slides/slide2.xml", first.as_bytes())];
    let parsed = parse("a.pptx", &zipped(&parts)).unwrap();
    assert_eq!((parsed.text.as_str(), parsed.pages.as_slice()), ("one\n\ntwo", [0, 5].as_slice()));
}

#[test]
fn a_book_is_read_in_the_order_of_its_spine() {
    let container = r#"<container><rootfiles><rootfile full-path="in/b.opf"/></rootfiles></container>"#;
    let package = r#"<package xmlns:dc="d"><metadata><dc:title>Stones</dc:title></metadata><manifest>
        <item id="x" href="x.xhtml"/><item id="y" href="y%20y.xhtml"/></manifest>
        <spine><itemref idref="y"/><itemref idref="x"/></spine></package>"#;
    let parts = [
        ("META-INF/container.xml", container.as_bytes()),
        ("in/b.opf", package.as_bytes()),
        ("in/x.xhtml", b"<html><body><p>second</p></body></html>".as_slice()),
        ("in/y y.xhtml", b"<html><body><h1>First</h1></body></html>".as_slice()),
    ];
    let parsed = parse("a.epub", &zipped(&parts)).unwrap();
    assert_eq!((parsed.text.as_str(), parsed.title.as_str()), ("# First\n\nsecond", "Stones"));
}

#[test]
fn rows_of_a_table_name_their_columns() {
    let parsed = parse("a.csv", b"city,people\nBern,\"134,000\"\n,\nChur,38000\n").unwrap();
    assert_eq!(parsed.text, "city: Bern; people: 134,000\n\ncity: Chur; people: 38000");
    assert_eq!(parse("a.tsv", b"a\tb\n1\t2\n").unwrap().text, "a: 1; b: 2");
}

#[test]
fn a_pdf_gives_the_text_of_each_page() {
    let parsed = parse("a.pdf", &two_pages()).unwrap();
    assert_eq!(parsed.pages.len(), 2);
    let text: Vec<char> = parsed.text.chars().collect();
    let page = |from: usize| text[from..].iter().collect::<String>();
    assert!(page(0).starts_with("First stone"), "{:?}", parsed.text);
    assert!(page(parsed.pages[1]).starts_with("Second stone"), "{:?}", parsed.text);
}

/// A PDF as small as they come.
fn two_pages() -> Vec<u8> {
    let stream = |text: &str| format!("BT /F1 24 Tf 72 700 Td ({text}) Tj ET");
    let page = |content: usize| {
        format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R /Resources << /Font << /F1 7 0 R >> >> >>"
        )
    };
    let content =
        |text: &str| format!("<< /Length {} >>\nstream\n{}\nendstream", stream(text).len(), stream(text));
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>".to_owned(),
        page(5),
        page(6),
        content("First stone"),
        content("Second stone"),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    let (mut pdf, mut places) = ("%PDF-1.4\n".to_owned(), Vec::new());
    for (number, object) in (1..).zip(&objects) {
        places.push(pdf.len());
        pdf.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let table = pdf.len();
    pdf.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1));
    places.iter().for_each(|place| pdf.push_str(&format!("{place:010} 00000 n \n")));
    let size = objects.len() + 1;
    pdf.push_str(&format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"));
    pdf.into_bytes()
}

#[test]
fn what_is_broken_says_so() {
    let mut cut = two_pages();
    cut.truncate(300);
    for (name, bytes) in [
        ("a.pdf", cut),
        ("a.pdf", b"no pdf at all".to_vec()),
        ("a.docx", b"no archive".to_vec()),
        ("a.docx", zipped(&[("other.xml", b"<a/>")])),
        ("a.docx", zipped(&[("word/document.xml", b"<w:p><w:t>unclosed".as_slice())])),
        ("a.pptx", zipped(&[("ppt/other.xml", b"<a/>")])),
        ("a.epub", zipped(&[("META-INF/container.xml", b"<container/>")])),
    ] {
        let error = parse(name, &bytes).expect_err(name).to_string();
        assert!(error.len() > 10, "{name}: {error}");
    }
}

#[test]
fn a_packed_file_that_grows_without_end_is_left() {
    // A quarter of a gigabyte and one byte of spaces.
    let bomb = zipped(&[("word/document.xml", &vec![b' '; MAX_UNPACKED_BYTES as usize + 1])]);
    assert!(bomb.len() < 1 << 20);
    assert!(parse("a.docx", &bomb).unwrap_err().to_string().contains("unpacks to more than"));
}
