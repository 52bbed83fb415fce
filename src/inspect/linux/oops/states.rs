//! The states of a kernel in which a site is looked at: features, variables, habits.

use super::forms::{Forms, known};
use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::linux::explain::usual;
use crate::inspect::linux::features::{KernelFeatures, feature};
use crate::inspect::linux::nops::FAMILIES;
use crate::inspect::linux::rules::{
    BranchFilling, Habits, SEALED_ENDBR, feature_of, target_of_branch,
};
use crate::inspect::linux::site_groups::SiteGroup;
use crate::inspect::linux::tables::{KernelTable, TableKind};

/// Something that is taken to be other than the file says: bytes at an address, with words.
type Override = (Vec<(u64, Vec<u8>)>, String);

impl Forms<'_, '_> {
    /// Returns the tables that the rules are asked with: those of the site, and one of preambles, for
    /// indirect calls are checked if there are any at all.
    pub(super) fn tables(&self, site: &SiteGroup) -> Vec<KernelTable> {
        let mut tables = site.tables.clone();
        if tables.iter().all(|table| table.kind != TableKind::Cfi) {
            let preambles = self.kernel.tables.iter().find(|table| table.kind == TableKind::Cfi);
            tables.extend(preambles.map(|table| KernelTable {
                name: table.name.clone(),
                records: table.records.first().copied().into_iter().collect(),
                ..*table
            }));
        }
        tables
    }

    /// Returns the habits that matter at a site, each in every form.
    pub(super) fn habits(&self, site: &SiteGroup) -> Vec<Habits> {
        let width = self.kernel.image.width();
        let mut all = vec![usual(self.kernel)];
        let has = |kind| site.tables.iter().any(|table| table.kind == kind);
        let mut each = |other: &dyn Fn(Habits) -> Vec<Habits>| {
            let more: Vec<Habits> = all.iter().flat_map(|&habits| other(habits)).collect();
            for habits in more {
                if !all.contains(&habits) {
                    all.push(habits);
                }
            }
        };
        each(&|habits| {
            let families = FAMILIES.iter();
            let families = families.filter(|of| of.width.is_none_or(|of| of == width));
            families.map(|nops| Habits { nops, ..habits }).collect()
        });
        if has(TableKind::Alternatives) {
            each(&|habits| vec![Habits { joins_jumps: !habits.joins_jumps, ..habits }]);
        }
        if has(TableKind::Retpolines) {
            each(&|habits| {
                let fillings = [BranchFilling::Nops, BranchFilling::Int3, BranchFilling::Prefixes];
                fillings.map(|branch_filling| Habits { branch_filling, ..habits }).to_vec()
            });
        }
        if has(TableKind::Paravirt) {
            let other = |of: Habits| Habits { native_sequences: !of.native_sequences, ..of };
            each(&|habits| vec![other(habits)]);
        }
        if has(TableKind::Endbr) && has(TableKind::Cfi) {
            let other = |of: Habits| Habits { hash_is_sealed: !of.hash_is_sealed, ..of };
            each(&|habits| vec![other(habits)]);
        }
        if has(TableKind::Endbr) {
            each(&|habits| {
                let sealed = SEALED_ENDBR.iter();
                sealed.map(|&sealed_endbr| Habits { sealed_endbr, ..habits }).collect()
            });
        }
        all
    }

