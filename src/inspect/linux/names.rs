//! Names of a kernel's functions and variables: from its symbol table, else from its kallsyms.

use std::collections::HashMap;
use std::ops::Range;

use super::kallsyms;
use crate::inspect::elf::Image;

/// The source of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamesFrom {
    SymbolTable,
    Kallsyms,
    Nowhere,
}

/// The names of a kernel.
#[derive(Debug)]
pub(crate) struct Names {
    /// Sorted by address.
    list: Vec<(u64, String)>,
    /// Positions in `list`; of several symbols of one name, the first.
    by_name: HashMap<String, usize>,
    pub from: NamesFrom,
}

impl Names {
    /// Reads the names of a kernel.
    pub(crate) fn new(image: &Image<'_>) -> Self {
        let symbols = image.symbols();
        let (mut list, from): (Vec<(u64, String)>, _) = if !symbols.is_empty() {
            let named = symbols.list().iter();
            let named = named.map(|symbol| (symbol.address, symbols.readable(symbol).into_owned()));
            (named.collect(), NamesFrom::SymbolTable)
        } else if let Some(symbols) = kallsyms::read(image) {
            let named = symbols.into_iter().map(|symbol| (symbol.address, symbol.name));
            (named.collect(), NamesFrom::Kallsyms)
        } else {
            (vec![], NamesFrom::Nowhere)
        };
        list.sort_by_key(|&(address, _)| address);
        let mut by_name = HashMap::with_capacity(list.len());
        for (at, (_, name)) in list.iter().enumerate() {
            by_name.entry(name.clone()).or_insert(at);
        }
        Self { list, by_name, from }
    }

    /// Returns how many names there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns whether there are no names.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the addresses of all names, in their order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.list.iter().map(|&(address, _)| address)
    }

    /// Returns the first address behind this one that has a name, or the last of all addresses.
    pub(crate) fn next(&self, address: u64) -> u64 {
        let behind = self.list.partition_point(|&(start, _)| start <= address);
        self.list.get(behind).map_or(u64::MAX, |&(start, _)| start)
    }

    /// Returns the name before an address, and the distance from it.
    pub(crate) fn function(&self, address: u64) -> Option<(&str, u64)> {
        let behind = self.list.partition_point(|&(start, _)| start <= address);
        let (start, _) = self.list.get(behind.checked_sub(1)?)?;
        Some((self.at(*start).next()?, address - start))
    }

    /// Returns the names in a range of addresses.
    pub(crate) fn between(&self, range: Range<u64>) -> impl Iterator<Item = (u64, &str)> {
        let from = self.list.partition_point(|&(start, _)| start < range.start);
        let here = self.list.get(from..).unwrap_or_default().iter();
        here.take_while(move |(start, _)| *start < range.end).map(|(at, name)| (*at, &**name))
    }

    /// Returns the addresses of all symbols whose name is wanted.
    pub(crate) fn of(&self, is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = u64> {
        let all = self.list.iter().filter(move |(_, name)| is_wanted(name));
        all.map(|&(address, _)| address)
    }

    /// Returns the address of a name.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        Some(self.list.get(*self.by_name.get(name)?)?.0)
    }

    /// Returns the names that stand for exactly this address.
    pub(crate) fn at(&self, address: u64) -> impl Iterator<Item = &str> {
        let from = self.list.partition_point(|&(start, _)| start < address);
        let here = self.list.get(from..).unwrap_or_default().iter();
        here.take_while(move |&&(start, _)| start == address).map(|(_, name)| &**name)
    }

    /// Returns whether one of the names of an address is among these.
    pub(crate) fn is_one_of(&self, address: u64, names: &[&str]) -> bool {
        self.at(address).any(|name| names.contains(&name))
    }

    /// Returns the names with a prefix, with their addresses.
    pub(crate) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (u64, &str)> {
        let all = self.list.iter();
        all.filter_map(move |(address, name)| Some((*address, name.strip_prefix(prefix)?)))
    }

    /// Returns the last address up to this one that has a name.
    pub(crate) fn start(&self, address: u64) -> Option<u64> {
        let behind = self.list.partition_point(|&(start, _)| start <= address);
        Some(self.list.get(behind.checked_sub(1)?)?.0)
    }

    /// Returns an address as a name with the distance from it, such as `schedule+0x1f`; an empty
    /// text if there is no name before it.
    pub(crate) fn place(&self, address: u64) -> String {
        match self.function(address) {
            None => String::new(),
            Some((name, 0)) => name.to_owned(),
            Some((name, distance)) => format!("{name}+{distance:#x}"),
        }
    }
}
