//! The checks of a program, which must hold whatever tools built it. Each failure is one sentence
//! that names the patchlet or the site.

use std::collections::{BTreeMap, BTreeSet};

use super::binary::{Binary, Patchlet, Site, TABLES};
use super::factors::Config;
use super::support::by_feature;
use super::support::meaning::hex;
use super::support::table::{Width, native};

/// The ops of `second.rs`, by index, and whether something uses them.
pub const PLACES: [(&str, Use); 13] = [
    ("inlined", Use::Live),
    ("generic", Use::Live),
    ("plain", Use::Live),
    ("method", Use::Live),
    ("closure", Use::Live),
    ("twin", Use::Live),
    ("from_c", Use::Live),
    ("by_hand", Use::Live),
    ("asm_call", Use::Live),
    ("asm_jump", Use::Live),
    ("dead_rust", Use::Dead),
    ("dead_asm", Use::Dead),
    ("unused", Use::None),
];

/// Who uses a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The running program.
    Live,
    /// A function that nobody calls.
    Dead,
    /// Nobody.
    None,
}

/// What a correct program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub patchlets: usize,
    pub sites: usize,
    /// Sites in functions that nobody calls.
    pub dead: usize,
    /// Sites of the op that has no patchlet: patched, they are calls.
    pub calls: usize,
    /// Records that say what another one says.
    pub twice: usize,
}

/// Looks at everything.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(binary: &Binary, config: &Config) -> Result<Summary, String> {
    let width = if config.is("width", "64") { Width::Bits64 } else { Width::Bits32 };
    if binary.wide != (width == Width::Bits64) {
        return Err(format!("the program is not {width}"));
    }
    let symbols_gone = match config.get("strip") {
        "symbols" => Some(true),
        // mold 1.10 takes --strip-debug for --strip-all; a later one may not.
        "debuginfo" if config.is("linker", "mold") => None,
        _ => Some(false),
    };
    if symbols_gone.is_some_and(|gone| gone != binary.stripped) {
        let not = if binary.stripped { "has no" } else { "still has" };
        return Err(format!("the program {not} symbols"));
    }
    patchlets(binary, config, width)?;
    sections(binary)?;
    let bases = bases(binary)?;
    let twice = sites(binary, config)?;
    complete(binary, &bases)?;
    let counts = places(binary, &bases)?;
    let dead = dead(binary, config, &counts)?;
    let has_no_patchlet = |site: &&Site| bases.get(&site.slot) == Some(&"matrix_main_slots");
    Ok(Summary {
        patchlets: binary.patchlets.len(),
        sites: binary.sites.len(),
        dead,
        calls: binary.sites.iter().filter(has_no_patchlet).count(),
        twice,
    })
}

/// Returns the names and bytes of the program's own patchlets.
fn own(width: Width) -> [(&'static str, &'static [u8]); 3] {
    match width {
        Width::Bits64 => [
            ("swap_bytes", &[0x48, 0x89, 0xf8, 0x48, 0x0f, 0xc8]),
            ("like_native", &[0x48, 0x89, 0xf8]),
            ("long", &[0x48, 0x89, 0xf8, 0x48, 0x05, 0x44, 0x33, 0x22, 0x11]),
        ],
        Width::Bits32 => [
            ("swap_bytes", &[0x0f, 0xc8]),
            ("like_native", &[0x9c, 0x58]),
            ("long", &[0x05, 0x44, 0x33, 0x22, 0x11, 0xf7, 0xd0]),
        ],
    }
}

/// Checks that the program has the native set and its own patchlets, and no others. The set by CPU
/// feature, which it does not name, may be there where the linker drops nothing; then it is whole.
fn patchlets(binary: &Binary, config: &Config, width: Width) -> Result<(), String> {
    native_set(binary, width)?;
    set(binary, &own(width))?;
    let mut expected = native(width).len() + own(width).len();
    let by_feature = by_feature::set(width);
    let is_there = binary.patchlets.iter().any(|patchlet| patchlet.name == by_feature[0].0);
    if is_there && config.is("gc", "off") {
        let by_feature: Vec<_> = by_feature.iter().map(|(name, bytes)| (*name, &**bytes)).collect();
        set(binary, &by_feature)?;
        expected += by_feature.len();
    }
    if binary.patchlets.len() != expected {
        return Err(format!("there are {} patchlets, not {expected}", binary.patchlets.len()));
    }
    second_copies(&binary.patchlets)
}

/// Checks that the native set is complete, in order, without gaps, and has the right bytes.
///
/// # Errors
/// The first patchlet of which that is not true.
pub fn native_set(binary: &Binary, width: Width) -> Result<(), String> {
    let native = native(width);
    let native: Vec<_> = native.iter().map(|row| (row.name, row.bytes.as_slice())).collect();
    set(binary, &native)
}

