//! Formats that have a structure of their own.

use super::parse;
use super::tests::zipped;

#[test]
fn headings_are_what_the_styles_say_in_whatever_language() {
    let styles = r#"<w:styles xmlns:w="w">
        <w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>
        <w:style w:styleId="Kapitel"><w:name w:val="Kapitel"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>
        <w:style w:styleId="Unterkapitel"><w:name w:val="Unterkapitel"/><w:basedOn w:val="berschrift2"/></w:style>
        <w:style w:styleId="Kreis"><w:name w:val="Kreis"/><w:basedOn w:val="Kreis"/></w:style></w:styles>"#;
    let paragraph = |style: &str, text: &str| {
        format!(r#"<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"#)
    };
    let body = format!(
        r#"<w:document xmlns:w="w"><w:body>{}{}{}{}<w:p><w:pPr><w:outlineLvl w:val="2"/></w:pPr><w:r>
        <w:t>Tief</w:t></w:r></w:p></w:body></w:document>"#,
        paragraph("Kapitel", "Steine"),
        paragraph("Unterkapitel", "Kiesel"),
        paragraph("berschrift2", "Felsen"),
        paragraph("Kreis", "kein Titel")
    );
    let parts = [("word/styles.xml", styles.as_bytes()), ("word/document.xml", body.as_bytes())];
    let parsed = parse("a.docx", &zipped(&parts)).unwrap();
    assert_eq!(parsed.text, "# Steine\n\n## Kiesel\n\n## Felsen\n\nkein Titel\n\n### Tief");
}

#[test]
fn a_table_in_a_cell_stays_in_its_cell() {
    let cell = |inner: &str| format!("<w:tc><w:p><w:r><w:t>{inner}</w:t></w:r></w:p></w:tc>");
    let inner = format!("<w:tbl><w:tr>{}{}</w:tr><w:tr>{}</w:tr></w:tbl>", cell("a"), cell("b"), cell("c"));
    let body = format!(
        r#"<w:document xmlns:w="w"><w:body><w:tbl><w:tr>{}<w:tc><w:p><w:r><w:t>holds</w:t></w:r></w:p>{inner}<w:p/></w:tc>{}</w:tr></w:tbl>
        <w:p><w:r><w:t>after</w:t></w:r></w:p></w:body></w:document>"#,
        cell("left"),
        cell("right")
    );
    let parsed = parse("a.docx", &zipped(&[("word/document.xml", body.as_bytes())])).unwrap();
    assert_eq!(parsed.text, "left | holds; a, b; c | right\n\nafter");
}

#[test]
fn slides_come_in_the_order_of_the_presentation() {
    let slide = |text: &str| {
        format!(r#"<p:sld xmlns:a="a" xmlns:p="p"><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>"#)
    };
    let (first, second, stray) = (slide("first"), slide("second"), slide("not shown"));
    let presentation = r#"<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst><p:sldId id="256" r:id="rId7"/>
        <p:sldId id="257" r:id="rId3"/></p:sldIdLst></p:presentation>"#;
    let relations = r#"<Relationships><Relationship Id="rId3" Target="slides/slide1.xml"/>
        <Relationship Id="rId7" Target="/ppt/slides/slide9.xml"/></Relationships>"#;
    let parts = [
        ("ppt/presentation.xml", presentation.as_bytes()),
        ("ppt/_rels/presentation.xml.rels", relations.as_bytes()),
        ("ppt/slides/slide1.xml", second.as_bytes()),
        ("ppt/slides/slide2.xml", stray.as_bytes()),
        ("ppt/slides/slide9.xml", first.as_bytes()),
    ];
    assert_eq!(parse("a.pptx", &zipped(&parts)).unwrap().text, "first\n\nsecond");
}

#[test]
fn rows_of_a_workbook_name_their_columns_under_their_sheet() {
    let cell = |at: &str, text: &str| format!(r#"<c r="{at}" t="inlineStr"><is><t>{text}</t></is></c>"#);
    let number = |at: &str, value: &str| format!(r#"<c r="{at}"><v>{value}</v></c>"#);
    let sheet = format!(
        r#"<worksheet xmlns="m"><sheetData><row r="1">{}</row><row r="3">{}{}</row><row r="4">{}{}</row>
        <row r="1048576">{}{}</row></sheetData></worksheet>"#,
        cell("A1", "Towns of 2024"),
        cell("A3", "town"),
        cell("B3", "people"),
        cell("A4", "Bern"),
        number("B4", "134000"),
        cell("A1048576", "Chur"),
        number("XFD1048576", "1.5"),
    );
    let workbook = r#"<workbook xmlns="m" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">
        <sheets><sheet name="Swiss towns" sheetId="1" r:id="rId1"/></sheets></workbook>"#;
    let relations = r#"<Relationships><Relationship Id="rId1" Target="worksheets/sheet1.xml"
        Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/></Relationships>"#;
    let package = r#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship
        Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
        Target="xl/workbook.xml"/></Relationships>"#;
    let parts = [
        ("_rels/.rels", package.as_bytes()),
        ("xl/workbook.xml", workbook.as_bytes()),
        ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
    ];
    let parsed = parse("a.xlsx", &zipped(&parts)).unwrap();
    assert_eq!(
        parsed.text,
        "# Swiss towns\n\nTowns of 2024\n\ntown: Bern; people: 134000\n\ntown: Chur; 1.5"
    );
}

#[test]
fn json_becomes_lines_that_name_their_keys_under_their_path() {
    let json = r##"{"title": "Hosts", "port": 80, "tags": ["a", "b"], "none": null, "note": "# no heading",
        "servers": {"eu": {"name": "Alp", "up": true}}, "users": [{"name": "Eva", "age": 3}, {"name": "Urs"}],
        "grid": [[1, 2], [3]]}"##;
    let parsed = parse("a.json", json.as_bytes()).unwrap();
    assert_eq!(parsed.title, "Hosts");
    assert_eq!(
        parsed.text,
        "title: Hosts\nport: 80\ntags: a, b\nnote: # no heading\n\n# servers\n\n## servers.eu\n\nname: Alp\nup: true\n\n\
         # users\n\nname: Eva; age: 3\n\nname: Urs\n\n# grid\n\n1, 2\n\n3"
    );
    let lines = parse("a.jsonl", b"{\"a\": 1}\n\n{\"a\": {\"b\": 2}}\n").unwrap();
    assert_eq!(lines.text, "a: 1\n\n# [1]\n\n## [1].a\n\nb: 2");
    assert!(parse("a.jsonl", b"{\"a\": 1}\n{oops\n").unwrap_err().to_string().contains("line 2"));
    let commented = "// ours\n{\"a\": 1}";
    assert_eq!(parse("tsconfig.json", commented.as_bytes()).unwrap().text, commented);
    let deep = "[".repeat(100_000);
    assert_eq!(parse("a.json", deep.as_bytes()).unwrap().text, deep);
}
