//! States that a site may be in, of which the dump does not say why.

use super::compare::{Comparison, Group};
use crate::inspect::linux::rules::{TRACERS, decode, target_of_branch, thunk_register};
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, PatchedSite};

/// A return as it fills a site of five bytes.
const RETURN: &[u8] = &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc];

impl Comparison<'_, '_> {
    /// Returns the cause if a site may be in another state than the expected one, and everything
    /// else in its group is as expected. In the group `differing` bytes are not.
    pub(super) fn allowed(
        &self,
        group: &Group,
        site: &PatchedSite,
        differing: usize,
    ) -> Option<Cause> {
        let len = (group.end - group.start) as usize;
        let seen = self.located.bytes(group.start, len)?;
        let expected = self.text.expected(group.start, len)?;
        let start = (site.address - group.start) as usize;
        // Counted, for a made-up file can have many sites that overlap in one large group.
        let others_are_as_expected = |len: usize| {
            let bytes = seen.iter().zip(expected).skip(start).take(len);
            bytes.filter(|(seen, expected)| seen != expected).count() == differing
        };
        let here = seen.get(start..)?;
        if let Some(len) = self.kprobe_len(site.address)
            && others_are_as_expected(len)
        {
            return Some(Cause::Kprobe);
        }
        match site.cause {
            Cause::Record(TableKind::Ftrace, _) => {
                let target = target_of_branch(site.address, here).filter(|_| here[0] == 0xe8)?;
                (others_are_as_expected(5) && self.is_tracer(target)).then_some(site.cause)
            }
            // A call without a function was made a return before or after the kernel chose a thunk
            // for returns.
            Cause::Record(TableKind::StaticCalls, _)
                if here.starts_with(RETURN)
                    && self.is_return_thunk(site.address)
                    && others_are_as_expected(5) =>
            {
                Some(site.cause)
            }
            Cause::Record(TableKind::StaticCalls, _) if !site.decided => {
                let here = here.first_chunk::<5>()?;
                let state = match *here {
                    [0xe9, ..] => {
                        let target = target_of_branch(site.address, here)?;
                        self.kernel.names.at(target).next().is_some()
                    }
                    _ => here.starts_with(RETURN),
                };
                (state && others_are_as_expected(5)).then_some(site.cause)
            }
            Cause::Record(TableKind::Retpolines, _) => {
                let len = usize::try_from(site.len).ok()?;
                let here = here.get(..len)?;
                (self.is_made_thunk(site.address, here) && others_are_as_expected(len))
                    .then_some(site.cause)
            }
            _ => None,
        }
    }

    /// Returns whether code at a retpoline's site leads to a thunk that the kernel has made: one
    /// that does nothing but jump to the register of the thunk in the file. Such thunks lie where
    /// a fault of the CPU ("ITS") does not matter, and are made for each site.
    fn is_made_thunk(&self, site: u64, seen: &[u8]) -> bool {
        let width = self.kernel.image.width();
        let file = self.text.file(site, seen.len() as u64).unwrap_or_default();
        let Some(instruction) = decode(width, site, file) else { return false };
        let thunk = instruction.near_branch_target();
        let Some(register) = thunk_register(&self.kernel.names, thunk) else { return false };
        // A prefix makes a branch as long as it was. A jump on a condition is too short for another.
        let skipped = seen.iter().take_while(|&&byte| byte == 0x2e).count();
        let opcode = if instruction.is_call_near() { 0xe8 } else { 0xe9 };
        let Some(branch) = seen.get(skipped..).filter(|code| code.first() == Some(&opcode)) else {
            return false;
        };
        let rest = branch.get(5..).unwrap_or_default();
        let is_filled = rest.iter().all(|&byte| byte == 0xcc || byte == 0x90);
        let Some(target) = target_of_branch(site + skipped as u64, branch) else { return false };
        // JMP *%reg, with REX.B for the upper eight.
        let mut jump = vec![0x41; usize::from(register >> 3)];
        jump.extend([0xff, 0xe0 | (register & 7)]);
        is_filled && self.is_made_code(target, &jump) == Some(true)
    }

    /// Returns whether an address of the file is in code that the kernel has made, which is outside of
    /// its own memory, can be executed, and begins with these bytes; `None` if the dump has neither it
    /// nor page tables. The pages of the kernel's text have room behind it, where nothing is made.
    fn is_made_code(&self, target: u64, begins: &[u8]) -> Option<bool> {
        let running = target.wrapping_add(self.located.slide);
        if self.bounds.contains(&target) || !self.located.is_executable_at(running) {
            return Some(false);
        }
        match self.located.virtual_bytes(running, begins.len()) {
            Some(there) => Some(there == begins),
            None => self.located.pages.map(|_| false),
        }
    }

    /// Returns whether the expected text has a jump to a thunk for returns at an address.
    fn is_return_thunk(&self, address: u64) -> bool {
        let target = || target_of_branch(address, self.text.expected(address, 5)?);
        target().is_some_and(|target| {
            self.kernel.names.at(target).any(|name| name.ends_with("return_thunk"))
        })
    }

    /// Returns whether an address of the file is where the tracer is called: in the kernel, or in a
    /// trampoline that it has made, which begins as the code in the kernel does, of which it is a
    /// copy.
    fn is_tracer(&self, target: u64) -> bool {
        /// How many bytes of a trampoline are compared: those in front of what differs in each.
        const SAME: usize = 16;
        if self.kernel.names.is_one_of(target, TRACERS) {
            return true;
        }
        let callers = TRACERS.iter().filter_map(|name| self.kernel.names.address(name));
        let mut begins = callers.filter_map(|caller| self.text.expected(caller, SAME));
        begins.any(|begins| self.is_made_code(target, begins) != Some(false))
    }

    /// Returns how many bytes a probe has changed at an address that the kernel's list of probes
    /// has: one for a breakpoint, five for a jump to the copy of the code that calls the probe, of
    /// which the kernel has a template.
    pub(super) fn kprobe_len(&self, address: u64) -> Option<usize> {
        /// How many bytes of the copy are compared: three PUSHes, in front of what differs.
        const SAME: usize = 4;
        if !self.state.kprobes.contains(&address) {
            return None;
        }
        match *self.located.bytes(address, 1)? {
            [0xcc] => Some(1),
            [0xe9] => {
                let target = target_of_branch(address, self.located.bytes(address, 5)?)?;
                let template = self.kernel.names.address("optprobe_template_entry")?;
                let begins = self.text.file(template, SAME as u64).or_else(|| {
                    // In read-only data, as newer kernels have it.
                    self.kernel.image.bytes_at(template, SAME as u64)
                })?;
                (self.is_made_code(target, begins) != Some(false)).then_some(5)
            }
            _ => None,
        }
    }
}
