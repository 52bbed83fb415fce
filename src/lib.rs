//! Instruction patching for x86 kernels, 32 and 64 bit.
//!
//! A kernel that can run under a hypervisor reaches its privileged operations
//! (disable interrupts, read CR2, write CR3, release a spinlock, …) through a table
//! of function pointers, so that the hypervisor can replace them. On bare metal that
//! costs an indirect call for what is one instruction. This crate puts the
//! instruction where the call is, at boot or while all CPUs run, and takes it away
//! again when the table changes.
//!
//! What else a kernel decides over and over is decided in its text by the same engine: what is
//! done in another way on another CPU ([`guide::variants`]), a branch that is nearly always off
//! ([`guide::branches`]), a hypervisor's layer of any signature ([`guide::signatures`]), all of
//! that in code that is loaded later ([`guide::modules`]). Code that is copied whole, into a page
//! of hypercalls say, is kept in the same way ([`guide::blobs`]).
//!
//! The instructions are not typed in hex and not hidden in inline assembly. They are
//! real assembly in `.S` files, between labels, in a section that no optimizer
//! touches: the third way of a mail to the Linux kernel list, after the other two had
//! failed (Ingo Molnar, 25 April 2019, "Re: \[patch 3/3\] x86/paravirt: Replace
//! paravirt patch asm magic").
//!
//! How a kernel adopts it is told by the [`guide`]; this page explains the words.
//!
//! # Words
//!
//! What there is to patch:
//!
//! | word | meaning |
//! |---|---|
//! | patchlet | A native instruction sequence that is kept as data, written as real assembly between two global labels: [`Patchlet`]. |
//! | blob | A patchlet that is not for sites but is copied whole and entered in the copy: [`Blob`]. |
//! | place, offset | A point in a blob that has a name, and the number of bytes before it. |
//! | hole | An operand in a blob that is filled in each copy: [`blobs!`]. |
//! | contract | The comment above a patchlet. It says what the patchlet takes, gives and changes, and the tool proves it. |
//! | operation (op) | One thing that a kernel does and that a hypervisor may want to do in another way: [`ops::Op`]. |
//! | ops table | The table that says what each op does at present, with one slot for each op: [`ops::Table`]. |
//! | slot | One function pointer of an ops table. Sites that are not patched call through it. |
//! | target | What a slot holds: a function, or null: [`ops::Target`]. |
//! | native function | The function that a slot holds at first: the instructions of the patchlet, and a return. |
//! | variant | One way to do an op, with the condition under which it may be chosen: [`ops::Variant`]. |
//! | default | What an op does if no variant is eligible: its native function. |
//! | selecting | Putting the last eligible variant of each op into its slot: [`ops::Table::select`]. |
//! | no-op, identity, return 0 | Three functions that the crate knows, and for which a site needs no call: [`ops::Target::NOP`], [`ops::Target::IDENT`], [`ops::Target::ZERO`]. |
//! | trap | The instruction `ud2`, which a site gets whose slot is null. |
//! | ABI class | It says which registers the functions in a slot may change: [`ops::Abi`]. |
//! | signature, value | The arguments and the result of an op, and one of them: [`ops::Signature`], [`ops::Value`]. |
//! | thunk | A piece of assembly that lets a Rust function keep to an ABI class: [`slot_fn!`]. |
//! | feature | One thing that a CPU has or has not, that is switched on or not, or that a kernel knows about itself: [`cpu::Feature`]. |
//! | requirement, condition | A feature that must be there, or must not: [`cpu::Requirement`]. A condition is several of them. |
//! | trampoline | The function of an op of any signature: a site that jumps, and a return: [`guide::signatures`]. |
//! | layer | The functions that a hypervisor's support code puts into slots in one call: [`pv::install`]. |
//!
//! Where it is patched:
//!
//! | word | meaning |
//! |---|---|
//! | text | The memory in which the kernel's code is, and with it all sites: one range, or several pieces. |
//! | site | The place in text where an op or a static branch stands: [`site`]. |
//! | static branch | A branch whose direction is in the text, as a NOP or a jump: [`branch!`]. Its record has a *target*, where it jumps. |
//! | key | What decides the direction of static branches, as a slot decides what an op does: [`branch::Key`], or [`branch::CountedKey`], which counts those who want it on. |
//! | capacity | How many bytes a site has. |
//! | kind | It says whether a site is a call, which comes back, or a jump, which does not: [`Kind`]. |
//! | record | What assembly writes about a site, beside it, into a section of its own: [`site::Record`]. |
//! | subject, number | What a record says its site belongs to, as an address and a number. For an op these are its slot and its index; for a branch its key, and 0. |
//! | table of records | The records of one kind in a linked file: [`Sites`]. |
//! | index | The names and lengths of all patchlets in a linked file, for files without symbols. (The index of an op is its place in its table.) |
//! | module | Code that a kernel loads while it runs, as one linked object: [`guide::modules`]. |
//! | site set | All sites of one linked object, a kernel or a module: [`SiteSet`], made by [`site_set!`]. What its sites were last patched for belongs to it. |
//! | part | A table of records in a site set, and the front end that knows these records: [`text::Part`]. |
//! | withdrawn site | A site in code that was freed. It is neither read nor written any more: [`SiteSet::withdraw`]. |
//!
//! What a site gets:
//!
//! | word | meaning |
//! |---|---|
//! | replacement | What a site gets or holds, as a value: indirect call or jump, patchlet, direct call, direct jump, NOPs, identity, return 0, trap: [`Replacement`]. |
//! | choice | The rules by which what a slot holds becomes a replacement: [`choose::Choice`]. |
//! | original | What the assembler wrote at a site: the indirect call or jump through the slot, or the direction in which the key of a branch starts. |
//! | last applied | What the sites of a set were last patched for. They still hold it when they are patched again. |
//! | ahead of boot | What the tool may have put into a site before the kernel ran. |
//! | instruction buffer | The place where the new bytes of one site are composed before they are written, once: [`InsnBuffer`]. |
//! | composing | Making bytes of a replacement: its instructions with their operand, and the fewest NOPs behind them. |
//! | instructions | A replacement as bytes, with no operand yet and no NOPs. |
//! | operand | The last four bytes of a branch, by which it names where it goes: a displacement or an address. |
//! | displacement | An operand that counts from the end of the branch, and so is another one at each site. |
//! | form | The first six bytes of all sites of a class, with a hole where the displacement goes. |
//! | head | The first six bytes of one site, as a number. Most sites have no more. |
//! | width | 32-bit or 64-bit code: [`Width`]. |
//!
//! How it is patched:
//!
//! | word | meaning |
//! |---|---|
//! | engine | What checks sites and writes to them: [`text`] and [`live`]. It knows neither ops nor keys. |
//! | front end, source | What tells the engine what a record stands for. The trait is [`text::Source`]; ops tables and branches are two implementations, [`ops::OpSource`] and [`branch::BranchSource`]. |
//! | class | All sites of a set with the same subject, number, capacity and kind. They get the same bytes, but for a displacement. |
//! | recipe | What a front end says of a class: what its sites get, and what they may hold before: [`text::Recipe`]. |
//! | change | A value that says what a key or a slot is to be: [`text::Change`]. A writer makes a list of them and patches their sites as one transaction. |
//! | batch | The sites that are patched together, and the time from the first to the last of them. It follows what slots and keys said when it began. |
//! | follow | It says which moment counts for a recipe: now, the start of the batch, or what the assembler wrote: [`text::Follow`]. |
//! | goal | What a caller wants of all sites: patched, or original again: [`Goal`]. |
//! | platform | What a kernel tells the patcher: where text is, how it can be written, and what its CPUs can do: [`Platform`]. |
//! | alias | A second address of the same memory, at which text can be written. |
//! | serializing | Making a CPU forget the instructions that it has fetched before. A [`Serializer`] is the instruction that does it. |
//! | patcher | What patches a site set while one CPU runs: [`Patcher`]. |
//! | plan, outcome | What patching would do, without doing it, and its part for one site: [`text::Plan`], [`text::Outcome`]. |
//! | report | How many sites have which replacement: [`text::Report`]. |
//! | run | One pass over a site set: the set, the platform, and what to follow. |
//! | checked site | A site whose record was checked. Every access to text goes through one. |
//! | contents | What a checked site was found to hold: the new bytes, the original, something else that it may hold, or something unknown. |
//! | view | Where a site is read: at its own address, or at its alias. |
//! | fault | What is wrong, before an error is made of it: of a record, as a front end says it ([`text::RecordFault`]); of a site; of a table. |
//! | search | How overlapping sites are looked for in a set: not at all, if its records are sorted. |
//!
//! While all CPUs run:
//!
//! | word | meaning |
//! |---|---|
//! | switching | Patching while all CPUs run, one batch at a time: [`live`]. |
//! | INT3 protocol, rendezvous | The two ways to switch a batch: [`live::Int3`], [`live::Rendezvous`]. |
//! | writer | The one CPU that switches a batch. |
//! | first byte, tail | The two parts in which the INT3 protocol writes a site. |
//! | member | The place of a module's site set in the list of a [`live::Live`]: [`live::Member`]. |
//! | joining, leaving | What a member does before its sites are switched with the kernel's, and when it is not any more: [`live::Live::join`], [`live::Live::leave`]. |
//! | hook | What the kernel's #BP handler calls: [`live::Live::handle`]. |
//! | emulation | How the hook makes a CPU go on that trapped at a site: by a call, by a jump, or behind the site: [`text::Emulation`]. |
//! | rule, boundary | Which sites may change while a thread may be inside, and where in a site a thread can be: [`live::admit`]. |
//!
//! In the tool, the modules `inspect` and `contract`:
//!
//! | word | meaning |
//! |---|---|
//! | image | A file as the tool read it. A type that ends in `Image` is one of the things above as it stands in a file. |
//! | format | One kind of table in a file: of patchlets, of sites, of ops. |
//! | model | All that a file says of patchlets, sites, ops tables and keys. |
//! | means | What `ops!` was told of an op or a variant: a patchlet, a function, or nothing. |
//! | form of a branch site | Its NOP, or its jump. |
//! | out of line | The side of a branch that is behind its jump. |
//! | CPU model | What CPUID says on one kind of CPU, under a name that QEMU has for it. |
//! | mode, stretch | What the bytes of a blob are, code of 16, 32 or 64 bit or data, and a part of it with one mode. |
//! | sweep | Reading all of text, instruction by instruction. |
//! | finding, code | One thing that is wrong with a file, and the stable name of its kind. (The code of an [`Error`] is such a name, too.) |
//! | reference | What a file is compared with: the built-in patchlets, another object, contracts. |
//! | dump | A file with the memory of a machine. |
//! | slide | The distance from an address in a kernel's file to the one in the running kernel. |
//! | cause, verdict | Why bytes of text differ from the file, and how sure that is. |
//! | inferred feature | A feature of the CPU that is taken from what most sites that depend on it are. |
//! | habit | What Linux kernels of one age do and others do not, when they patch themselves. |
//! | group | The sites of one op or key in one linked object. They are patched together, so that what one may hold follows from the others. |
//! | form of a site in memory | What its slot or key asks for, what another target or state would ask for, or the original. |
//! | oops | The lines that Linux prints when it crashes; with them code, as bytes. |
//! | form of a Linux site | The bytes that a site of Linux can have, with the state in which it has them. |
//! | edit | The bytes of one site that a patched copy of a file gets. |
//! | breach, contradiction | What a patchlet does that its contract does not say; a contract that does not fit its op. |
//!
//! # From assembly to text
//!
//! Data flows one way, and so do the imports.
//!
//! ```text
//! asm/*.S ─cc→ object ─link→ labels ─→ patchlet ─┐
//! ops tables: what each op does now ─────────────┴→ choose ─┐
//! keys of branches: which are on now ───────────────────────┴→ recipe ─┐
//! asm! and .S sites ─cc, link→ records ─→ site ────────────────────────┴→ insn ─→ text, live ─→ sites
//! ```
//!
//! The tool goes the same way with a linked file: `inspect` reads these records, makes these choices,
//! composes in the same buffer, and gives findings and plans.
//!
//! | module | what it knows |
//! |---|---|
//! | [`patchlet`](mod@patchlet) | labels and bytes; no site, no CPU |
//! | [`blob`] | offsets and holes; no site, no CPU |
//! | [`site`] | records and the macros that emit sites |
//! | [`insn`] | instructions as values and bytes; no memory |
//! | [`choose`] | what a slot holds → a replacement |
//! | [`cpu`] | features of CPUs; no op, no text |
//! | [`ops`](mod@ops) | tables, slots, functions for slots; no address in text |
//! | [`branch`](mod@branch) | keys, branches; no address in text |
//! | [`text`] | the only reads and writes of text |
//! | [`live`] | the two protocols and the hook |
//! | [`error`] | what was refused, with its values |
//!
//! # What the kernel must guarantee
//!
//! To patch at boot:
//! - The linked file has the sections of the crate, as read-only data ([`guide::linking`]).
//! - What [`Platform`] asks of a mapping: readable text, and an alias that is the
//!   same memory.
//! - Functions in slots keep to the ABI class of their op ([`pv::install`]).
//! - While text is written, one CPU runs, and no interrupt, NMI or machine-check handler uses
//!   an op or a branch ([`OneCpu`]).
//! - Code has no red zone where interrupts are taken on the same stack, as in every
//!   x86 kernel: `x86_64-unknown-none` has none.
//!
//! The [`guide`] has the whole list, and [`guide::live`] what switching live asks for.
//!
//! # What it does not do
//!
//! It does not decide anything by itself: the kernel says when features are detected and
//! [variants](guide::variants) selected, and it finds out by itself which hypervisor it runs under.
//! It does not order memory: a [static branch](guide::branches) says where the CPU goes on, and
//! not what it sees there.
//!
//! # Features
//!
//! - none: `no_std`, no allocation, no dependency at run time.
//! - `build`: the module `assemble`, for build scripts of kernels with patchlets of their own.
//! - `inspect`: the tool `patchlet` and its library, the modules `inspect` and `contract`, which
//!   read linked files.
//! - `ibt`: functions for slots begin with ENDBR, for indirect branch tracking.
#![cfg_attr(not(any(feature = "build", feature = "inspect")), no_std)]
// The modules that need the labels of assembled patchlets are there for x86 targets with ELF
// objects only. On another host the tool and `assemble` use a part of what remains.
#![cfg_attr(not(patchlet_assembled), allow(dead_code, unused_imports))]
// docs.rs: each item says for which feature or width it is.
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "build")]
pub mod assemble;
#[cfg(patchlet_assembled)]
pub mod blob;
#[cfg(patchlet_assembled)]
pub mod branch;
pub mod choose;
#[cfg(feature = "inspect")]
pub mod contract;
pub mod cpu;
#[cfg(feature = "inspect")]
mod disassemble;
pub mod error;
pub mod insn;
#[cfg(feature = "inspect")]
pub mod inspect;
#[cfg(any(feature = "build", feature = "inspect"))]
#[cfg_attr(
    not(feature = "inspect"),
    allow(dead_code, reason = "a build script that needs it says so")
)]
mod labels;
#[cfg(patchlet_assembled)]
pub mod live;
#[cfg(patchlet_assembled)]
pub mod ops;
#[cfg(patchlet_assembled)]
pub mod patchlet;
pub mod site;
#[cfg(patchlet_assembled)]
pub mod text;