fn set(binary: &Binary, expected: &[(&str, &[u8])]) -> Result<(), String> {
    let from = expected.first().and_then(|(first, _)| {
        binary.patchlets.iter().position(|patchlet| patchlet.name == *first)
    });
    let mut found = binary.patchlets[from.unwrap_or(binary.patchlets.len())..].iter();
    let mut before: Option<&Patchlet> = None;
    for (name, bytes) in expected {
        let missing = !binary.patchlets.iter().any(|patchlet| patchlet.name == *name);
        let patchlet = found
            .next()
            .filter(|_| !missing)
            .ok_or_else(|| format!("patchlet `{name}` is missing"))?;
        if patchlet.name != *name {
            return Err(format!("patchlet `{}` is where `{name}` belongs", patchlet.name));
        }
        if patchlet.bytes != *bytes {
            let (found, right) = (hex(&patchlet.bytes), hex(bytes));
            return Err(format!("patchlet `{name}` is {found}, not {right}"));
        }
        if let Some(before) = before
            && before.address + before.bytes.len() as u64 != patchlet.address
        {
            return Err(format!(
                "patchlet `{name}` is at {:#x}, not behind `{}`",
                patchlet.address, before.name
            ));
        }
        before = Some(patchlet);
    }
    Ok(())
}

/// Checks that each patchlet's native function begins with the bytes of the patchlet. A flipped bit
/// in either is found without symbols and without any other file.
///
/// # Errors
/// The first that does not.
pub fn second_copies(patchlets: &[Patchlet]) -> Result<(), String> {
    for Patchlet { name, bytes, native_bytes, .. } in patchlets {
        if bytes != native_bytes {
            let (bytes, native) = (hex(bytes), hex(native_bytes));
            return Err(format!("patchlet `{name}` is {bytes}, but its native function {native}"));
        }
    }
    Ok(())
}

/// Checks that patchlets, index and records are read-only, not executable and free of relocations
/// by a loader, and that native functions are executable.
///
/// # Errors
/// The first of which that is not true.
pub fn sections(binary: &Binary) -> Result<(), String> {
    for patchlet in &binary.patchlets {
        let section = binary.section_at(patchlet.address);
        if !section.is_some_and(|section| section.is_read_only_data()) {
            return Err(format!("patchlet `{}` is not in read-only data", patchlet.name));
        }
        let section = binary.section_at(patchlet.native);
        if !section.is_some_and(|section| section.is_executable()) {
            return Err(format!("the native function of `{}` is not in text", patchlet.name));
        }
        let end = patchlet.address + patchlet.bytes.len() as u64;
        if binary.relocations.iter().any(|at| (patchlet.address..end).contains(at)) {
            return Err(format!("patchlet `{}` is relocated", patchlet.name));
        }
    }
    for name in ["patchlet_index", "patchlet_sites"] {
        let section = binary.section(name)?;
        if !section.is_read_only_data() {
            return Err(format!("the flags of {name} are {:#x}", section.flags));
        }
        let range = section.address..section.address + section.bytes.len() as u64;
        if binary.relocations.iter().any(|at| range.contains(at)) {
            return Err(format!("{name} is relocated"));
        }
    }
    Ok(())
}

/// Address of the first slot of each table. Every record must agree on one, and
/// the symbols with them if there are any.
fn bases(binary: &Binary) -> Result<BTreeMap<u64, &'static str>, String> {
    let base = |site: &Site| site.slot.wrapping_sub(u64::from(site.op) * binary.slot_size());
    let found: BTreeSet<u64> = binary.sites.iter().map(base).collect();
    if found.len() != TABLES.len() {
        return Err(format!("the records name {} tables, {found:x?}", found.len()));
    }
    // What each table has a site of tells them apart.
    let most = |address: u64| {
        let own = binary.sites.iter().filter(|site| base(site) == address);
        own.map(|site| site.op).max().unwrap_or(0)
    };
    let named = |address: u64| {
        let by_hand = binary.sites.iter().any(|site| base(site) == address && site.capacity == 16);
        match (most(address), by_hand) {
            (0, _) => "matrix_main_slots",
            (_, true) => "matrix_places",
            _ => "patchlet_pv_ops",
        }
    };
    let bases: BTreeMap<u64, &str> =
        found.into_iter().map(|address| (address, named(address))).collect();
    for (name, address) in &binary.tables {
        if bases.get(address) != Some(&name.as_str()) {
            return Err(format!("table `{name}` is at {address:#x}; the records say {bases:x?}"));
        }
    }
    if !binary.stripped && binary.tables.len() != TABLES.len() {
        return Err(format!("of the tables there are {:?} only", binary.tables));
    }
    Ok(bases)
}

