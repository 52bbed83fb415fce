//! The two other constructions in Rust, as a freestanding process. It copies each sequence into a
//! buffer, as a patch function would, and prints it.
//!
//! `--cfg construction="…"`: `asm`, global_asm! with global labels in a section of
//! its own; `asm_local`, the same without `.globl`; `hex`, a static table; `c`,
//! none of its own: `../c/patch.c` is in the link, and has its sequences in C.
#![no_std]
#![no_main]

#[path = "../../matrix/program/out.rs"]
mod out;
#[path = "../../matrix/program/system.rs"]
#[allow(dead_code)]
mod system;

use core::panic::PanicInfo;

use out::Out;

#[cfg(not(any(construction = "hex", construction = "c")))]
macro_rules! native {
    ($($group:ident { $($name:ident = $code:literal, $hex:expr;)* })*) => {
        // One module for each group of ops, as a kernel has it; the compiler may
        // put each into a unit of its own.
        $(pub mod $group {
            $(pub mod $name {
                use core::arch::global_asm;
                global_asm!(
                    ".pushsection .rodata.native, \"a\", @progbits",
                    #[cfg(construction = "asm")]
                    concat!(".globl start_", stringify!($name), ", end_", stringify!($name)),
                    concat!("start_", stringify!($name), ":"),
                    $code,
                    concat!("end_", stringify!($name), ":"),
                    ".popsection",
                    options(att_syntax)
                );
                unsafe extern "C" {
                    #[link_name = concat!("start_", stringify!($name))]
                    static START: [u8; 0];
                    #[link_name = concat!("end_", stringify!($name))]
                    static END: [u8; 0];
                }

                #[inline(never)]
                pub fn copy(buffer: &mut [u8; 8]) -> (usize, usize) {
                    let start = (&raw const START).cast::<u8>();
                    let len = (&raw const END).addr().wrapping_sub(start.addr());
                    for (index, byte) in buffer.iter_mut().enumerate().take(len) {
                        // SAFETY: between the two labels.
                        *byte = unsafe { start.wrapping_add(index).read() };
                    }
                    (start.addr(), len)
                }
            })*
        })*

        fn print(out: &mut Out) {
            let mut buffer = [0; 8];
            $($(
                let (address, len) = $group::$name::copy(&mut buffer);
                out.word("native").word(stringify!($name)).number(address);
                out.bytes(&buffer[..len.min(8)]).line();
            )*)*
        }
    };
}

#[cfg(construction = "hex")]
macro_rules! native {
    ($($group:ident { $($name:ident = $code:literal, $hex:expr;)* })*) => {
        /// As Linux v5.3 has it.
        #[repr(C)]
        pub struct PatchXxl {
            $($($name: [u8; $hex.len()],)*)*
        }

        #[unsafe(no_mangle)]
        pub static patch_data_xxl: PatchXxl = PatchXxl { $($($name: $hex,)*)* };

        $(mod $group {
            $(pub mod $name {
                #[inline(never)]
                pub fn copy(buffer: &mut [u8; 8]) -> (usize, usize) {
                    let bytes = &crate::patch_data_xxl.$name;
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    (0, bytes.len())
                }
            })*
        })*

        fn print(out: &mut Out) {
            let mut buffer = [0; 8];
            $($(
                let (address, len) = $group::$name::copy(&mut buffer);
                out.word("native").word(stringify!($name)).number(address);
                out.bytes(&buffer[..len.min(8)]).line();
            )*)*
        }
    };
}

#[cfg(construction = "c")]
macro_rules! native {
    ($($group:ident { $($name:ident = $code:literal, $hex:expr;)* })*) => {
        unsafe extern "C" {
            /// Copies the sequence of this number, of the same order as here.
            fn native_patch(op: u32, buffer: *mut u8) -> u32;
        }

        fn print(out: &mut Out) {
            let mut buffer = [0; 8];
            for (op, name) in (0..).zip([$($(stringify!($name),)*)*]) {
                // SAFETY: it writes eight bytes at most.
                let len = unsafe { native_patch(op, buffer.as_mut_ptr()) };
                out.word("native").word(name).number(0);
                out.bytes(&buffer[..(len as usize).min(8)]).line();
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
native! {
    irq {
        irq_disable = "cli", [0xfa_u8];
        irq_enable = "sti", [0xfb_u8];
        save_fl = "pushfq; popq %rax", [0x9c_u8, 0x58];
        restore_fl = "pushq %rdi; popfq", [0x57_u8, 0x9d];
    }
    mmu {
        read_cr2 = "movq %cr2, %rax", [0x0f_u8, 0x20, 0xd0];
        read_cr3 = "movq %cr3, %rax", [0x0f_u8, 0x20, 0xd8];
        write_cr3 = "movq %rdi, %cr3", [0x0f_u8, 0x22, 0xdf];
    }
    cpu {
        usergs_sysret64 = "swapgs; sysretq", [0x0f_u8, 0x01, 0xf8, 0x48, 0x0f, 0x07];
        swapgs = "swapgs", [0x0f_u8, 0x01, 0xf8];
    }
}

#[cfg(target_arch = "x86")]
native! {
    irq {
        irq_disable = "cli", [0xfa_u8];
        irq_enable = "sti", [0xfb_u8];
        save_fl = "pushfl; popl %eax", [0x9c_u8, 0x58];
        restore_fl = "pushl %eax; popfl", [0x50_u8, 0x9d];
    }
    mmu {
        read_cr2 = "movl %cr2, %eax", [0x0f_u8, 0x20, 0xd0];
        read_cr3 = "movl %cr3, %eax", [0x0f_u8, 0x20, 0xd8];
        write_cr3 = "movl %eax, %cr3", [0x0f_u8, 0x22, 0xd8];
    }
    cpu {
        iret = "iret", [0xcf_u8];
    }
}

#[cfg(all(with_c, not(construction = "c")))]
unsafe extern "C" {
    safe fn matrix_c_part(value: usize) -> usize;
}

// The C part of the matrix is in the link, too; it refers to these.
#[cfg(all(with_c, not(construction = "c")))]
#[unsafe(no_mangle)]
extern "C" fn matrix_from_c(value: usize) -> usize {
    value
}
#[cfg(all(with_c, not(construction = "c")))]
#[unsafe(no_mangle)]
extern "C" fn matrix_asm_call(value: usize) -> usize {
    value
}

#[unsafe(no_mangle)]
extern "C" fn matrix_main(_start: usize) -> ! {
    let mut out = Out::new();
    print(&mut out);
    #[cfg(all(with_c, not(construction = "c")))]
    core::hint::black_box(matrix_c_part(1));
    out.word("end").line();
    out.flush();
    system::exit(0)
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    system::exit(2)
}
