//! Kernels with this crate: what each site may hold, byte by byte. What the machine's text is, a test
//! says itself: no code of the crate computes it.

use patchlet::Width;
use patchlet::inspect::{
    Explained, Explanation, Model, RawAddress, Verdict, explain_running, parse,
};

use crate::kernel::core;
use crate::memory::page_tables;
use crate::sample::{DATA, ET_DYN, KEY_WORDS, NOP5, Sample, TEXT, jump};

const WIDTHS: [Width; 2] = [Width::Bits64, Width::Bits32];

/// From the first address of the file to behind its last.
const SIZE: usize = 0x4_0000;

/// The NOP of four bytes and of six.
const NOP4: &[u8] = &[0x0f, 0x1f, 0x40, 0x00];
const NOP6: &[u8] = &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00];
/// `pushf; pop`, the patchlet of `save_fl`.
const SAVE_FL: &[u8] = &[0x9c, 0x58, 0x0f, 0x1f, 0x40, 0x00];

/// The sites of the sample by their ops, in the order of `Sample::sites`.
pub const SAVE: [usize; 4] = [0, 6, 7, 8];
const DISABLE: usize = 1;
const INVLPG: usize = 2;
const TICK: usize = 3;
const IDENT: usize = 4;
const LEAVE: usize = 5;

/// The indices of ops in their tables.
const SAVE_FL_OP: usize = 2;

/// A kernel's file, and the memory of the machine that runs it.
pub struct Own {
    pub sample: Sample,
    pub memory: Vec<u8>,
    slide: u64,
}

impl Own {
    /// Makes a kernel that has not patched itself, and runs where it was linked.
    pub fn new(width: Width) -> Self {
        Self::of(Self::sample(width), 0)
    }