/// Checks each record: it names an indirect call or jump in text that is padded to its capacity,
/// and no two sites share a byte. Returns how many records are there twice, as mold's --icf leaves
/// them.
fn sites(binary: &Binary, config: &Config) -> Result<usize, String> {
    let mut sorted = binary.sites.clone();
    sorted.sort_unstable();
    if config.is("linker", "mold") && config.is("icf", "all") {
        sorted.dedup();
    }
    let twice = binary.sites.len() - sorted.len();
    let mut end = 0;
    for site in sorted {
        let Site { address, slot, op, capacity, kind } = site;
        let place = format!("site {address:#x} (op {op})");
        if !(6..=32).contains(&capacity) || kind > 1 {
            return Err(format!("{place} has capacity {capacity} and kind {kind}"));
        }
        let text = binary.section_at(address).is_some_and(|section| section.is_executable());
        let Some(bytes) = binary.bytes_at(address, capacity.into()).filter(|_| text) else {
            return Err(format!("{place} is not in text"));
        };
        let modrm = if kind == 0 { 0x15 } else { 0x25 };
        if bytes[..2] != [0xff, modrm] || bytes[6..].iter().any(|byte| *byte != 0x90) {
            return Err(format!("{place} is {}", hex(bytes)));
        }
        if target(binary, address) != Some(slot) {
            return Err(format!(
                "{place} goes through {:x?}, not {slot:#x}",
                target(binary, address)
            ));
        }
        if address < end {
            return Err(format!("{place} begins inside the site before it: folded, or twice?"));
        }
        end = address + u64::from(capacity);
    }
    Ok(twice)
}

/// Returns the slot that the indirect call or jump at an address goes through.
fn target(binary: &Binary, address: u64) -> Option<u64> {
    let field = binary.bytes_at(address.checked_add(2)?, 4)?;
    let number = i32::from_le_bytes(field.try_into().ok()?);
    Some(if binary.wide {
        address.wrapping_add(6).wrapping_add_signed(number.into())
    } else {
        u64::from(number.cast_unsigned())
    })
}

/// Checks that every indirect call or jump through a table has a record, by looking at every byte
/// of text.
fn complete(binary: &Binary, bases: &BTreeMap<u64, &str>) -> Result<(), String> {
    let recorded: BTreeSet<u64> = binary.sites.iter().map(|site| site.address).collect();
    let is_slot = |address: u64| {
        bases.range(..=address).next_back().is_some_and(|(base, name)| {
            let slots = if *name == "matrix_main_slots" { 1 } else { PLACES.len() as u64 };
            address < base + slots * binary.slot_size()
        })
    };
    for section in binary.sections.iter().filter(|section| section.is_executable()) {
        for (at, pair) in section.bytes.windows(2).enumerate() {
            if pair != [0xff, 0x15] && pair != [0xff, 0x25] {
                continue;
            }
            let address = section.address + at as u64;
            if target(binary, address).is_some_and(is_slot) && !recorded.contains(&address) {
                return Err(format!("the site at {address:#x} has no record"));
            }
        }
    }
    Ok(())
}

/// Counts the sites of each place.
fn places(binary: &Binary, bases: &BTreeMap<u64, &str>) -> Result<[usize; 13], String> {
    let mut counts = [0; PLACES.len()];
    let mut built_in = BTreeSet::new();
    for site in &binary.sites {
        let base = site.slot - u64::from(site.op) * binary.slot_size();
        match bases.get(&base).copied() {
            Some("matrix_places") => {
                *counts.get_mut(usize::from(site.op)).ok_or("an op beyond its table")? += 1;
            }
            Some("patchlet_pv_ops") => {
                built_in.insert(site.op);
            }
            _ => {}
        }
    }
    for ((name, used), count) in PLACES.iter().zip(counts) {
        let right = match used {
            Use::Live => count > 0,
            Use::Dead => true,
            Use::None => count == 0,
        };
        if !right {
            return Err(format!("place `{name}` has {count} records"));
        }
    }
    // On 64-bit wbinvd, op 10, too; the ops of assembly only are not used here.
    let ops = if binary.wide { 0..=10 } else { 0..=9 };
    match ops.into_iter().find(|op| !built_in.contains(op)) {
        Some(op) => Err(format!("the built-in op {op} has no record")),
        None => Ok(counts),
    }
}

/// Records do not keep dead functions alive, where the linker can help it.
fn dead(binary: &Binary, config: &Config, counts: &[usize; 13]) -> Result<usize, String> {
    let count = PLACES.iter().zip(counts).filter(|((_, used), _)| *used == Use::Dead);
    let dead: usize = count.map(|(_, count)| count).sum();
    match dead_functions(config) {
        Dead::Gone if dead > 0 => Err(format!("{dead} sites of dead functions are left")),
        Dead::Kept if dead != 3 => {
            Err(format!("{dead} of 3 sites of functions that nothing drops are left"))
        }
        _ if binary.sites.len() < dead => Err("more dead sites than sites".to_owned()),
        _ => Ok(dead),
    }
}

/// What becomes of functions that nobody calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    Gone,
    Kept,
}

/// By linker and options. `__start_` and `__stop_` symbols that a linker makes by
/// itself keep every record, and dead functions with them, unless it is told or
/// defaults not to; mold knows no link order for sections like these.
pub fn dead_functions(config: &Config) -> Dead {
    let script = matches!(config.get("place"), "script" | "high");
    match (config.get("gc"), config.get("linker")) {
        ("off", _) | (_, "mold") => Dead::Kept,
        ("sections", "ld") if !script => Dead::Kept,
        _ => Dead::Gone,
    }
}