    /// Returns sets of features, with words for what of it matters at a site.
    pub(super) fn features(&self, site: &SiteGroup) -> Vec<(KernelFeatures, String)> {
        /// With more of them at one site, each is tried alone.
        const MOST: usize = 5;
        let mut numbers: Vec<u16> = Vec::new();
        for table in &site.tables {
            match table.kind {
                TableKind::Alternatives => {
                    numbers.extend(table.records.iter().map(|record| feature_of(record).0));
                }
                TableKind::Retpolines => numbers.extend([
                    feature::RETPOLINE,
                    feature::RETPOLINE_LFENCE,
                    feature::CALL_DEPTH,
                ]),
                TableKind::Returns => numbers.push(feature::RETHUNK),
                TableKind::StaticCalls => {
                    numbers.extend([feature::RETHUNK, feature::CALL_DEPTH]);
                }
                TableKind::Calls => numbers.push(feature::CALL_DEPTH),
                _ => {}
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let sets: Vec<Vec<u16>> = if numbers.len() <= MOST {
            let subsets = 0..1_u32 << numbers.len();
            let of = |set: u32| {
                let chosen = numbers.iter().enumerate();
                chosen.filter(|(at, _)| set >> at & 1 == 1).map(|(_, &number)| number).collect()
            };
            subsets.map(of).collect()
        } else {
            let single = numbers.iter().map(|&number| vec![number]);
            [vec![], numbers.clone()].into_iter().chain(single).collect()
        };
        let with = |set: Vec<u16>| {
            let words: Vec<String> = numbers
                .iter()
                .map(|number| {
                    let not = if set.contains(number) { "" } else { "!" };
                    format!("{not}{}", self.kernel.feature_names.words_for(*number))
                })
                .collect();
            let known = numbers.iter().map(|number| (*number, set.contains(number)));
            (KernelFeatures::of(known), words.join(" "))
        };
        sets.into_iter().map(with).collect()
    }

    /// Returns the ways in which indirect calls are checked, each with every seed of the hashes that
    /// the bytes can come from.
    fn checks_of_calls(&self, site: &SiteGroup, seen: &[Option<u8>]) -> Vec<Override> {
        const MODES: [(u8, &str); 3] = [(1, "calls are not checked"), (2, "kCFI"), (3, "FineIBT")];
        let names = &self.kernel.names;
        let (Some(mode), Some(seed)) = (names.address("cfi_mode"), names.address("cfi_seed"))
        else {
            return vec![];
        };
        // The hash that the compiler has put there.
        let hash = site.tables.iter().find_map(|table| {
            let record = table.records.first()?;
            match (table.kind, self.kernel.code(site.start, 6)) {
                (TableKind::Cfi, _) => match self.kernel.code(record.site, 5) {
                    &[0xb8, a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
                    _ => None,
                },
                (TableKind::Retpolines, &[0x41, 0xba, a, b, c, d]) => {
                    Some(u32::from_le_bytes([a, b, c, d]).wrapping_neg())
                }
                _ => None,
            }
        });
        let Some(hash) = hash else { return vec![] };
        // Of a hash that the start or the end of the bytes cuts, any other byte can be taken.
        let windows = seen.windows(4).filter(|bytes| bytes.iter().any(Option::is_some));
        let numbers = windows.map(|bytes| {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte.unwrap_or(0)).collect();
            little_endian(&bytes) as u32
        });
        let mut seeds: Vec<u32> =
            numbers.flat_map(|number| [number ^ hash, number.wrapping_neg() ^ hash]).collect();
        // Those with which the hash would be an ENDBR, so that it is mixed again.
        let endbr = u32::from_le_bytes([0xf3, 0x0f, 0x1e, 0xfa]);
        seeds.extend([0, endbr ^ hash, endbr.wrapping_neg() ^ hash]);
        seeds.sort_unstable();
        seeds.dedup();
        let all = MODES.iter().flat_map(|&(number, words)| {
            seeds.iter().map(move |&of| {
                let bytes = vec![(mode, vec![number, 0, 0, 0]), (seed, of.to_le_bytes().to_vec())];
                (bytes, words.to_owned())
            })
        });
        all.collect()
    }

    /// Returns the states of the variables that a site depends on, each with words. A site that
    /// depends on none has one state.
    pub(super) fn overrides(&self, site: &SiteGroup, seen: &[Option<u8>]) -> Vec<Override> {
        let names = &self.kernel.names;
        let size = match self.kernel.image.width() {
            Width::Bits64 => 8,
            Width::Bits32 => 4,
        };
        let pointer = |function: u64| function.to_le_bytes()[..size].to_vec();
        let mut all: Vec<Override> = self.checks_of_calls(site, seen);
        for table in &site.tables {
            for record in &table.records {
                let Ok(at) = usize::try_from(record.site - site.start) else { continue };
                let target = self.function(record.site, seen, at);
                match table.kind {
                    TableKind::JumpLabels => {
                        let key = names.place(record.key);
                        for (on, words) in [(1_u64, "on"), (0, "off")] {
                            let bytes = on.to_le_bytes()[..size].to_vec();
                            all.push((vec![(record.key, bytes)], format!("{key} {words}")));
                        }
                    }
                    TableKind::StaticCalls => {
                        let key = names.place(record.key);
                        let zero = names.address("__static_call_return0");
                        let first = self.kernel.image.pointer_at(record.key);
                        let first = first.filter(|&first| first != 0);
                        for function in target.into_iter().chain(first).chain(zero).chain([0]) {
                            let words = match function {
                                0 => format!("{key} has no function"),
                                function => format!("{key} has {}", names.place(function)),
                            };
                            all.push((vec![(record.key, pointer(function))], words));
                        }
                    }
                    TableKind::Paravirt | TableKind::Alternatives => {
                        let Some(slot) = self.kernel.slot_of(record.site) else { continue };
                        let nothing = ["nop_func", "_paravirt_nop"]
                            .iter()
                            .find_map(|name| names.address(name));
                        let first = self.kernel.image.pointer_at(slot).filter(|&first| first != 0);
                        let all_functions = target.into_iter().chain(first).chain(nothing);
                        for function in all_functions.chain([0]) {
                            let name = match function {
                                0 => "nothing".to_owned(),
                                function => names.place(function),
                            };
                            let words = format!("{} has {name}", names.place(slot));
                            all.push((vec![(slot, pointer(function))], words));
                        }
                    }
                    TableKind::Returns => {
                        let Some(variable) = names.address("x86_return_thunk") else { continue };
                        for &thunk in &self.return_thunks {
                            let words = format!("returns go through {}", names.place(thunk));
                            all.push((vec![(variable, pointer(thunk))], words));
                        }
                    }
                    _ => {}
                }
            }
        }
        if all.is_empty() {
            all.push((vec![], String::new()));
        }
        all
    }

    /// Returns the function that a branch in the log leads to. Its first byte can be missing at the
    /// start of the bytes.
    pub(super) fn function(&self, site: u64, seen: &[Option<u8>], at: usize) -> Option<u64> {
        let mut seen = seen.get(at..at.checked_add(5)?)?.to_vec();
        let first = seen.first_mut()?;
        *first = first.or(Some(0xe8));
        let target = target_of_branch(site, &known(&seen, 0, 5)?)?;
        self.kernel.names.at(target).next().is_some().then_some(target)
    }
}