    fn sample(width: Width) -> Sample {
        let mut sample = Sample::new(width).with_op_records().with_variants_and_branches();
        let start = sample.begin(&[0x55]);
        for _ in 0..3 {
            sample.site("patchlet_pv_ops", SAVE_FL_OP, 6, 0);
            sample.code(&[0x89, 0xc3]);
        }
        sample.code(&[0x5d, 0xc3]);
        sample.end("more", start);
        sample.bound_records();
        // Text that is like no other, by which the kernel is found.
        let start = sample.begin(&[]);
        let mut random = 1_u32;
        for _ in 0..0x1000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sample.code(&[(random >> 24) as u8]);
        }
        sample.end("filler", start);
        sample
    }

    fn of(sample: Sample, slide: u64) -> Self {
        let mut own = Self { memory: vec![0; SIZE], sample, slide };
        for section in own.sample.sections.clone() {
            own.put(section.address, &section.data);
        }
        own
    }

    /// Writes to memory, at an address of the file.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - TEXT) as usize;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Puts an address of the file, as it is in memory, at an address of the file.
    fn point(&mut self, at: u64, to: u64) {
        let mut bytes = vec![];
        self.sample.put(&mut bytes, if to == 0 { 0 } else { to + self.slide });
        self.put(at, &bytes);
    }

    fn set_slot(&mut self, table: &str, index: usize, to: u64) {
        self.point(self.sample.slot(table, index), to);
    }

    fn site(&self, number: usize) -> u64 {
        self.sample.sites[number].1
    }

    pub fn fill(&mut self, number: usize, bytes: &[u8]) {
        self.put(self.site(number), bytes);
    }

    /// Returns `call target` or `jmp target` of six bytes, at a site.
    fn call(&self, number: usize, opcode: u8, target: &str) -> Vec<u8> {
        let mut bytes = jump(self.site(number), self.sample.address_of(target)).to_vec();
        bytes[0] = opcode;
        bytes.push(0x90);
        bytes
    }

    /// Patches all sites for bare metal.
    pub fn patch(&mut self) {
        for number in SAVE {
            self.fill(number, SAVE_FL);
        }
        self.fill(DISABLE, &[&[0xfa][..], &NOP5].concat());
        let wide = self.sample.width == Width::Bits64;
        let invlpg = if wide { [0x0f, 0x01, 0x3f] } else { [0x0f, 0x01, 0x38] };
        self.fill(INVLPG, &[&invlpg[..], NOP6].concat());
        let tick = self.call(TICK, 0xe8, "tick");
        self.fill(TICK, &tick);
        let nop9 = [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
        let ident = if wide { &[0x48, 0x89, 0xf8][..] } else { &[] };
        let rest = if wide { NOP4 } else { &[0x0f, 0x1f, 0x80, 0, 0, 0, 0] };
        self.fill(IDENT, &[ident, &nop9[..], rest].concat());
        let sysret = [0x0f, 0x01, 0xf8, 0x48, 0x0f, 0x07];
        let leave = if wide { sysret.to_vec() } else { [&[0xcf][..], &NOP5].concat() };
        self.fill(LEAVE, &leave);
    }

    pub fn explain(&self) -> Explanation {
        self.explain_at(RawAddress::Virtual(TEXT + self.slide))
    }

    fn explain_at(&self, raw: RawAddress) -> Explanation {
        let file = self.sample.bytes();
        let model = Model::new(parse(&file).expect("an ELF file")).expect("a kernel");
        explain_running(&model, &file, &self.memory, Some(raw), &[], true)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Checks the verdict and the cause of a site, and returns what else was said of it.
    #[track_caller]
    fn is(&self, number: usize, cause: &str, verdict: Verdict) -> Explained {
        self.range_is(self.site(number), cause, verdict)
    }

    #[track_caller]
    fn range_is(&self, address: u64, cause: &str, verdict: Verdict) -> Explained {
        let explanation = self.explain();
        let of = explanation.list.iter().find(|of| of.address_in_file == address);
        let of = of.unwrap_or_else(|| panic!("nothing of {address:#x}: {:x?}", explanation.list));
        assert_eq!((of.cause, of.verdict), (cause, verdict), "{of:x?}");
        of.clone()
    }
}

fn unexplained(explanation: &Explanation) -> usize {
    explanation.total(Verdict::Unexplained).ranges
}

#[test]
fn each_site_has_what_its_slot_says() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        let explanation = own.explain();
        let found: Vec<_> = explanation.counts.iter().collect();
        let [(&("op", Verdict::Proven), count)] = *found else { panic!("{found:?}") };
        // 32-bit `ident` has only NOPs, and each site has some byte that is not in the file.
        assert_eq!(count.ranges, 9);
        let of = own.is(SAVE[0], "op", Verdict::Proven);
        assert_eq!(of.depends, "pv.save_fl = patchlet_native_save_fl");
        assert_eq!((of.file[0], &*of.seen, &*of.expected), (0xff, SAVE_FL, SAVE_FL));
        assert_eq!(of.function, "save_and_disable+0x1");
    }
}

/// Symbols are for names only.
#[test]
fn a_stripped_kernel_is_explained_as_well() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        own.sample = own.sample.stripped();
        let explanation = own.explain();
        assert_eq!(explanation.total(Verdict::Proven).ranges, 9, "{:x?}", explanation.list);
        assert_eq!(explanation.list.len(), 9);
        let first = &explanation.list[0];
        assert!(first.function.starts_with(".text+0x"), "{}", first.function);
    }
}

