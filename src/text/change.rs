//! Changes: what decides is set and text is patched in one transaction.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// A change of something that decides what sites get: of a key or a slot. Front ends make the
/// value; [`Patcher::change`](crate::Patcher::change) and the writers of [`live`](crate::live)
/// make the change, and patch its sites.
///
/// A change that was made becomes the one that undoes it.
#[derive(Debug)]
#[must_use = "a writer makes the change"]
pub struct Change<'a>(Setting<'a>);

/// A thing that is changed, and what it is to be.
#[derive(Debug)]
enum Setting<'a> {
    /// A slot, and the address it is to hold.
    Address(&'a AtomicPtr<()>, *mut ()),
    /// A key that is on or off, and which of the two it is to be.
    Flag(&'a AtomicU32, bool),
    /// A counted key, and whether it is to count one more or one less.
    Count(&'a AtomicU32, bool),
}

impl<'a> Change<'a> {
    pub(crate) const fn of_address(slot: &'a AtomicPtr<()>, address: *const ()) -> Self {
        Self(Setting::Address(slot, address.cast_mut()))
    }

    pub(crate) const fn of_flag(flag: &'a AtomicU32, on: bool) -> Self {
        Self(Setting::Flag(flag, on))
    }

    pub(crate) const fn of_count(count: &'a AtomicU32, up: bool) -> Self {
        Self(Setting::Count(count, up))
    }

    /// Returns the address of what is changed: the subject of the records of its sites.
    pub(super) fn subject(&self) -> usize {
        match &self.0 {
            Setting::Address(slot, _) => core::ptr::from_ref(*slot).addr(),
            Setting::Flag(number, _) | Setting::Count(number, _) => {
                core::ptr::from_ref(*number).addr()
            }
        }
    }

    /// Makes the change, which becomes the one that undoes it.
    ///
    /// # Errors
    /// Returns the count, if it can neither go on up nor go on down; nothing has changed then.
    fn make(&mut self) -> Result<(), u32> {
        match &mut self.0 {
            Setting::Address(slot, address) => *address = slot.swap(*address, Ordering::AcqRel),
            Setting::Flag(flag, on) => *on = flag.swap((*on).into(), Ordering::AcqRel) != 0,
            Setting::Count(count, up) => {
                let step =
                    |count: u32| if *up { count.checked_add(1) } else { count.checked_sub(1) };
                count.fetch_update(Ordering::AcqRel, Ordering::Acquire, step)?;
                *up = !*up;
            }
        }
        Ok(())
    }
}

/// Makes all these changes, in their order.
///
/// # Errors
/// Returns the position of the first that cannot be made, and its count. Those before it are undone.
pub(super) fn make(changes: &mut [Change<'_>]) -> Result<(), (usize, u32)> {
    for position in 0..changes.len() {
        let result = changes.get_mut(position).map_or(Ok(()), Change::make);
        if let Err(count) = result {
            undo(changes.get_mut(..position).unwrap_or_default());
            return Err((position, count));
        }
    }
    Ok(())
}

/// Undoes these changes, which were made, the last one first.
pub(crate) fn undo(changes: &mut [Change<'_>]) {
    for change in changes.iter_mut().rev() {
        // A count that was counted up can be counted down, unless somebody has preset it since;
        // then it is theirs.
        let _ = change.make();
    }
}
