//! Checks of indirect calls by hashes: kCFI and FineIBT. No kernel of Debian has them, so the bytes
//! here are those that the sources of Linux 6.2 to 7.3 describe.

use patchlet::Width;
use patchlet::inspect::Verdict;

use crate::kernel::{Kernel, branch, relative};
use crate::tables::{check, explain};

const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
const SEALED: [u8; 4] = [0x66, 0x0f, 0x1f, 0x00];
const HASH: u32 = 0x89ab_cdef;
/// A hash that the seed makes an ENDBR of.
const UNLUCKY: u32 = u32::from_le_bytes(ENDBR) ^ SEED;
const SEED: u32 = 0x1357_9bdf;
/// The hash of `UNLUCKY` is mixed once more: its lowest bit is 1.
const MIXED: u32 = (u32::from_le_bytes(ENDBR) >> 1) ^ 0x8020_0003;

/// A preamble of FineIBT: the template, the place of its hash, and what an ENDBR becomes that is
/// sealed in such a kernel.
struct Preamble {
    template: &'static [u8],
    hash: usize,
    sealed: [u8; 4],
}

/// The preambles of 6.2, 6.15 and 7.x. The last has the function's sealed ENDBR at its end.
#[rustfmt::skip]
const PREAMBLES: [Preamble; 3] = [
    Preamble {
        template: &[
            0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x81, 0xea, 0x78, 0x56, 0x34, 0x12, 0x74, 0x03, 0x0f, 0x0b, 0x90,
        ],
        hash: 7,
        sealed: SEALED,
    },
    Preamble {
        template: &[
            0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x81, 0xea, 0x78, 0x56, 0x34, 0x12, 0x75, 0xf9, 0x0f, 0x1f, 0x00,
        ],
        hash: 7,
        sealed: SEALED,
    },
    Preamble {
        template: &[
            0xf3, 0x0f, 0x1e, 0xfa, 0x2d, 0x78, 0x56, 0x34, 0x12, 0x2e, 0x0f, 0x85, 0x03, 0x00, 0x00, 0x00,
            0x0f, 0x1f, 0x40, 0xd6,
        ],
        hash: 5,
        sealed: [0x0f, 0x1f, 0x40, 0xd6],
    },
];

/// What FineIBT has in front of a call.
const CALLER: [u8; 14] =
    [0x41, 0xba, 0x78, 0x56, 0x34, 0x12, 0x49, 0x83, 0xeb, 0x10, 0x0f, 0x1f, 0x40, 0];

/// A kernel as the compiler makes it.
struct Cfi {
    kernel: Kernel,
    preambles: [u64; 3],
    /// Where what stands in front of a call begins.
    caller: u64,
}

/// Returns a kernel with two functions, one that nothing calls indirectly, and a call; with `mode`
/// in its variable.
fn cfi(mode: Option<u8>, preamble: &[u8], has_seed: bool) -> Cfi {
    let mut kernel = Kernel::new(Width::Bits64);
    for (name, template) in [("preamble", preamble), ("caller", &CALLER[..])] {
        let (start, end) = match name {
            "preamble" => ("fineibt_preamble_start", "fineibt_preamble_end"),
            _ => ("fineibt_caller_start", "fineibt_caller_end"),
        };
        let rodata = kernel.sample.section_mut(".rodata");
        let at = rodata.address + rodata.data.len() as u64;
        rodata.data.extend(template);
        kernel.sample.symbol(start, at, 0, crate::sample::OBJECT, ".rodata");
        kernel.sample.symbol(end, at + template.len() as u64, 0, crate::sample::OBJECT, ".rodata");
    }
    if let Some(mode) = mode {
        kernel.variable("cfi_mode", &[0; 4], &[mode, 0, 0, 0]);
    }
    kernel.variable("cfi_seed", &[0; 4], &SEED.to_le_bytes());
    kernel.variable("cfi_rand", &[1], &[u8::from(has_seed)]);
    let preambles = [HASH, UNLUCKY, HASH].map(|hash| {
        let mut code = vec![0xb8];
        code.extend(hash.to_le_bytes());
        code.resize(16, 0x90);
        code.extend(ENDBR);
        kernel.code(&code)
    });
    // Retpolines stay as they are: the CPU's features say that they are used.
    kernel.words[11] |= 1 << 12;
    let thunk = kernel.function("__x86_indirect_thunk_r11");
    let mut code = vec![0x41, 0xba];
    code.extend(HASH.wrapping_neg().to_le_bytes());
    code.extend([0x45, 0x03, 0x53, 0xf1, 0x74, 0x02, 0x0f, 0x0b]);
    let caller = kernel.code(&code);
    let call = branch(0xe8, caller + 14, thunk);
    kernel.sample.code(&call);
    let [a, b, c] = preambles;
    let records = [a, b, c].map(|site| move |at: u64| relative(at, site));
    let records: Vec<&dyn Fn(u64) -> Vec<u8>> = records.iter().map(|of| of as _).collect();
    kernel.table(".cfi_sites", &records);
    let record = move |at| relative(at, caller + 14);
    kernel.table(".retpoline_sites", &[&record]);
    let record = move |at| relative(at, c + 16);
    kernel.table(".ibt_endbr_seal", &[&record]);
    Cfi { kernel, preambles, caller }
}

