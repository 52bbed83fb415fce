//! One block per module, all for one section, read as a table from the first to
//! the last. Says the bytes.
macro_rules! entry {
    ($name:ident, $byte:literal) => {
        mod $name {
            core::arch::global_asm!(
                ".pushsection natives, \"aR\"",
                concat!(".globl entry_", stringify!($name)),
                concat!("entry_", stringify!($name), ": .byte ", $byte),
                ".popsection"
            );

            #[inline(never)]
            pub fn work(x: u32) -> u32 {
                std::hint::black_box(x) + $byte
            }
        }
    };
}

entry!(zulu, 1);
entry!(alpha, 2);
entry!(mike, 3);
entry!(bravo, 4);

unsafe extern "C" {
    static __start_natives: [u8; 0];
    static __stop_natives: [u8; 0];
}

fn main() {
    assert_eq!(zulu::work(0) + alpha::work(0) + mike::work(0) + bravo::work(0), 10);
    let start = (&raw const __start_natives).cast::<u8>();
    let len = (&raw const __stop_natives).addr() - start.addr();
    // SAFETY: the bounds of the section.
    println!("{:?}", unsafe { std::slice::from_raw_parts(start, len) });
}