#[test]
fn every_kind_of_target_is_read_from_the_slot() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        // A function, null, the no-op function, a variant, and a jump.
        own.set_slot("patchlet_pv_ops", SAVE_FL_OP, own.sample.address_of("tick"));
        for number in SAVE {
            let call = own.call(number, 0xe8, "tick");
            own.fill(number, &call);
        }
        own.set_slot("patchlet_pv_ops", 0, 0);
        own.fill(DISABLE, &[&[0x0f, 0x0b][..], NOP4].concat());
        let nop = own.sample.address_of("patchlet_nop");
        own.set_slot("own_ops", 0, nop);
        let nop9 = [0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0];
        own.fill(INVLPG, &nop9);
        let rep = own.sample.address_of("patchlet_native_copy_rep");
        own.set_slot("own_ops", 1, rep);
        own.fill(TICK, &[&[0xf3, 0xa4][..], NOP4].concat());
        let leaves = own.sample.sites[LEAVE].0;
        let index = crate::sample::builtin(width).iter().position(|op| *op == leaves);
        own.set_slot("patchlet_pv_ops", index.expect("it is"), own.sample.address_of("tick"));
        let leave = own.call(LEAVE, 0xe9, "tick");
        own.fill(LEAVE, &leave);

        assert_eq!(unexplained(&own.explain()), 0, "{:x?}", own.explain().list);
        assert_eq!(own.explain().total(Verdict::Allowed).ranges, 0);
        for (number, depends) in [
            (SAVE[1], "pv.save_fl = tick"),
            (DISABLE, "pv.irq_disable = null"),
            (INVLPG, "tlb.flush_page = patchlet_nop (AMD)"),
            (TICK, "time.ticks_low = patchlet_native_copy_rep (ERMS !BROKEN)"),
        ] {
            assert_eq!(own.is(number, "op", Verdict::Proven).depends, depends);
        }
    }
}

#[test]
fn a_kernel_that_is_not_patched_has_a_name_for_that() {
    for width in WIDTHS {
        let own = Own::new(width);
        let explanation = own.explain();
        let found: Vec<_> = explanation.counts.iter().collect();
        let [(&("unpatched", Verdict::Allowed), count)] = *found else { panic!("{found:?}") };
        assert_eq!((count.ranges, count.bytes), (9, 0), "nothing differs from the file");
    }
}

/// Nothing of such a site differs from the file.
#[test]
fn a_site_that_was_left_indirect_is_found() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        let file = own.sample.clone().at(own.site(SAVE[2]))[..6].to_vec();
        own.fill(SAVE[2], &file);
        let of = own.is(SAVE[2], "left-indirect", Verdict::Unexplained);
        assert_eq!((&*of.expected, &*of.seen), (SAVE_FL, &*of.file));
        assert_eq!(unexplained(&own.explain()), 1);

        // One that is its op's only one, while another op of the same table is patched.
        own.patch();
        let file = own.sample.clone().at(own.site(TICK))[..6].to_vec();
        own.fill(TICK, &file);
        own.is(TICK, "left-indirect", Verdict::Unexplained);
        assert_eq!(unexplained(&own.explain()), 1);

        // All of an op: they can be a site set of their own.
        own.patch();
        for number in SAVE {
            let file = own.sample.clone().at(own.site(number))[..6].to_vec();
            own.fill(number, &file);
        }
        own.is(SAVE[0], "unpatched", Verdict::Allowed);
        assert_eq!(unexplained(&own.explain()), 0);
        // And not if one of them is patched.
        own.fill(SAVE[3], SAVE_FL);
        own.is(SAVE[0], "left-indirect", Verdict::Unexplained);
        assert_eq!(unexplained(&own.explain()), 3);
    }
}

#[test]
fn other_bytes_are_found_in_sites_and_outside() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        let site = own.site(SAVE[1]);
        for at in 0..6 {
            let mut bytes = SAVE_FL.to_vec();
            bytes[at] ^= 0x10;
            own.fill(SAVE[1], &bytes);
            let of = own.range_is(site, "op", Verdict::Unexplained);
            assert_eq!((&*of.expected, &*of.seen), (SAVE_FL, &*bytes));
            assert_eq!(unexplained(&own.explain()), 1);
        }
        // The form of another op, and a call of a function that the slot does not hold.
        own.fill(SAVE[1], &[&[0xfa][..], &NOP5].concat());
        own.range_is(site, "op", Verdict::Unexplained);
        let call = own.call(SAVE[1], 0xe8, "tick");
        own.fill(SAVE[1], &call);
        own.range_is(site, "op", Verdict::Unexplained);

        own.patch();
        let filler = own.sample.address_of("filler");
        let old = own.sample.clone().at(filler + 0x21)[0];
        own.put(filler + 0x21, &[old ^ 1]);
        let of = own.range_is(filler + 0x21, "none", Verdict::Unexplained);
        assert_eq!((&*of.file, &*of.expected, &*of.seen), (&[old][..], &[old][..], &[old ^ 1][..]));
        assert_eq!(of.function, "filler+0x21");
        assert_eq!(unexplained(&own.explain()), 1);
    }
}

