//! The symbols of a file, sorted by address: names for addresses, and addresses
//! for names.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// The longest name that is read, in bytes; a longer one is cut. (Without a
/// limit, a table without a single end of a name takes quadratic time.)
const LONGEST: usize = 2048;

/// The longest name that is shown, in bytes.
const LONGEST_READABLE: usize = 256;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SymbolKind {
    /// A function.
    Function,
    /// Data.
    Object,
    /// Not said: a label.
    Label,
}

impl SymbolKind {
    /// Returns how little it tells of an address: of several symbols at one address, the one
    /// with the lowest number names it.
    const fn rank(self) -> u8 {
        match self {
            Self::Function => 0,
            Self::Object => 1,
            Self::Label => 2,
        }
    }
}

/// One symbol that is defined in a section.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Symbol {
    /// Address; in an object, offset in the section.
    pub address: u64,
    /// In bytes; 0 if not said.
    pub size: u64,
    /// What it stands for.
    pub kind: SymbolKind,
    /// Number of its section.
    pub section: usize,
    /// Where the name starts in the string table.
    pub(super) name: u32,
}

/// The symbols of one file.
#[derive(Debug, Default)]
pub struct Symbols<'d> {
    /// By address, functions first.
    list: Vec<Symbol>,
    strings: &'d [u8],
}

impl<'d> Symbols<'d> {
    pub(super) fn new(mut list: Vec<Symbol>, strings: &'d [u8]) -> Self {
        list.sort_by_key(|symbol| (symbol.address, symbol.kind.rank(), symbol.name));
        Self { list, strings }
    }

    /// Returns whether there is none: the file was stripped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns all of them, by address.
    #[must_use]
    pub fn list(&self) -> &[Symbol] {
        &self.list
    }

    /// Returns the name, without looking for its end.
    fn name_onwards(&self, symbol: &Symbol) -> &'d [u8] {
        usize::try_from(symbol.name).ok().and_then(|at| self.strings.get(at..)).unwrap_or_default()
    }

    /// Returns whether its name starts like this; cheap.
    pub(crate) fn starts_with(&self, symbol: &Symbol, prefix: &str) -> bool {
        self.name_onwards(symbol).starts_with(prefix.as_bytes())
    }

    /// Returns its name as the file has it.
    #[must_use]
    pub fn name(&self, symbol: &Symbol) -> &'d str {
        let bytes = self.name_onwards(symbol);
        let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        str::from_utf8(bytes.get(..end).unwrap_or_default()).unwrap_or("(not UTF-8)")
    }

    /// Returns its name as a person wrote it.
    #[must_use]
    pub fn readable(&self, symbol: &Symbol) -> Cow<'d, str> {
        readable(self.name(symbol))
    }

    /// Returns the symbol of this name. Reads all of them.
    pub(crate) fn find(&self, name: &str) -> Option<&Symbol> {
        let whole = |symbol: &&Symbol| {
            let rest = self.name_onwards(symbol).strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&end| end == 0))
        };
        self.list.iter().find(whole)
    }

    /// Returns the symbols at this very address.
    pub(crate) fn at(&self, address: u64) -> &[Symbol] {
        let from = self.list.partition_point(|symbol| symbol.address < address);
        let to = self.list.partition_point(|symbol| symbol.address <= address);
        self.list.get(from..to).unwrap_or_default()
    }

    /// Returns the nearest symbols at or before an address, the nearest first.
    pub(crate) fn before(&self, address: u64) -> impl Iterator<Item = &Symbol> {
        let to = self.list.partition_point(|symbol| symbol.address <= address);
        self.list.get(..to).unwrap_or_default().iter().rev()
    }

    /// Returns the function, or the label for want of one, that an address is in, and
    /// how far inside.
    #[must_use]
    pub fn function(&self, section: usize, address: u64) -> Option<(&Symbol, u64)> {
        /// How many labels may stand in a function before the one asked for.
        const NEAR: usize = 64;
        let near = || self.before(address).take(NEAR).filter(|symbol| symbol.section == section);
        let inside = |symbol: &&Symbol| {
            symbol.kind == SymbolKind::Function
                && (symbol.size == 0 || address - symbol.address < symbol.size)
        };
        let found = near()
            .find(inside)
            .or_else(|| near().find(|symbol| symbol.kind == SymbolKind::Label))?;
        // Of several at the same address, the first of the list.
        let order = |symbol: &Symbol| (symbol.address, symbol.kind.rank());
        let first = self.list.partition_point(|symbol| order(symbol) < order(found));
        Some((self.list.get(first).unwrap_or(found), address - found.address))
    }
}

/// Returns a name as a person wrote it, if it was mangled by Rust. Long ones are cut: a
/// few mangled bytes can stand for a megabyte.
pub(crate) fn readable(name: &str) -> Cow<'_, str> {
    // A file must not be able to write to the terminal.
    if name.contains(char::is_control) {
        return Cow::Owned(name.replace(char::is_control, "?"));
    }
    let Ok(demangled) = rustc_demangle::try_demangle(name) else { return Cow::Borrowed(name) };
    let mut short = Short(String::new());
    if write!(short, "{demangled:#}").is_err() {
        short.0.push('…');
    }
    Cow::Owned(short.0)
}

/// Takes text until it is too long to be read.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > LONGEST_READABLE {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
