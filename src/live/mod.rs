//! Switching live: a kernel that runs on all its CPUs changes what its ops do,
//! and every site follows. Two protocols, and the hook for #BP.
//!
//! While one CPU stores to text, another one may fetch from it: it can see some
//! of the new bytes and some of the old ones, and it can have old bytes in its
//! pipeline for as long as it executes no serializing instruction (Intel SDM
//! vol. 3A §8.1.3, "Handling Self- and Cross-Modifying Code"). What a CPU makes of
//! a mixture is anything. So either no CPU gets to the site while it changes, or
//! every CPU that does meets one byte which is whole at all times: INT3.
//!
//! | | [`Int3`] | [`Rendezvous`] |
//! |---|---|---|
//! | other CPUs | run on; one that gets to a site of the batch traps and goes on | wait, outside every site |
//! | held up for | one trap for each use of a site, as long as the batch is written | the whole batch |
//! | replacements | those that leave a suspended thread what it needs, see below | all |
//! | the kernel supplies | [`LivePlatform`], [`Synchronize`], [`TrapFrame`] and the call from #BP | [`Platform`](crate::Platform), [`StopOthers`] |
//!
//! # The INT3 protocol
//!
//! A batch is all sites whose bytes change. Nothing is allocated for it, as no list of
//! them is needed: the records, what the slots held at the start, and the INT3s in
//! text tell which sites those are. Three synchronizations, whatever the number of sites:
//!
//! 1. Publish the batch: from here on [`Live::handle`] answers for its sites.
//! 2. Write INT3 over each first byte. Synchronize: every CPU traps at the sites.
//! 3. Write the tails, all bytes but the first. Synchronize: no CPU has an old
//!    tail any more.
//! 4. Write the first bytes. Synchronize: no CPU has an INT3 any more.
//! 5. Retire the batch, once no CPU is in the hook.
//!
//! ```text
//!             1        2                3                4               5
//!  text    e8 A A A A  cc A A A A       cc B B B B       e8 B B B B
//!             publish  ────── sync 1 ──────── sync 2 ────────── sync 3 ── retire
//!  a CPU   old │  old, or trap │      trap     │  trap, or new  │  new
//! ```
//!
//! A CPU that traps executes the *new* replacement: the old one may have been
//! switched off for a reason, and a CPU that goes on with the new bytes a moment
//! later must not go back. The hook does what the unpatched site would do: it
//! calls, or jumps to, the function in the slot. Each replacement is that function
//! in a shorter form; a patchlet's out-of-line copy is its op's native function.
//! The emulated call returns behind the whole site, never into it.
//!
//! Sites change one by one, each from old to new at one moment per CPU. Two ops
//! that must change in one moment (a virtual interrupt flag: the one that sets it
//! and the one that reads it) need [`Rendezvous`].
//!
//! # Who may be inside
//!
//! INT3 keeps CPUs from entering a site; it does not get them out. A thread can
//! be inside, for as long as it likes:
//! - in a function that the site called: it returns behind the call, which is the
//!   middle of whatever is longer (`call rel32` has 5 bytes, the indirect call 6);
//! - interrupted between two instructions, `cli` and the NOP behind it.
//!
//! So there is a rule, [`admit`], and [`Int3::new`] keeps it: from the first place on
//! at which a thread can be, the new bytes are the old ones; and a thread that stays
//! there must be in the rule's sight at the next switch, too ([`admit`] has an
//! example). Otherwise there is an error before the first write. The crate does not
//! know where the instructions of a patchlet end, so it assumes that the first one has
//! one byte.
//!
//! | from | may become |
//! |---|---|
//! | indirect call of 6 bytes, jumps, trap, one NOP | everything |
//! | direct call | another direct call |
//! | indirect call of more than 6 bytes, several NOPs | what has the same bytes from the first boundary on: hardly anything |
//! | patchlet | a patchlet that differs in the first byte only |
//!
//! For the rest: [`Rendezvous`], or [`Int3::with_nobody_inside`] in a kernel whose
//! synchronization waits until each thread has been outside.
//!
//! # Modules
//!
//! The sets of a [`Live`] are those of the kernel. That of a module comes when it is loaded
//! ([`Live::join`]), is switched with the others from then on, and goes when it is unloaded
//! ([`Live::leave`]); [`guide::modules`](crate::guide::modules) tells how.
//!
//! # What it does not do
//!
//! - Ops of [`Abi::Assembly`](crate::ops::Abi::Assembly) are refused by INT3: their
//!   sites stand where there may be no stack to trap on (`swapgs` after SYSCALL).
//! - When a switch returns no CPU begins an old replacement any more; one may still
//!   be in an old *function*. Unloading it is the kernel's to delay.
//! - Shadow stacks (CET) are the business of [`TrapFrame::push`].
//! - An NMI handler with sites can trap, and the IRET of that trap lets the next
//!   NMI in (Intel SDM vol. 3A, "Handling Multiple NMIs"): the kernel's entry code
//!   must stand that, or its NMI handler have no site.

mod hook;
mod int3;
mod join;
mod member;
mod rendezvous;
mod rule;

pub use hook::{Handled, Live, TrapFrame};
pub use int3::{BatchStep, Int3, LivePlatform, Synchronize};
pub use member::Member;
pub use rendezvous::{Rendezvous, StopOthers};
pub use rule::admit;

/// The one-byte breakpoint instruction.
pub const INT3: u8 = 0xcc;