#[test]
fn sites_can_wait_for_what_the_slot_holds() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        own.set_slot("patchlet_pv_ops", SAVE_FL_OP, own.sample.address_of("tick"));
        let of = own.is(SAVE[0], "pending", Verdict::Allowed);
        assert_eq!(
            of.depends,
            "pv.save_fl = tick; all its sites are as for patchlet_native_save_fl"
        );
        assert_eq!(unexplained(&own.explain()), 0);

        // They hold a call of a function that the slot does not hold.
        own.set_slot(
            "patchlet_pv_ops",
            SAVE_FL_OP,
            own.sample.address_of("patchlet_native_save_fl"),
        );
        for number in SAVE {
            let call = own.call(number, 0xe8, "tick");
            own.fill(number, &call);
        }
        own.is(SAVE[0], "pending", Verdict::Allowed);
        // One of them does not: neither it nor any other kind of site may.
        own.fill(SAVE[2], SAVE_FL);
        own.is(SAVE[2], "op", Verdict::Proven);
        own.is(SAVE[0], "op", Verdict::Unexplained);
        assert_eq!(unexplained(&own.explain()), 3);

        // A call of the middle of a function.
        for number in SAVE {
            let mut call = own.call(number, 0xe8, "tick");
            call[1] += 1;
            own.fill(number, &call);
        }
        assert_eq!(unexplained(&own.explain()), 4);
        // A single site that calls another function than the slot holds.
        own.patch();
        let call = own.call(TICK, 0xe8, "copy_short");
        own.fill(TICK, &call);
        // The function of a variant of the op: it may have been selected before.
        own.is(TICK, "pending", Verdict::Allowed);
        let call = own.call(TICK, 0xe8, "filler");
        own.fill(TICK, &call);
        own.is(TICK, "op", Verdict::Unexplained);
    }
}

/// Its sites then do what the slot says, and so they are proven.
#[test]
fn a_slot_that_holds_no_function_is_named() {
    let mut own = Own::new(Width::Bits64);
    own.patch();
    let note = "of 1 slots no function begins at the address that they hold, the first \
                time.ticks_low = 0x1140";
    let has_note = |own: &Own| own.explain().notes.iter().any(|of| of.starts_with(note));
    assert!(!has_note(&own), "{:?}", own.explain().notes);
    let (slot, data) = (own.sample.slot("own_ops", 1), own.sample.address_of("own_ops") + 8);
    own.point(slot, data);
    let mut call = jump(own.site(TICK), data).to_vec();
    call[0] = 0xe8;
    call.push(0x90);
    own.fill(TICK, &call);
    assert!(has_note(&own), "{:?}", own.explain().notes);
    own.is(TICK, "op", Verdict::Proven);
}

#[test]
fn branches_follow_their_keys() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        let [trace, debug, at_end] = own.sample.branches[..] else { panic!("three") };
        let (on, off) = (&[1, 0, 0, 0], &[0, 0, 0, 0]);
        let target = own.sample.clone();
        let land = |site: u64, sample: &Sample| {
            // The end of `traced` but for its last two bytes.
            let of = sample.symbols.iter().find(|of| of.name == "traced").expect("it");
            jump(site, of.address + of.size - 2)
        };
        // TRACE is turned on: its branch jumps.
        own.put(KEY_WORDS, on);
        own.put(KEY_WORDS + 4, &[1]);
        own.put(trace, &land(trace, &target));
        assert_eq!(own.range_is(trace, "branch", Verdict::Proven).depends, "TRACE = on");
        // A count of 3 is on: nothing differs.
        own.put(KEY_WORDS + 8, &[3, 0, 0, 0, 1]);
        assert_eq!(unexplained(&own.explain()), 0);
        // A count of 0 is off: one no longer jumps and the other does.
        own.put(KEY_WORDS + 8, &[0, 0, 0, 0, 0]);
        own.put(at_end, &NOP5);
        let cold = jump(debug, own.sample.address_of("traced.cold"));
        own.put(debug, &cold);
        own.range_is(debug, "branch", Verdict::Proven);
        own.range_is(at_end, "branch", Verdict::Proven);
        assert_eq!(unexplained(&own.explain()), 0);

        // Preset, and last applied for the other state: allowed; without that it is not.
        own.put(KEY_WORDS, off);
        own.range_is(trace, "pending", Verdict::Allowed);
        own.put(KEY_WORDS + 4, &[0]);
        own.range_is(trace, "branch", Verdict::Unexplained);
        own.put(KEY_WORDS, on);
        // A jump elsewhere.
        own.put(trace, &jump(trace, own.sample.address_of("tick")));
        own.range_is(trace, "branch", Verdict::Unexplained);
    }
}

