//! States that a site may be in, of which the dump does not say why.

use super::compare::{Comparison, Group};
use crate::inspect::linux::tables::TableKind;
use crate::inspect::linux::text::{Cause, PatchedSite};

/// A return as it fills a site of five bytes.
const RETURN: &[u8] = &[0xc3, 0xcc, 0xcc, 0xcc, 0xcc];

impl Comparison<'_, '_> {
    /// Returns the cause if a site may be in another state than the expected one, and everything
    /// else in its group is as expected.
    pub(super) fn allowed(&self, group: &Group, site: &PatchedSite) -> Option<Cause> {
        let len = (group.end - group.start) as usize;
        let seen = self.located.bytes(group.start, len)?;
        let expected = self.text.expected(group.start, len)?;
        let start = (site.address - group.start) as usize;
        let others_are_as_expected = |len: usize| {
            let mut bytes = seen.iter().zip(expected).enumerate();
            bytes.all(|(at, (seen, expected))| {
                (start..start + len).contains(&at) || seen == expected
            })
        };
        let here = seen.get(start..)?;
        if here.first() == Some(&0xcc) && others_are_as_expected(1) && self.is_kprobe(site.address)
        {
            return Some(Cause::Kprobe);
        }
        match site.cause {
            Cause::Record(TableKind::Ftrace, _) => {
                let target = branch_target(site.address, here).filter(|_| here[0] == 0xe8)?;
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
                        let target = branch_target(site.address, here)?;
                        self.kernel.names.at(target).next().is_some()
                    }
                    _ => here.starts_with(RETURN),
                };
                (state && others_are_as_expected(5)).then_some(site.cause)
            }
            _ => None,
        }
    }

    /// Returns whether the expected text has a jump to a thunk for returns at an address.
    fn is_return_thunk(&self, address: u64) -> bool {
        let target = || branch_target(address, self.text.expected(address, 5)?);
        target().is_some_and(|target| {
            self.kernel.names.at(target).any(|name| name.ends_with("return_thunk"))
        })
    }

    /// Returns whether an address of the file is where the tracer is called: in the kernel, or in a
    /// trampoline that it has made, which is in no section of the file and begins as the code in
    /// the kernel does, of which it is a copy.
    fn is_tracer(&self, target: u64) -> bool {
        const CALLERS: &[&str] = &["ftrace_caller", "ftrace_regs_caller"];
        /// How many bytes of a trampoline are compared: those in front of what differs in each.
        const SAME: usize = 16;
        if self.kernel.names.is_one_of(target, CALLERS) {
            return true;
        }
        let running = target.wrapping_add(self.located.slide);
        if self.kernel.image.section_at(target).is_some() || !self.located.is_executable_at(running)
        {
            return false;
        }
        let Some(there) = self.located.virtual_bytes(running, SAME) else {
            // The dump does not have it, or no page tables.
            return self.located.pages.is_none();
        };
        let callers = CALLERS.iter().filter_map(|name| self.kernel.names.address(name));
        callers
            .filter_map(|caller| self.text.expected(caller, SAME))
            .any(|expected| expected == there)
    }

    /// Returns whether a breakpoint stands at an address of the file, and the kernel's list of
    /// probes has the address.
    pub(super) fn is_kprobe(&self, address: u64) -> bool {
        self.located.bytes(address, 1) == Some(&[0xcc]) && self.state.kprobes.contains(&address)
    }
}

/// Returns the target of the CALL or JMP of five bytes with which code begins.
fn branch_target(address: u64, code: &[u8]) -> Option<u64> {
    let [0xe8 | 0xe9, distance @ ..] = code.first_chunk::<5>()? else { return None };
    let distance = i64::from(i32::from_le_bytes(*distance));
    Some(address.wrapping_add(5).wrapping_add_signed(distance))
}
