//! The pure engine and the patcher at boot, on the host: plain memory instead of
//! a kernel, and a dumb model, written from the rules and not from the code, that
//! says for every byte what it must be.
//!
//! | file | proves |
//! |---|---|
//! | choose.rs | rules 1 to 6, in this order, for every op alike |
//! | compose.rs | every byte of a composed site, by the model and by a disassembler |
//! | apply.rs | apply, re-apply, revert and plan over random programs |
//! | builtin.rs | the same with the built-in table |
//! | bad_input.rs | each error, its values and its text; no byte changed |
//! | contents.rs | what a site may hold, where not all of it can be composed |
//! | read_back.rs | platforms that break their contract; what was written is put back |
//! | site_table.rs | which record has a target in which table |
//! | symptoms.rs | bugs others had, each by its name |
//! | writes.rs | the very stores, traced: each byte once; the serializing instruction |
//! | branches.rs | static branches, and changes of keys and slots as transactions |
//! | keys.rs | the records of keys, and keys that are preset |
//! | followed.rs | changes that nothing follows are refused, by each writer |
//! | front_end.rs | the seam: a second front end, which is no op's |
//! | overlap.rs | overlaps in any order of the records, against a dumb model |
//! | withdrawn.rs | text in two pieces; sites of code that was freed |
//! | writers_agree.rs | boot, INT3 and rendezvous: the same text; sets of one table |
//! | variants.rs | variants by CPU feature: slots and bytes, by all writers |
//! | header.rs | the op indices of patchlet.h |
#![allow(unsafe_code)]

#[cfg(not(miri))]
mod apply;
#[cfg(not(miri))]
mod arena;
#[cfg(not(miri))]
mod bad_input;
#[cfg(not(miri))]
mod branch_image;
#[cfg(not(miri))]
mod branches;
#[cfg(not(miri))]
mod builtin;
mod choose;
mod compose;
#[cfg(not(miri))]
mod contents;
#[cfg(not(miri))]
mod followed;
#[cfg(not(miri))]
mod front_end;
mod header;
#[cfg(not(miri))]
mod image;
#[cfg(not(miri))]
mod keys;
mod model;
#[cfg(not(miri))]
mod overlap;
#[cfg(not(miri))]
mod platforms;
#[cfg(not(miri))]
mod read_back;
#[cfg(not(miri))]
mod site_table;
#[cfg(not(miri))]
mod symptoms;
#[cfg(not(miri))]
mod variants;
#[cfg(not(miri))]
mod withdrawn;
#[cfg(not(miri))]
mod writers_agree;
#[cfg(not(miri))]
mod writes;

#[path = "../support/table.rs"]
#[allow(dead_code)]
mod table;
