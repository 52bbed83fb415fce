//! `/proc/kcore`: a file that is larger than any file can be, and nearly empty.

use std::io::{self, Read, Seek, SeekFrom};

use patchlet::Width;
use patchlet::inspect::{LinuxKernel, SlideEvidence, Verdict, explain_linux, unpack};

use crate::kernel::{Kernel, SLIDE, relative};

#[path = "../../src/inspect/explain/kcore.rs"]
mod copied;

/// A core whose segments lie where Linux puts them: at the address without its highest bits.
struct Kcore {
    head: Vec<u8>,
    /// The offset and the bytes of the only segment that can be read.
    image: (u64, Vec<u8>),
    at: u64,
}

impl Read for Kcore {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let (start, image) = &self.image;
        let rest = match self.at.checked_sub(*start) {
            Some(offset) => image.get(offset as usize..).unwrap_or_default(),
            None => self.head.get(self.at as usize..).unwrap_or_default(),
        };
        let len = rest.len().min(to.len());
        to[..len].copy_from_slice(&rest[..len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for Kcore {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { return Err(io::ErrorKind::Unsupported.into()) };
        self.at = at;
        Ok(at)
    }
}

/// Returns the core of a machine that runs a kernel: with notes, memory that is mapped linearly,
/// the image, and room for modules.
fn kcore(width: Width, image: (u64, Vec<u8>)) -> Kcore {
    let (address, bytes) = image;
    let len = bytes.len() as u64;
    let wide = width == Width::Bits64;
    // Kind, address, physical address and size.
    let segments: Vec<(u32, u64, u64, u64)> = if wide {
        vec![
            (4, 0, 0, 0x200),
            (1, 0xffff_ffff_ff60_0000, u64::MAX, 0x1000),
            (1, 0xffff_8880_0010_0000, 0x10_0000, 0x1000_0000),
            (1, address, address.wrapping_sub(0xffff_ffff_8000_0000), len),
            (1, 0xffff_ffff_c000_0000, u64::MAX, 0x3f00_0000),
            (1, 0xffff_c900_0000_0000, u64::MAX, 0x1fff_ffff_ffff),
        ]
    } else {
        vec![
            (4, 0, 0, 0x200),
            (1, 0xff80_0000, 0xffff_ffff, 0x1000),
            (1, address, address - 0xc000_0000, len),
        ]
    };
    let mut head = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 1, 1, 0];
    head.resize(16, 0);
    head.extend([4, 0, if wide { 62 } else { 3 }, 0, 1, 0, 0, 0]);
    let word = |head: &mut Vec<u8>, number: u64| {
        head.extend(&number.to_le_bytes()[..if wide { 8 } else { 4 }]);
    };
    let (header, program_header) = if wide { (64, 56) } else { (52, 32) };
    for number in [0, header, 0] {
        word(&mut head, number);
    }
    head.extend([0; 4]);
    for number in [header, program_header, segments.len() as u64, 0, 0, 0] {
        head.extend((number as u16).to_le_bytes());
    }
    // Offsets count from the lowest address of the kernel, and lie behind the headers.
    let offset = |address: u64| (address & 0x7fff_ffff_ffff) + 0x1000;
    for (kind, address, physical, len) in segments {
        head.extend(kind.to_le_bytes());
        if wide {
            head.extend(7_u32.to_le_bytes());
        }
        for number in [offset(address), address, physical, len, len] {
            word(&mut head, number);
        }
        if !wide {
            head.extend(7_u32.to_le_bytes());
        }
        word(&mut head, 0x1000);
    }
    Kcore { head, image: (offset(address), bytes), at: 0 }
}

#[test]
fn the_image_is_copied_out_of_it() {
    for width in [Width::Bits64, Width::Bits32] {
        let mut kernel = Kernel::new(width);
        let site = kernel.code(&[0xf3, 0x0f, 0x1e, 0xfa]);
        kernel.patched.insert(site, vec![0x66, 0x0f, 0x1f, 0x00]);
        let record = move |at| relative(at, site);
        kernel.table(".ibt_endbr_seal", &[&record]);
        let (file, memory) = kernel.file_and_memory();
        let address = kernel.base.wrapping_add(SLIDE);
        let mut core = kcore(width, (address, memory.clone()));
        if width == Width::Bits64 {
            assert!(core.image.0 > 1 << 46, "where no other file has anything");
        }
        let mut copy = vec![];
        copied::copy(&mut core, &mut copy).expect("a core");
        assert!(copy.len() < memory.len() + 0x2000);
        let unpacked = unpack(&file).expect("an ELF file");
        let linux = LinuxKernel::new(&unpacked).expect("a kernel");
        let explanation = explain_linux(&linux, &copy, None, true).expect("it is there");
        assert_eq!(explanation.slide_evidence, SlideEvidence::Addresses);
        assert_eq!(explanation.slide, SLIDE);
        assert_eq!(explanation.total(Verdict::Unexplained).ranges, 0, "{:?}", explanation.list);
        assert_eq!(explanation.total(Verdict::Proven).ranges, 1);
    }
}

/// What is damaged or cut is an error, or zeros; never more than there is.
#[test]
fn a_damaged_core_is_refused() {
    let core = || kcore(Width::Bits64, (0xffff_ffff_8200_0000, vec![0xab; 0x3000]));
    let error =
        |mut core: Kcore| copied::copy(&mut core, &mut vec![]).expect_err("damaged").to_string();
    let mut no_elf = core();
    no_elf.head[0] = 0;
    assert!(error(no_elf).contains("no ELF file"));
    let mut cut = core();
    cut.head.truncate(100);
    assert!(error(cut).contains("fill whole buffer"));
    let mut elsewhere = core();
    for segment in [1, 3] {
        let address = 64 + segment * 56 + 16;
        elsewhere.head[address + 4..address + 8].copy_from_slice(&[0, 0, 0, 0]);
    }
    assert!(error(elsewhere).contains("without a segment"));
    // Memory that was taken away meanwhile is zeros.
    let mut short = core();
    short.image.1.truncate(0x1000);
    let mut copy = vec![];
    copied::copy(&mut short, &mut copy).expect("a core");
    let image = &copy[64 + 2 * 56 + 0x1000..];
    assert_eq!(image.len(), 0x3000);
    assert!(image.ends_with(&[0; 0x2000]) && image.starts_with(&[0xab; 0x1000]));
}