/// Returns whether the sites of an op can hold these together: `o` is the old form, `n` the new one,
/// and `O` and `N` are INT3 and the tail of each.
fn can_be(sites: &str) -> bool {
    let first = |letter| sites.starts_with(letter);
    let is = |pattern: [char; 2]| {
        let rest = sites.trim_start_matches(pattern[0]).trim_start_matches(pattern[1]);
        rest.is_empty()
    };
    // Steps 2, 3 and 4; a revert that begins; before and after.
    (first('O') && is(['O', 'o']))
        || is(['N', 'O'])
        || (sites.ends_with('N') && is(['n', 'N']))
        || (first('N') && is(['N', 'n']))
        || sites == "oooo"
        || sites == "nnnn"
}

#[test]
fn a_live_batch_is_in_one_step() {
    for width in WIDTHS {
        let mut own = Own::new(width);
        own.patch();
        own.set_slot("patchlet_pv_ops", SAVE_FL_OP, own.sample.address_of("tick"));
        let mut can = 0;
        for number in 0..256_usize {
            let letters: String =
                (0..4).map(|at| ['o', 'O', 'N', 'n'][number >> (2 * at) & 3]).collect();
            for (site, letter) in SAVE.into_iter().zip(letters.chars()) {
                let mut bytes = match letter {
                    'o' | 'O' => SAVE_FL.to_vec(),
                    _ => own.call(site, 0xe8, "tick"),
                };
                if letter.is_uppercase() {
                    bytes[0] = 0xcc;
                }
                own.fill(site, &bytes);
            }
            let explanation = own.explain();
            let is_explained = unexplained(&explanation) == 0;
            assert_eq!(
                is_explained,
                can_be(&letters),
                "{width:?}, {letters}: {:x?}",
                explanation.list
            );
            can += usize::from(is_explained);
        }
        assert_eq!(can, 16);
    }
}

#[test]
fn all_sites_of_a_live_batch_are_in_the_same_step() {
    let mut own = Own::new(Width::Bits64);
    own.patch();
    let tick = own.sample.address_of("tick");
    own.set_slot("patchlet_pv_ops", SAVE_FL_OP, tick);
    own.set_slot("patchlet_pv_ops", 0, tick);
    // Two sites of the first op in step 4, and one of the second in step 2.
    for number in SAVE {
        let mut call = own.call(number, 0xe8, "tick");
        call[0] = if number >= SAVE[2] { 0xcc } else { 0xe8 };
        own.fill(number, &call);
    }
    own.fill(DISABLE, &[&[0xcc][..], &NOP5].concat());
    let of = own.is(SAVE[3], "live-batch", Verdict::Allowed);
    assert_eq!(of.depends, "pv.save_fl = tick; step 4 of a live switch");
    own.is(DISABLE, "op", Verdict::Unexplained);
    // A tail of nobody.
    own.fill(DISABLE, &[0xcc, 0x90, 0x90, 0x90, 0x90, 0x90]);
    own.is(DISABLE, "op", Verdict::Unexplained);
    // Both in step 4.
    let mut call = own.call(DISABLE, 0xe8, "tick");
    call[0] = 0xcc;
    own.fill(DISABLE, &call);
    assert_eq!(unexplained(&own.explain()), 0);
}

