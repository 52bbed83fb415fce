//! The symbols of a file, sorted by address. They give names to addresses and addresses to names.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// The length in bytes to which names are cut when they are read. In a table of names without a
/// zero byte, each name reaches to the end of the table: without a limit, reading all names would
/// take quadratic time.
const LONGEST: usize = 2048;

/// The length in bytes to which demangled names are cut.
const LONGEST_READABLE: usize = 256;

/// The kind of thing that a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SymbolKind {
    /// A function.
    Function,
    /// Data.
    Object,
    /// A label: the symbol has no type.
    Label,
}

impl SymbolKind {
    /// Returns the rank among several symbols at one address: the symbol of the lowest rank gives
    /// the address its name.
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
    /// Size in bytes; 0 if the file does not say it.
    pub size: u64,
    /// Kind of thing that the symbol stands for.
    pub kind: SymbolKind,
    /// Number of the section that the symbol is defined in.
    pub section: usize,
    /// Offset of the name in the string table.
    pub(super) name: u32,
}

/// The symbols of one file.
#[derive(Debug, Default)]
pub struct Symbols<'d> {
    /// The symbols, sorted by address, those of one address by rank.
    list: Vec<Symbol>,
    strings: &'d [u8],
}

impl<'d> Symbols<'d> {
    pub(super) fn new(mut list: Vec<Symbol>, strings: &'d [u8]) -> Self {
        list.sort_by_key(|symbol| (symbol.address, symbol.kind.rank(), symbol.name));
        Self { list, strings }
    }

    /// Returns whether the file has no symbol, as a stripped file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns all symbols, sorted by address.
    #[must_use]
    pub fn list(&self) -> &[Symbol] {
        &self.list
    }

    /// Returns the string table from the symbol's name on. Does not look for the end of the name.
    fn name_onwards(&self, symbol: &Symbol) -> &'d [u8] {
        usize::try_from(symbol.name).ok().and_then(|at| self.strings.get(at..)).unwrap_or_default()
    }

    /// Returns whether the name of a symbol starts with `prefix`. Does not look for the end of the
    /// name, so it is cheap for every symbol of a file.
    pub(crate) fn starts_with(&self, symbol: &Symbol, prefix: &str) -> bool {
        self.name_onwards(symbol).starts_with(prefix.as_bytes())
    }

    /// Returns the name of a symbol as the file has it, cut to 2048 bytes, or `(not UTF-8)`.
    #[must_use]
    pub fn name(&self, symbol: &Symbol) -> &'d str {
        let bytes = self.name_onwards(symbol);
        let bytes = bytes.get(..LONGEST).unwrap_or(bytes);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        str::from_utf8(bytes.get(..end).unwrap_or_default()).unwrap_or("(not UTF-8)")
    }

    /// Returns the name of a symbol, demangled if Rust mangled it.
    #[must_use]
    pub fn readable(&self, symbol: &Symbol) -> Cow<'d, str> {
        readable(self.name(symbol))
    }

    /// Returns the first symbol of this name. Compares it with the names of all symbols.
    pub(crate) fn find(&self, name: &str) -> Option<&Symbol> {
        let whole = |symbol: &&Symbol| {
            let rest = self.name_onwards(symbol).strip_prefix(name.as_bytes());
            rest.is_some_and(|rest| rest.first().is_none_or(|&end| end == 0))
        };
        self.list.iter().find(whole)
    }

    /// Returns the symbols whose address is exactly `address`.
    pub(crate) fn at(&self, address: u64) -> &[Symbol] {
        let from = self.list.partition_point(|symbol| symbol.address < address);
        let to = self.list.partition_point(|symbol| symbol.address <= address);
        self.list.get(from..to).unwrap_or_default()
    }

    /// Returns the symbols at or before an address, the nearest first.
    pub(crate) fn before(&self, address: u64) -> impl Iterator<Item = &Symbol> {
        let to = self.list.partition_point(|symbol| symbol.address <= address);
        self.list.get(..to).unwrap_or_default().iter().rev()
    }

    /// Returns the function that contains an address of a section, and the offset of the address
    /// in it. Where no function is known, returns the nearest label before the address instead.
    #[must_use]
    pub fn function(&self, section: usize, address: u64) -> Option<(&Symbol, u64)> {
        /// The largest number of symbols before the address that are looked at. It limits the
        /// time for a file with many labels in one function.
        const NEAR: usize = 64;
        let near = || self.before(address).take(NEAR).filter(|symbol| symbol.section == section);
        let inside = |symbol: &&Symbol| {
            symbol.kind == SymbolKind::Function
                && (symbol.size == 0 || address - symbol.address < symbol.size)
        };
        let found = near()
            .find(inside)
            .or_else(|| near().find(|symbol| symbol.kind == SymbolKind::Label))?;
        // Of several symbols of this kind at the same address, take the first of the list: which
        // of them `find` met depends on the direction of the search.
        let order = |symbol: &Symbol| (symbol.address, symbol.kind.rank());
        let first = self.list.partition_point(|symbol| order(symbol) < order(found));
        Some((self.list.get(first).unwrap_or(found), address - found.address))
    }
}

/// Returns a name for people: demangled if Rust mangled it, and cut to 256 bytes, because a few
/// mangled bytes can stand for a megabyte.
pub(crate) fn readable(name: &str) -> Cow<'_, str> {
    // A file must not be able to send escape sequences to the terminal.
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

/// A text of at most 256 bytes. Writing more to it fails.
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
