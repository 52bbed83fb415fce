//! A second mapping of text, so that no page is writable and executable at the same address. The
//! pages with sites are replaced by shared memory that is mapped twice: executable at its old
//! address, and writable at another.

use std::io::Error;
use std::ops::Range;
use std::ptr;

use patchlet::SecondMapping;

use crate::PROCESS;

/// Page size, in bytes.
const PAGE: usize = 4096;

/// Returns the address range of the pages that have sites, or `None` if there is no site.
pub fn text_with_sites() -> Option<Range<usize>> {
    let records = || PROCESS.parts().iter().flat_map(|part| part.sites().records());
    let first = records().map(|record| record.site()).min()?;
    let end = records().map(|record| record.site() + usize::from(record.capacity())).max()?;
    Some(first & !(PAGE - 1)..end.next_multiple_of(PAGE))
}

/// Maps `text` a second time, and returns the platform for the patcher.
///
/// # Safety
/// - `text` consists of whole pages of this program's text;
/// - it is called only once for these pages: a second call would separate them from the alias of
///   the first.
///
/// # Errors
/// Returns the error of the system.
pub unsafe fn second_mapping(text: Range<usize>) -> Result<SecondMapping, Error> {
    let len = text.len();
    // SAFETY: the system calls work on a new file. The last one replaces the pages of text, in
    // which this code may lie, by pages with the same bytes, in one step.
    unsafe {
        let file = libc::memfd_create(c"text".as_ptr(), libc::MFD_CLOEXEC);
        if file < 0 || libc::ftruncate(file, len as libc::off_t) != 0 {
            return Err(Error::last_os_error());
        }
        let shared = libc::MAP_SHARED;
        let alias =
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, shared, file, 0);
        if alias == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        let here = ptr::with_exposed_provenance_mut::<libc::c_void>(text.start);
        ptr::copy_nonoverlapping(here.cast::<u8>(), alias.cast(), len);
        let executable = libc::PROT_READ | libc::PROT_EXEC;
        if libc::mmap(here, len, executable, shared | libc::MAP_FIXED, file, 0) == libc::MAP_FAILED
        {
            return Err(Error::last_os_error());
        }
        libc::close(file);
        let offset = alias.expose_provenance().wrapping_sub(text.start);
        Ok(SecondMapping::new(text, offset))
    }
}