/// A CPU of 32 bit can run without page tables, and the register for them then says nothing.
#[test]
fn page_tables_count_only_if_they_are_in_use() {
    const TABLES: u64 = 0x10_0000;
    const PHYSICAL: u64 = 0x60_0000;
    const MOVED: u64 = 0x4000_0000;
    /// Where CR0 is in the core: behind the headers, the head of the note, and the other registers.
    const CR0: usize = 64 + 3 * 56 + 20 + 392;
    let mut own = Own::new(Width::Bits64);
    own.patch();
    let tables = page_tables(TABLES, TEXT + MOVED, PHYSICAL, &[true; 8]);
    let mut dump = core(&[(TABLES, &tables), (PHYSICAL, &own.memory)], TABLES);
    let file = own.sample.bytes();
    let model = Model::new(parse(&file).expect("an ELF file")).expect("a kernel");
    let explain = |dump: &[u8]| {
        let explanation = explain_running(&model, &file, dump, None, &[], true);
        explanation.unwrap_or_else(|error| panic!("{error}"))
    };
    let explanation = explain(&dump);
    assert_eq!((explanation.slide, explanation.has_page_tables), (MOVED, true));
    // What is mapped behind text, up to the end of the eighth page.
    let size = own.sample.section(".text").data.len();
    let elsewhere = format!(
        "{:#x} bytes that the kernel can execute are in no file, the first at {:#x}",
        0x8000 - size,
        TEXT + MOVED + size as u64
    );
    let notes = &explanation.notes;
    assert!(notes.iter().any(|note| note.contains(&elsewhere)), "{notes:?}");
    assert_eq!(dump[CR0 + 3], 0x80);
    dump[CR0 + 3] = 0;
    let explanation = explain(&dump);
    assert_eq!((explanation.slide, explanation.has_page_tables), (0, false));
    assert_eq!(unexplained(&explanation), 0);
}

#[test]
fn a_kernel_that_was_loaded_elsewhere_is_found() {
    const SLIDE: u64 = 0x77_3000;
    for width in WIDTHS {
        let mut sample = Own::sample(width).position_independent();
        assert_eq!(sample.file_kind, ET_DYN);
        if width == Width::Bits32 {
            // The operands of the sites are addresses, which the loader changes.
            let places: Vec<u64> = sample.sites.iter().map(|(_, site)| site + 2).collect();
            for place in places {
                let mut record = vec![];
                sample.put(&mut record, place);
                sample.put(&mut record, 8);
                sample.section_mut(".rel.dyn").data.extend(record);
            }
        }
        let before = Own::sample(width);
        let mut own = Own::of(sample, SLIDE);
        let (pointer, data) = (width.pointer_size(), before.section(".data").data.clone());
        for (at, word) in (DATA..).step_by(pointer as usize).zip(data.chunks(pointer as usize)) {
            let value = word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            own.point(at, value);
        }
        if width == Width::Bits32 {
            for (_, site) in own.sample.sites.clone() {
                let slot = before.clone().at(site + 2)[..4].to_vec();
                let slot = u32::from_le_bytes(slot.try_into().expect("four"));
                own.point(site + 2, slot.into());
            }
        }
        // Found at any address of physical memory, and by its pointers where it ran.
        let explain = |own: &Own| own.explain_at(RawAddress::Physical(0x20_0000));
        let explanation = explain(&own);
        assert_eq!(explanation.slide, SLIDE);
        assert_eq!(explanation.physical_distance, Some(0x10_0000));
        assert_eq!(unexplained(&explanation), 0, "{width:?}: {:x?}", explanation.list);
        assert_eq!(explanation.list[0].cause, "unpatched");
        own.patch();
        let explanation = explain(&own);
        assert_eq!(
            explanation.total(Verdict::Proven).ranges,
            9,
            "{width:?}: {:x?}",
            explanation.list
        );
        assert_eq!(explanation.total(Verdict::Allowed).ranges + unexplained(&explanation), 0);
        assert!(explanation.list.iter().all(|of| of.address == of.address_in_file + SLIDE));
    }
}
