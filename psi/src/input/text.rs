//! What the steps do to text. Nothing is allocated for text that stays as it is.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// What Unicode calls white space and is ASCII.
pub(super) fn trim_bytes(mut field: &[u8]) -> &[u8] {
    let white = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    while let Some((_, rest)) = field.split_first().filter(|(first, _)| white(first)) {
        field = rest;
    }
    while let Some((_, rest)) = field.split_last().filter(|(last, _)| white(last)) {
        field = rest;
    }
    field
}

pub(super) fn nfkc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || is_nfkc_quick(text.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfkc().collect())
}

pub(super) fn lower(text: &str) -> Cow<'_, str> {
    let mut stays =
        text.bytes().fold(true, |stays, byte| stays & byte.is_ascii() & !byte.is_ascii_uppercase());
    if !stays && !text.is_ascii() {
        stays = text.chars().all(|c| c.to_lowercase().eq([c]));
    }
    if stays { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

pub(super) fn email(text: &str) -> Cow<'_, str> {
    match lower(text.trim()) {
        Cow::Borrowed(text) => Cow::Borrowed(address(text)),
        Cow::Owned(mut text) => {
            text.truncate(address(&text).len());
            Cow::Owned(text)
        }
    }
}

/// A trimmed address without the dot that ends its domain, or all of what is no address.
fn address(text: &str) -> &str {
    if !text.ends_with('.') {
        return text;
    }
    let kept = text.trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    match kept.split_once('@') {
        Some((mailbox, domain))
            if !mailbox.is_empty() && !domain.is_empty() && !domain.contains('@') =>
        {
            kept
        }
        _ => text,
    }
}

pub(super) fn phone(text: &str) -> Cow<'_, str> {
    if is_number(text) {
        return Cow::Borrowed(text);
    }
    let mut number = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let trunk = rest.strip_prefix("(0)").filter(|_| ends_in_country(&number));
        match c {
            '(' if trunk.is_some() => {}
            '0'..='9' => number.push(c),
            '+' if number.is_empty() => number.push(c),
            _ if is_separator(c) => {}
            _ => return Cow::Borrowed(text),
        }
        rest = trunk.or(rest.get(c.len_utf8()..)).unwrap_or_default();
    }
    match number.strip_prefix("00") {
        Some(abroad) if !abroad.is_empty() => Cow::Owned(format!("+{abroad}")),
        _ if number == "+" => Cow::Borrowed(text),
        _ => Cow::Owned(number),
    }
}

/// Whether text is what [`phone`] makes.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let abroad = text.len() > 2 && text.starts_with("00");
    !digits.is_empty() && !abroad && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a country's one to three digits are all there is so far.
fn ends_in_country(number: &str) -> bool {
    let country = number.strip_prefix('+').or_else(|| number.strip_prefix("00"));
    country.is_some_and(|digits| (1..=3).contains(&digits.len()))
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '.' | '-' | '/' | '(' | ')' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}
