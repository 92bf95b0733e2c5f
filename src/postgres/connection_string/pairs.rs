//! The settings in a connection string, as pairs of a key and a value. No I/O.
//!
//! Next: [`understand`](super::understand), which takes from them what it knows.

use std::fmt;

/// The pairs, in order.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<(String, String)>);

/// Splits a connection string into a URL without its parameters, if it is one, and the pairs.
pub(super) fn split(text: &str) -> Result<(Option<String>, Pairs), String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Ok((None, Pairs::from_keys_and_values(text)?));
    }
    // A question mark may be in the password.
    let after_user = text.find('@').unwrap_or(0);
    let Some(at) = text[after_user..].find('?').map(|at| at + after_user) else {
        return Ok((Some(text.to_owned()), Pairs::default()));
    };
    Ok((Some(text[..at].to_owned()), Pairs::from_parameters(&text[at + 1..])?))
}

impl Pairs {
    /// Whether a key is among them.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(other, _)| other == key)
    }

    /// Adds a pair at the end.
    pub(super) fn push(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// Removes a key, and returns its last value.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let mut last = None;
        self.0.retain_mut(|(other, value)| {
            let is_it = other == key;
            if is_it {
                last = Some(std::mem::take(value));
            }
            !is_it
        });
        last
    }

    /// Gives a key another name.
    pub(super) fn rename(&mut self, key: &str, name: &str) {
        self.0.iter_mut().filter(|(other, _)| other == key).for_each(|(other, _)| *other = name.to_owned());
    }

    /// Changes the values of a key.
    pub(super) fn change(
        &mut self,
        key: &str,
        mut change: impl FnMut(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        for (other, value) in &mut self.0 {
            if other == key {
                *value = change(value)?;
            }
        }
        Ok(())
    }

    /// The URL with these pairs as parameters.
    pub(super) fn appended_to(&self, url: &str) -> String {
        let mut text = url.to_owned();
        for (number, (key, value)) in self.0.iter().enumerate() {
            text.push(if number == 0 { '?' } else { '&' });
            text.push_str(&encoded(key));
            text.push('=');
            text.push_str(&encoded(value));
        }
        text
    }

    /// Parses `key = value` pairs by the rules of libpq: spaces around the sign, values in single quotes, backslashes.
    fn from_keys_and_values(text: &str) -> Result<Self, String> {
        let mut pairs = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let end = rest.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            let Some(after) = after.trim_start().strip_prefix('=') else {
                return Err(EXPECTED.into());
            };
            let (value, after) = value(after.trim_start())?;
            pairs.push(key, &value);
            rest = after.trim_start();
        }
        Ok(pairs)
    }

    /// Parses the parameters of a URL.
    fn from_parameters(text: &str) -> Result<Self, String> {
        let mut pairs = Self::default();
        for parameter in text.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').ok_or(EXPECTED)?;
            pairs.push(&decoded(key)?, &decoded(value)?);
        }
        Ok(pairs)
    }
}

/// What is wrong with a text that is neither.
const EXPECTED: &str = "connection string: expected \"postgres://user@host/database\" or \"host=... user=...\"";

/// The value at the start of a text, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let (quoted, text) = text.strip_prefix('\'').map_or((false, text), |text| (true, text));
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            letter if !quoted && letter.is_whitespace() => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if quoted { Err("connection string: a value in quotes has no end".into()) } else { Ok((value, "")) }
}

/// A part of a URL without its percent signs.
fn decoded(text: &str) -> Result<String, String> {
    let invalid = || "connection string: expected two hexadecimal digits after each % of the URL, and UTF-8".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(invalid)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| invalid())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// A text as a part of a URL.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b',' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// As `key='value'` pairs.
impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.0 {
            write!(f, "{key}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'"))?;
        }
        Ok(())
    }
}
