//! Web pages, and books made of them.

use std::collections::HashMap;

use htmd::element_handler::{HandlerResult, Handlers};
use htmd::{Element, HtmlToMarkdown};
use percent_encoding::percent_decode_str;
use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};

use super::office::{attribute, unreadable};
use super::text::first_heading;
use super::{Packed, Parsed, Result, Unreadable};
use crate::document::Format;

/// What is not for reading.
const SKIPPED: [&str; 12] = [
    "script", "style", "noscript", "template", "svg", "nav", "iframe", "object", "form", "button", "head",
    "img",
];

pub(super) fn page(html: &str) -> Result<Parsed> {
    let text = converted(html)?;
    let title = titled(html).unwrap_or_else(|| first_heading(&text));
    Ok(Parsed { title, text, format: Format::Markdown, pages: Vec::new() })
}

fn converted(html: &str) -> Result<String> {
    let converter =
        HtmlToMarkdown::builder().skip_tags(SKIPPED.to_vec()).add_handler(vec!["a"], link).build();
    let text = converter.convert(html);
    let text = text.map_err(|error| Unreadable::new(format!("its HTML cannot be read: {error}")))?;
    Ok(text.trim().to_owned())
}

/// A link; of one that runs something only the words, for who shows an answer may make
/// links of it again.
fn link(handlers: &dyn Handlers, element: Element<'_>) -> Option<HandlerResult> {
    let runs =
        element.attrs.iter().any(|attribute| &*attribute.name.local == "href" && runs(&attribute.value));
    if runs { Some(handlers.walk_children(element.node)) } else { handlers.fallback(element) }
}

/// Whether an address is no place but something to run, as a browser reads it.
fn runs(address: &str) -> bool {
    let seen = address.chars().filter(|one| !one.is_whitespace() && !one.is_control());
    let begin: String = seen.take(11).collect::<String>().to_ascii_lowercase();
    ["javascript:", "vbscript:", "data:"].iter().any(|scheme| begin.starts_with(scheme))
}

/// What stands between the tags of the title.
fn titled(html: &str) -> Option<String> {
    // Lower case only where it is ASCII, so that places stay the same.
    let lower = html.to_ascii_lowercase();
    let from = lower.find("<title")?;
    let from = from + lower[from..].find('>')? + 1;
    let title = &html[from..from + lower[from..].find("</title")?];
    let title = quick_xml::escape::unescape(title).map_or_else(|_| title.to_owned(), Into::into);
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

/// An EPUB: the pages that its spine names, one after the other.
pub(super) fn book(bytes: &[u8]) -> Result<Parsed> {
    let mut packed = Packed::open(bytes)?;
    let container = packed.xml("META-INF/container.xml")?;
    let package_at = first_attribute(&container, "rootfile", "full-path")?
        .ok_or_else(|| Unreadable::new("its container names no book"))?;
    let package = packed.xml(&package_at)?;
    let Package { title, hrefs, spine } = Package::read(&package)?;
    let folder = package_at.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut texts = Vec::new();
    for href in spine.iter().filter_map(|id| hrefs.get(id)) {
        let name = percent_decode_str(href).decode_utf8_lossy();
        if let Some(bytes) = packed.part(&format!("{folder}{name}"))? {
            texts.push(converted(&super::text::decoded(&bytes)?)?);
        }
    }
    texts.retain(|text| !text.is_empty());
    Ok(Parsed { title, text: texts.join("\n\n"), format: Format::Markdown, pages: Vec::new() })
}

/// What a book's package file says.
#[derive(Default)]
struct Package {
    title: String,
    /// By id.
    hrefs: HashMap<String, String>,
    spine: Vec<String>,
}

impl Package {
    fn read(xml: &str) -> Result<Self> {
        let (mut package, mut reader, mut in_title) = (Self::default(), Reader::from_str(xml), false);
        loop {
            match reader.read_event().map_err(unreadable)? {
                Event::Start(tag) | Event::Empty(tag) => match tag.local_name().as_ref() {
                    "title" => in_title = package.title.is_empty(),
                    "item" => {
                        if let (Some(id), Some(href)) = (attribute(&tag, "id")?, attribute(&tag, "href")?) {
                            package.hrefs.insert(id, href);
                        }
                    }
                    "itemref" => package.spine.extend(attribute(&tag, "idref")?),
                    _ => {}
                },
                Event::Text(text) if in_title => {
                    package.title.push_str(&text.xml_content(XmlVersion::Implicit1_0));
                }
                Event::GeneralRef(entity) if in_title => {
                    let name = entity.xml_content(XmlVersion::Implicit1_0);
                    let text =
                        quick_xml::escape::unescape(&format!("&{name};")).map_err(unreadable)?.into_owned();
                    package.title.push_str(&text);
                }
                Event::End(_) => in_title = false,
                Event::Eof => return Ok(package),
                _ => {}
            }
        }
    }
}

fn first_attribute(xml: &str, tag: &str, name: &str) -> Result<Option<String>> {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(unreadable)? {
            Event::Start(found) | Event::Empty(found) if found.local_name().as_ref() == tag => {
                return attribute(&found, name);
            }
            Event::Eof => return Ok(None),
            _ => {}
        }
    }
}
