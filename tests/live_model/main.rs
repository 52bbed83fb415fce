//! Switching live, as a model: what the real protocol stores and when it
//! synchronizes is recorded over plain memory, and every CPU that could run
//! beside it is explored.
//!
//! | file | proves |
//! |---|---|
//! | recording.rs | (the recorder: stores and synchronizations of the real writer) |
//! | explorer.rs | (the model of a CPU with a stale instruction stream) |
//! | protocol.rs | every pair of replacements: no CPU sees a mixture; the rule refuses what would break; eleven broken protocols are found |
//! | branches.rs | the same for static branches, alone and beside ops; changes of keys and slots |
//! | rule.rs | the rule as a property over random sites |
//! | admitted.rs | for which sites the rule is asked |
//! | put_back.rs | what a batch leaves that failed: the old first bytes |
//! | hook.rs | what #BP does in each step, late, and when it is somebody else's |
//! | members.rs | modules join, are switched with the others and leave; what is refused |
//! | joining.rs | what the platform is asked for when a member joins; texts that touch |
//! | member_list.rs | the list of members beside a hook, a batch and memory that is freed: every order of their steps, and broken ones that are found |
//! | writers.rs | three synchronizations; errors, before the first write and after; a second writer |
#![allow(unsafe_code)]
// Records are ±2 GiB from their sites and slots: memory is mapped for that.
#![cfg(not(miri))]

mod admitted;
#[path = "../engine/arena.rs"]
#[allow(dead_code)]
mod arena;
#[path = "../engine/branch_image.rs"]
#[allow(dead_code)]
mod branch_image;
mod branches;
mod explorer;
#[path = "../support/frame.rs"]
mod frame;
mod hook;
#[path = "../engine/image.rs"]
#[allow(dead_code)]
mod image;
mod joining;
mod member_list;
mod members;
#[path = "../engine/model.rs"]
#[allow(dead_code)]
mod model;
mod protocol;
mod put_back;
mod recording;
mod rule;
mod writers;
