//! Disassembles sites, with the names of the kernel's own symbols.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use iced_x86::{
    Decoder, DecoderOptions, Formatter, GasFormatter, Mnemonic, SymbolResolver, SymbolResult,
};
use object::{Object, ObjectSymbol};

use super::support::table::Width;

/// Address → name and size.
type Symbols = BTreeMap<u64, (String, u64)>;

pub struct Disassembler {
    width: Width,
    symbols: Symbols,
}

impl Disassembler {
    pub fn new(width: Width, kernel: &Path) -> Self {
        let file = fs::read(kernel).unwrap_or_else(|error| panic!("{}: {error}", kernel.display()));
        let file = object::File::parse(&*file).unwrap_or_else(|error| panic!("{error}"));
        let symbols = file
            .symbols()
            .filter(|symbol| symbol.size() > 0)
            // Rust's mangled names say little in a table; an address says more.
            .filter_map(|symbol| {
                Some((symbol.address(), (symbol.name().ok()?.to_owned(), symbol.size())))
            })
            .filter(|(_, (name, _))| !name.starts_with('_'))
            .collect();
        Self { width, symbols }
    }

    /// Returns the instructions of a site with `; ` between two. NOPs are shown by their length.
    pub fn text(&self, address: u64, bytes: &[u8]) -> String {
        let bits = match self.width {
            Width::Bits64 => 64,
            Width::Bits32 => 32,
        };
        let names = Names(self.symbols.clone());
        let mut formatter = GasFormatter::with_options(Some(Box::new(names)), None);
        let options = formatter.options_mut();
        options.set_uppercase_hex(false);
        options.set_branch_leading_zeros(false);
        options.set_rip_relative_addresses(true);
        let mut texts = Vec::new();
        for instruction in Decoder::with_ip(bits, bytes, address, DecoderOptions::NONE) {
            let mut text = String::new();
            match instruction.mnemonic() {
                Mnemonic::Nop => text = format!("nop{}", instruction.len()),
                _ => formatter.format(&instruction, &mut text),
            }
            texts.push(text);
        }
        texts.join("; ")
    }
}

struct Names(Symbols);

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        _: &iced_x86::Instruction,
        _: u32,
        _: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        let (start, (name, size)) = self.0.range(..=address).next_back()?;
        (address < start + size).then(|| SymbolResult::with_str(*start, name.as_str()))
    }
}
