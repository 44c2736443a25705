//! Reading TOML files: tables all of whose keys are known, and mistakes that say where they are.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{HyperSocketError, Result};

/// Reads a text by `read`.
///
/// # Errors
/// [`InvalidConfig`](HyperSocketError::InvalidConfig) with line, column, and what is wrong there.
pub(crate) fn read<T>(text: &str, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<T> {
    read(text).map_err(|mistake| HyperSocketError::InvalidConfig(mistake.told(text)))
}

/// Reads a file by `read`.
///
/// # Errors
/// [`InvalidConfig`](HyperSocketError::InvalidConfig) with file, line, column, and what is wrong there;
/// [`Io`](HyperSocketError::Io) where the file cannot be read.
pub(crate) fn load<T>(path: &Path, read: impl Fn(&str) -> Result<T, Mistake>) -> Result<T> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    read(&text)
        .map_err(|mistake| HyperSocketError::InvalidConfig(format!("{}, {}", path.display(), mistake.told(&text))))
}

/// The tables of a text.
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, Mistake> {
    DeTable::parse(text).map_err(|error| Mistake {
        at: error.span().map_or(text.len(), |span| span.start),
        what: error.message().to_owned(),
    })
}

/// What is wrong in a file, and where.
pub(crate) struct Mistake {
    /// In bytes from the start of the file.
    pub(crate) at: usize,
    pub(crate) what: String,
}

impl Mistake {
    pub(crate) fn told(&self, text: &str) -> String {
        let before = &text.as_bytes()[..self.at.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(last).chars().count() + 1;
        format!("line {line}, column {column}: {}", self.what)
    }
}

/// A table of the file all of whose keys are known.
pub(crate) struct Section<'a> {
    /// What it describes, with its article.
    pub(crate) what: &'static str,
    pub(crate) at: usize,
    pub(crate) table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    pub(crate) fn new(what: &'static str, at: usize, table: &'a DeTable<'a>, keys: &[&str]) -> Result<Self, Mistake> {
        let strangers = table.keys().filter(|key| !keys.contains(&key.get_ref().as_ref()));
        match strangers.min_by_key(|key| key.span().start) {
            Some(key) => Err(Mistake {
                at: key.span().start,
                what: format!("{what} has no key {:?}; its keys: {}", key.get_ref(), keys.join(", ")),
            }),
            None => Ok(Self { what, at, table }),
        }
    }

    pub(crate) fn entry(&self, key: &'static str) -> Option<Entry<'a>> {
        self.table.get(key).map(|value| Entry { key, value })
    }

    pub(crate) fn number(&self, key: &'static str, bounds: RangeInclusive<u32>) -> Result<Option<u32>, Mistake> {
        self.entry(key).map(|entry| entry.number(bounds)).transpose()
    }

    /// The tables of an array; none where it is not given.
    pub(crate) fn sections(&self, key: &'static str, what: &'static str, keys: &[&str]) -> Result<Vec<Self>, Mistake> {
        let Some(entry) = self.entry(key) else { return Ok(Vec::new()) };
        let wanted = || entry.not(&format!("an array of tables, each {what}"));
        let array = entry.value.get_ref().as_array().ok_or_else(wanted)?;
        array
            .iter()
            .map(|element| {
                let entry = Entry { key, value: element };
                let table = element.get_ref().as_table();
                let table = table.ok_or_else(|| entry.not(&format!("tables only, each {what}")))?;
                Section::new(what, element.span().start, table, keys)
            })
            .collect()
    }

    pub(crate) fn name(&self) -> Result<&'a str, Mistake> {
        self.text("name")
    }

    /// A string that must be there.
    pub(crate) fn text(&self, key: &'static str) -> Result<&'a str, Mistake> {
        let missing = || Mistake { at: self.at, what: format!("{} needs a {key}", self.what) };
        let entry = self.entry(key).ok_or_else(missing)?;
        entry.value.get_ref().as_str().ok_or_else(|| entry.not("a string"))
    }

    /// A number that must be there.
    pub(crate) fn needed_number(&self, key: &'static str, bounds: RangeInclusive<u32>) -> Result<u32, Mistake> {
        let missing = || Mistake { at: self.at, what: format!("{} needs a {key}", self.what) };
        self.number(key, bounds)?.ok_or_else(missing)
    }

    /// True or false; false where it is not given.
    pub(crate) fn flag(&self, key: &'static str) -> Result<bool, Mistake> {
        let Some(entry) = self.entry(key) else { return Ok(false) };
        entry.value.get_ref().as_bool().ok_or_else(|| entry.not("true or false"))
    }

    /// A table within this one, where it is given.
    pub(crate) fn section(
        &self,
        key: &'static str,
        what: &'static str,
        keys: &[&str],
    ) -> Result<Option<Self>, Mistake> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let table = entry.value.get_ref().as_table().ok_or_else(|| entry.not(&format!("a table, {what}")))?;
        Section::new(what, entry.value.span().start, table, keys).map(Some)
    }
}

/// A key with its value.
pub(crate) struct Entry<'a> {
    pub(crate) key: &'static str,
    pub(crate) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Entry<'a> {
    pub(crate) fn mistake(&self, what: String) -> Mistake {
        Mistake { at: self.value.span().start, what }
    }

    pub(crate) fn not(&self, wanted: &str) -> Mistake {
        self.mistake(format!("{} must be {wanted}; this is of type {}", self.key, self.value.get_ref().type_str()))
    }

    pub(crate) fn number(&self, bounds: RangeInclusive<u32>) -> Result<u32, Mistake> {
        let Some(number) = self.value.get_ref().as_integer() else { return Err(self.not("a whole number")) };
        let read = u32::from_str_radix(number.as_str(), number.radix()).ok();
        read.filter(|number| bounds.contains(number)).ok_or_else(|| {
            self.mistake(format!("{} must be {} to {}; this is {number}", self.key, bounds.start(), bounds.end()))
        })
    }
}
