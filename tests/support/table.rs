//! The oracle of the tests: the native set, written by hand and not made by any tool, in the order
//! of the sources.

use std::fmt;

/// The width of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Bits64,
    Bits32,
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Width::Bits64 => "64-bit",
            Width::Bits32 => "32-bit",
        })
    }
}

/// The expected properties of a patchlet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub name: &'static str,
    /// The instructions in AT&T syntax, with `; ` between two.
    pub assembly: &'static str,
    pub bytes: Vec<u8>,
}

/// A row of the table: the op, then assembly and bytes for 64 bit and for 32.
type Row = (&'static str, Option<[&'static str; 2]>, Option<[&'static str; 2]>);

#[rustfmt::skip]
const NATIVE: &[Row] = &[
    ("irq_disable",        Some(["cli", "fa"]),                             Some(["cli", "fa"])),
    ("irq_enable",         Some(["sti", "fb"]),                             Some(["sti", "fb"])),
    ("save_fl",            Some(["pushfq; popq %rax", "9c 58"]),            Some(["pushfl; popl %eax", "9c 58"])),
    ("restore_fl",         Some(["pushq %rdi; popfq", "57 9d"]),            Some(["pushl %eax; popfl", "50 9d"])),
    ("read_cr2",           Some(["movq %cr2,%rax", "0f 20 d0"]),            Some(["movl %cr2,%eax", "0f 20 d0"])),
    ("read_cr3",           Some(["movq %cr3,%rax", "0f 20 d8"]),            Some(["movl %cr3,%eax", "0f 20 d8"])),
    ("write_cr3",          Some(["movq %rdi,%cr3", "0f 22 df"]),            Some(["movl %eax,%cr3", "0f 22 d8"])),
    ("wbinvd",             Some(["wbinvd", "0f 09"]),                       None),
    ("swapgs",             Some(["swapgs", "0f 01 f8"]),                    None),
    ("usergs_sysret64",    Some(["swapgs; sysretq", "0f 01 f8 48 0f 07"]),  None),
    ("iret",               None,                                            Some(["iret", "cf"])),
    ("ident_64",           Some(["movq %rdi,%rax", "48 89 f8"]),            None),
    ("queued_spin_unlock", Some(["movb $0,(%rdi)", "c6 07 00"]),            Some(["movb $0,(%eax)", "c6 00 00"])),
    ("vcpu_is_preempted",  Some(["xorl %eax,%eax", "31 c0"]),               Some(["xorl %eax,%eax", "31 c0"])),
    ("ud2",                Some(["ud2", "0f 0b"]),                          Some(["ud2", "0f 0b"])),
    ("safe_halt",          Some(["sti; hlt", "fb f4"]),                     Some(["sti; hlt", "fb f4"])),
    ("halt",               Some(["hlt", "f4"]),                             Some(["hlt", "f4"])),
];

/// Returns the native set of one width, in order.
pub fn native(width: Width) -> Vec<Expected> {
    let column = |&(name, bits64, bits32): &Row| {
        let [assembly, hex] = match width {
            Width::Bits64 => bits64?,
            Width::Bits32 => bits32?,
        };
        let byte = |digits| u8::from_str_radix(digits, 16).expect("the table holds hex");
        Some(Expected { name, assembly, bytes: hex.split(' ').map(byte).collect() })
    };
    NATIVE.iter().filter_map(column).collect()
}
