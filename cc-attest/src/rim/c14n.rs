//! XML of one profile, read to a tree and written back in its canonical form (Canonical XML 1.1, W3C).
//!
//! What the profile leaves out is refused, so that nothing of it has to be canonicalised: no document type, no
//! processing instruction, no CDATA, no comment, no reference (`&…;`), no carriage return, no attribute of `xml:`.
//! Nor is a character that would have to be escaped. Of the canonical form, that leaves the order of attributes and
//! declarations, quotes, and empty elements; and canonical octets are of the profile themselves.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::refusal::{Code, Refusal};

/// Most bytes of a file.
pub(crate) const MAX_FILE: usize = 256 << 10;
const MAX_DEPTH: usize = 16;
const MAX_NODES: usize = 8_192;
const MAX_ATTRIBUTES: usize = 64;

/// A name: prefix, and what it is called in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) prefix: String,
    pub(crate) local: String,
    /// What the prefix stands for here; empty for none.
    pub(crate) space: String,
}

impl Name {
    pub(crate) fn is(&self, space: &str, local: &str) -> bool {
        self.space == space && self.local == local
    }

    fn written(&self) -> String {
        match self.prefix.is_empty() {
            true => self.local.clone(),
            false => format!("{}:{}", self.prefix, self.local),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Element(Element),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: Name,
    /// Prefixes declared here, sorted, with what they stand for.
    declared: Vec<(String, String)>,
    pub(crate) attributes: Vec<(Name, String)>,
    pub(crate) children: Vec<Node>,
}

impl Element {
    /// Children that are elements; nothing if there is text between them that is not white.
    pub(crate) fn elements(&self) -> Option<Vec<&Element>> {
        let mut elements = Vec::new();
        for child in &self.children {
            match child {
                Node::Element(element) => elements.push(element),
                Node::Text(text) if text.trim_ascii().is_empty() => {}
                Node::Text(_) => return None,
            }
        }
        Some(elements)
    }

    /// The text of an element that holds nothing else.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.children.as_slice() {
            [Node::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// An attribute.
    pub(crate) fn attribute(&self, space: &str, local: &str) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(name, _)| name.is(space, local));
        found.next().map(|(_, value)| value.as_str())
    }

    /// This and all elements below it.
    pub(crate) fn all(&self) -> Vec<&Element> {
        let mut found = vec![self];
        let mut next = 0;
        while let Some(element) = found.get(next).copied() {
            found.extend(element.children.iter().filter_map(|child| match child {
                Node::Element(element) => Some(element),
                Node::Text(_) => None,
            }));
            next += 1;
        }
        found
    }
}

fn foreign(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::RimForeignContent, detail)
}

fn malformed(detail: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Malformed, format!("not XML: {detail}"))
}

/// Reads a document of the profile.
pub(crate) fn parse(bytes: &[u8]) -> Result<Element, Refusal> {
    if bytes.len() > MAX_FILE {
        let detail = format!("a reference file of {} bytes, at most {MAX_FILE}", bytes.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    let text = std::str::from_utf8(bytes).map_err(malformed)?;
    if text.chars().any(|c| (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}') {
        return Err(foreign("a carriage return, a byte order mark or another control character"));
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut open: Vec<Element> = Vec::new();
    let (mut root, mut nodes, mut first) = (None, 0, true);
    loop {
        let event = reader.read_event().map_err(malformed)?;
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(Refusal::new(Code::TooLarge, format!("more than {MAX_NODES} nodes")));
        }
        match event {
            // It is no part of the canonical form.
            Event::Decl(_) if first => {}
            Event::Start(start) => {
                if root.is_some() || open.len() == MAX_DEPTH {
                    return Err(foreign("a second document, or elements too deep"));
                }
                open.push(element(&start, &open)?);
            }
            Event::End(_) => {
                let done = open.pop().ok_or_else(|| malformed("an end without a start"))?;
                match open.last_mut() {
                    Some(parent) => parent.children.push(Node::Element(done)),
                    None => root = Some(done),
                }
            }
            Event::Text(text) => {
                let text = text.into_inner();
                if text.contains('>') {
                    return Err(foreign("text that would have to be escaped"));
                }
                match open.last_mut() {
                    Some(parent) => parent.children.push(Node::Text(text.into_owned())),
                    None if text.trim_ascii().is_empty() => {}
                    None => return Err(foreign("text outside of the document")),
                }
            }
            Event::Eof => break,
            Event::Decl(_) | Event::PI(_) => return Err(foreign("a processing instruction")),
            Event::DocType(_) => return Err(foreign("a document type")),
            Event::CData(_) => return Err(foreign("a CDATA section")),
            Event::Comment(_) => return Err(foreign("a comment")),
            Event::GeneralRef(_) => return Err(foreign("a reference to a character or an entity")),
            Event::Empty(_) => return Err(malformed("an empty element")),
        }
        first = false;
    }
    match root {
        Some(root) if open.is_empty() => Ok(root),
        _ => Err(malformed("the document does not end")),
    }
}

/// Prefix and local name, of letters and digits of ASCII.
fn split(name: &str) -> Result<(&str, &str), Refusal> {
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) if !prefix.is_empty() => (prefix, local),
        Some(_) => return Err(malformed(format!("the name {name:?}"))),
        None => ("", name),
    };
    let fits = |part: &str| {
        part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            && !part.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.')
    };
    match fits(prefix) && fits(local) && !local.is_empty() {
        true => Ok((prefix, local)),
        false => Err(malformed(format!("the name {name:?}"))),
    }
}