#[cfg(patchlet_assembled)]
pub use blob::{Blob, FillError, Filled};
pub use error::Error;
pub use insn::{ComposeError, InsnBuffer, Kind, Nops, Replacement, Width};
#[cfg(patchlet_assembled)]
pub use ops::{cpu_ops, pv};
#[cfg(patchlet_assembled)]
pub use patchlet::{Patchlet, cpu_native, native};
pub use site::Sites;
#[cfg(patchlet_assembled)]
pub use text::{
    Goal, OneCpu, Patcher, Platform, Report, SecondMapping, Serializer, SiteSet, Writable,
    WriteProtectOff,
};

/// The code in the pages that are not part of this documentation, compiled.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/tool.md")]
    mod tool {}
    #[doc = include_str!("../docs/benchmarks.md")]
    mod benchmarks {}
    #[doc = include_str!("../docs/mutants.md")]
    mod mutants {}
    #[doc = include_str!("../docs/reliability.md")]
    mod reliability {}
    #[doc = include_str!("../docs/stripped.md")]
    mod stripped {}
    #[doc = include_str!("../docs/survival.md")]
    mod survival {}
}

// In the files these links lead to other files, and here to modules: the first definition
// of a link counts.
/// [blobs]: guide::blobs
/// [branches]: guide::branches
/// [features]: guide::features
/// [linking]: guide::linking
/// [live]: guide::live
/// [modules]: guide::modules
/// [neighbours]: guide::neighbours
/// [patchlets]: guide::patchlets
/// [signatures]: guide::signatures
/// [variants]: guide::variants
#[doc = include_str!("../docs/guide.md")]
pub mod guide {
    #[doc = include_str!("../docs/blobs.md")]
    pub mod blobs {}

    /// [branches]: branches
    #[doc = include_str!("../docs/engine.md")]
    pub mod engine {}

    /// [variants]: variants
    #[doc = include_str!("../docs/branches.md")]
    pub mod branches {}

    /// [variants]: variants
    #[doc = include_str!("../docs/features.md")]
    pub mod features {}

    /// [blobs]: blobs
    #[doc = include_str!("../docs/linking.md")]
    pub mod linking {}

    /// [branches]: branches
    #[doc = include_str!("../docs/live.md")]
    pub mod live {}

    /// [linking]: linking
    #[doc = include_str!("../docs/modules.md")]
    pub mod modules {}

    /// [live]: live
    #[doc = include_str!("../docs/neighbours.md")]
    pub mod neighbours {}

    /// [neighbours]: neighbours
    #[doc = include_str!("../docs/patchlets.md")]
    pub mod patchlets {}

    /// [variants]: variants
    #[doc = include_str!("../docs/signatures.md")]
    pub mod signatures {}

    /// [live]: live
    #[doc = include_str!("../docs/variants.md")]
    pub mod variants {}
}