impl Cfi {
    /// Says what the running kernel has in front of each function and in it, and of the call.
    fn seen(&mut self, functions: [(Vec<u8>, [u8; 4]); 3], caller: Vec<u8>) {
        for (at, (preamble, function)) in self.preambles.into_iter().zip(functions) {
            self.kernel.patched.insert(at, preamble);
            self.kernel.patched.insert(at + 16, function.to_vec());
        }
        self.kernel.patched.insert(self.caller, caller);
    }
}

/// Returns MOV of a number to EAX, or to R10D.
fn mov(start: &[u8], number: u32) -> Vec<u8> {
    [start, &number.to_le_bytes()].concat()
}

#[test]
fn kcfi_has_its_hashes_mixed() {
    for has_seed in [true, false] {
        let mut cfi = cfi(Some(2), PREAMBLES[0].template, has_seed);
        let [hash, unlucky] = if has_seed { [HASH ^ SEED, MIXED] } else { [HASH, UNLUCKY] };
        let functions = [
            (mov(&[0xb8], hash), ENDBR),
            (mov(&[0xb8], unlucky), ENDBR),
            (mov(&[0xb8], 0), SEALED),
        ];
        cfi.seen(functions, mov(&[0x41, 0xba], hash.wrapping_neg()));
        // Without a seed only the hash of the sealed function changes.
        check(&mut cfi.kernel, "cfi", if has_seed { 4 } else { 1 });
    }
}

#[test]
fn calls_are_not_checked_without_cfi() {
    let mut cfi = cfi(Some(1), PREAMBLES[0].template, true);
    let functions = [
        (mov(&[0xb8], HASH ^ SEED), ENDBR),
        (mov(&[0xb8], MIXED), ENDBR),
        (mov(&[0xb8], 0), SEALED),
    ];
    cfi.seen(functions, mov(&[0xeb, 12], (HASH ^ SEED).wrapping_neg()));
    check(&mut cfi.kernel, "cfi", 4);
}

/// The form of FineIBT is that of the file's templates, whichever the version.
#[test]
fn fineibt_is_what_the_templates_say() {
    for Preamble { template, hash: at, sealed } in PREAMBLES {
        for mode in [Some(3), None] {
            let mut cfi = cfi(mode, template, true);
            let with = |hash: u32| {
                let mut preamble = template[..16].to_vec();
                preamble[at..at + 4].copy_from_slice(&hash.to_le_bytes());
                preamble
            };
            let mut none = with(0);
            none[..4].copy_from_slice(&sealed);
            let functions = [(with(HASH ^ SEED), sealed), (with(MIXED), sealed), (none, sealed)];
            let mut caller = CALLER.to_vec();
            caller[2..6].copy_from_slice(&(HASH ^ SEED).to_le_bytes());
            cfi.seen(functions, caller);
            if mode.is_some() {
                // Each preamble and the ENDBR behind it, but for the one that the seal's rule answers
                // for; and the call.
                check(&mut cfi.kernel, "cfi", 6);
                continue;
            }
            // Without the variable the mode is that of most preambles, and nothing is proven.
            let (file, memory) = cfi.kernel.file_and_memory();
            let explanation = explain(&file, &memory);
            assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0);
            assert_eq!(explanation.counts.get(&("cfi", Verdict::Proven)), None);
            let allowed = explanation.counts.get(&("cfi", Verdict::Allowed));
            assert_eq!(allowed.map(|count| count.ranges), Some(6));
        }
    }
}

/// The first versions with FineIBT sealed only the ENDBR of a preamble, and left its hash.
#[test]
fn a_sealed_hash_can_be_left() {
    let mut cfi = cfi(Some(2), PREAMBLES[0].template, true);
    let functions = [
        (mov(&[0xb8], HASH ^ SEED), ENDBR),
        (mov(&[0xb8], MIXED), ENDBR),
        (mov(&[0xb8], HASH ^ SEED), SEALED),
    ];
    cfi.seen(functions, mov(&[0x41, 0xba], (HASH ^ SEED).wrapping_neg()));
    let (file, memory) = cfi.kernel.file_and_memory();
    assert_eq!(explain(&file, &memory).total(Verdict::Unexplained).ranges, 0);
}