fn element(start: &BytesStart<'_>, open: &[Element]) -> Result<Element, Refusal> {
    let (mut declared, mut plain) = (Vec::<(String, String)>::new(), Vec::new());
    for attribute in start.attributes() {
        let attribute = attribute.map_err(malformed)?;
        let value = attribute.value;
        if value.contains(['<', '&', '"', '\n', '\t']) {
            return Err(foreign("a reference, a quote, a line break or a tab in an attribute"));
        }
        match split(attribute.key.as_ref())? {
            ("", "xmlns") => declared.push((String::new(), value.into_owned())),
            ("xmlns", prefix) if value.is_empty() || prefix == "xmlns" || prefix == "xml" => {
                return Err(foreign("a prefix that stands for nothing, or a reserved one"));
            }
            ("xmlns", prefix) => declared.push((prefix.to_owned(), value.into_owned())),
            ("xml", _) => return Err(foreign("an attribute of xml:")),
            (prefix, local) => {
                plain.push((prefix.to_owned(), local.to_owned(), value.into_owned()))
            }
        }
        if plain.len() + declared.len() > MAX_ATTRIBUTES {
            return Err(Refusal::new(Code::TooLarge, "too many attributes"));
        }
    }
    declared.sort();
    let space = |prefix: &str| {
        let own = declared.iter().find(|(own, _)| own == prefix);
        let above =
            || open.iter().rev().find_map(|up| up.declared.iter().find(|(p, _)| p == prefix));
        match own.or_else(above) {
            Some((_, space)) => Ok(space.clone()),
            None if prefix.is_empty() => Ok(String::new()),
            None => Err(malformed(format!("the prefix {prefix:?} stands for nothing"))),
        }
    };
    let name = start.name();
    let (prefix, local) = split(name.as_ref())?;
    let name = Name { prefix: prefix.to_owned(), local: local.to_owned(), space: space(prefix)? };
    let mut attributes = Vec::with_capacity(plain.len());
    for (prefix, local, value) in plain {
        // An attribute without a prefix is of no namespace.
        let space = if prefix.is_empty() { String::new() } else { space(&prefix)? };
        attributes.push((Name { prefix, local, space }, value));
    }
    attributes.sort_by(|(a, _), (b, _)| (&a.space, &a.local).cmp(&(&b.space, &b.local)));
    let twice = attributes.windows(2).any(|pair| match pair {
        [(a, _), (b, _)] => a.is(&b.space, &b.local),
        _ => false,
    });
    match twice {
        true => Err(malformed("an attribute twice")),
        false => Ok(Element { name, declared, attributes, children: Vec::new() }),
    }
}

/// The canonical octets of an element and all below it, but for `without`, in the scope of `above`: ancestors
/// whose declarations hold here and are not written around it.
pub(crate) fn canonical(
    element: &Element,
    above: &[&Element],
    without: Option<&Element>,
) -> Vec<u8> {
    let mut scope: Vec<(String, String)> = Vec::new();
    for (prefix, space) in above.iter().flat_map(|up| &up.declared) {
        scope.retain(|(known, _)| known != prefix);
        scope.push((prefix.clone(), space.clone()));
    }
    let mut out = String::new();
    let mut apex = element.clone();
    // The first element written declares all that holds there.
    for (prefix, space) in scope {
        if !space.is_empty() && !apex.declared.iter().any(|(own, _)| *own == prefix) {
            apex.declared.push((prefix, space));
        }
    }
    apex.declared.sort();
    write(&apex, element, &mut Vec::new(), without, &mut out);
    out.into_bytes()
}

/// `tag` has the name and attributes to write, `body` the children: they differ at the apex alone.
fn write<'e>(
    tag: &'e Element,
    body: &'e Element,
    written: &mut Vec<(&'e str, &'e str)>,
    without: Option<&Element>,
    out: &mut String,
) {
    let name = tag.name.written();
    out.push('<');
    out.push_str(&name);
    let outer = written.len();
    for (prefix, space) in &tag.declared {
        let last = written.iter().rev().find(|(known, _)| known == prefix).map(|(_, space)| *space);
        // A declaration that already holds is not repeated; none at all is as an empty one.
        if last.unwrap_or_default() == space {
            continue;
        }
        written.push((prefix, space));
        let colon = if prefix.is_empty() { "" } else { ":" };
        attribute(out, &format!("xmlns{colon}{prefix}"), space);
    }
    for (name, value) in &tag.attributes {
        attribute(out, &name.written(), value);
    }
    out.push('>');
    for child in &body.children {
        match child {
            Node::Element(child) if without.is_some_and(|not| std::ptr::eq(not, child)) => {}
            Node::Element(child) => write(child, child, written, without, out),
            Node::Text(text) => out.push_str(text),
        }
    }
    written.truncate(outer);
    out.push_str("</");
    out.push_str(&name);
    out.push('>');
}

fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    out.push_str(value);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::evidence;

    fn canon(text: &str) -> String {
        String::from_utf8(canonical(&parse(text.as_bytes()).unwrap(), &[], None)).unwrap()
    }

    fn code(text: &str) -> Code {
        parse(text.as_bytes()).unwrap_err().code
    }

    #[test]
    fn attributes_and_declarations_are_ordered() {
        // By the namespace, not by the prefix; declarations first, the default one before others.
        assert_eq!(
            canon(
                "<a:r xmlns:b='urn:1' y='2' b:z='3' a:z='4' xmlns:a='urn:2' xmlns='urn:3' x='1'/>"
            ),
            r#"<a:r xmlns="urn:3" xmlns:a="urn:2" xmlns:b="urn:1" x="1" y="2" b:z="3" a:z="4"></a:r>"#
        );
    }

    #[test]
    fn a_declaration_that_holds_is_not_repeated() {
        assert_eq!(
            canon("<r xmlns='u' xmlns:p='v'><s xmlns='u' xmlns:p='w'><t xmlns=''/></s></r>"),
            r#"<r xmlns="u" xmlns:p="v"><s xmlns:p="w"><t xmlns=""></t></s></r>"#
        );
    }

    #[test]
    fn a_part_declares_what_holds_above_it() {
        let root = parse(b"<r xmlns='u' xmlns:p='v'><p:s a='1'><t/></p:s></r>").unwrap();
        let part = *root.elements().unwrap().first().unwrap();
        assert_eq!(
            String::from_utf8(canonical(part, &[&root], None)).unwrap(),
            r#"<p:s xmlns="u" xmlns:p="v" a="1"><t></t></p:s>"#
        );
        let inner = *part.elements().unwrap().first().unwrap();
        assert_eq!(
            String::from_utf8(canonical(&root, &[], Some(inner))).unwrap(),
            r#"<r xmlns="u" xmlns:p="v"><p:s a="1"></p:s></r>"#
        );
    }

    #[test]
    fn what_the_profile_leaves_out_is_refused() {
        for text in [
            "<!DOCTYPE r><r/>",
            "<r><?pi?></r>",
            "<r/><?xml version='1.0'?>",
            "<r><![CDATA[x]]></r>",
            "<r><!-- x --></r>",
            "<r>&amp;</r>",
            "<r>&#65;</r>",
            "<r a='&#65;'/>",
            "<r a='\"'/>",
            "<r a='1\n2'/>",
            "<r>a\r\n</r>",
            "<r>a > b</r>",
            "<r xml:lang='en'/>",
            "<r xmlns:xml='urn:x'/>",
            "<r/><r/>",
            "<r/>text",
            "\u{feff}<r/>",
        ] {
            assert_eq!(code(text), Code::RimForeignContent, "{text:?}");
        }
        let deep = "<r>".repeat(MAX_DEPTH + 1);
        assert_eq!(code(&deep), Code::RimForeignContent);
    }

    #[test]
    fn what_is_not_xml_is_malformed() {
        for text in [
            "",
            "x",
            "<r>",
            "<r></s>",
            "<r a='1' a='2'/>",
            "<p:r/>",
            "<r><</r>",
            "<:r/>",
            "<r 1='2'/>",
            "<r xmlns:a='u' xmlns:b='u' a:x='1' b:x='2'/>",
            "<r a=1/>",
        ] {
            assert!(matches!(code(text), Code::Malformed | Code::RimForeignContent), "{text:?}");
        }
        assert_eq!(parse(b"<r>\xff</r>").unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn what_is_too_large_is_refused() {
        assert_eq!(code(&format!("<r>{}</r>", "x".repeat(MAX_FILE))), Code::TooLarge);
        assert_eq!(code(&format!("<r>{}</r>", "<a/>".repeat(MAX_NODES / 2))), Code::TooLarge);
        let many: String = (0..=MAX_ATTRIBUTES).map(|i| format!(" a{i}='1'")).collect();
        assert_eq!(code(&format!("<r{many}/>")), Code::TooLarge);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_its_own(at in 0usize..20_000, bytes: [u8; 3]) {
            let mut file = evidence("nvidia/gh100-545.00-PASS/driver_rim_545.00.xml");
            file[at..at + 3].copy_from_slice(&bytes);
            if let Ok(read) = parse(&file) {
                let once = canonical(&read, &[], None);
                let again = canonical(&parse(&once).unwrap(), &[], None);
                prop_assert_eq!(once, again);
            }
        }
    }
}
