//! Bugs that other patchers of kernel text had and that this engine could have as well. Each test
//! is named after what must not happen.

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use patchlet::Replacement;
use patchlet::ops::Target;
use patchlet::site::Record;
use patchlet::{ComposeError, Error, Goal, InsnBuffer, Kind, Nops, OneCpu, Sites, Width};

use crate::image::{Image, Site, call, jump, target};
use crate::platforms::{Event, Recorder, apply_logged, one_cpu};

/// It was skipped silently, and the kernel died later, elsewhere.
#[test]
fn a_patchlet_too_long_is_an_error_before_the_first_write() {
    let mut image = Image::new(&[Some(&[0xfa]), Some(&[0xcc; 7])]);
    image.site(call(0x200, 0));
    image.site(call(0x206, 1));
    image.site(call(0x20c, 0));
    image.arena.protect_text();
    let before = image.bytes();
    let recorder = Recorder::new(&image);
    let log = recorder.log.clone();
    let error = one_cpu(|cpu| image.patcher(recorder).apply(cpu));
    let site = image.arena.address(0x206);
    let why = ComposeError::TooLong { len: 7, capacity: 6 };
    assert_eq!(error, Err(Error::Compose { site, name: "op1", why }));
    assert!(image.bytes() == before);
    assert_eq!(*log.borrow(), [], "text was unlocked for nothing");
}

/// One was, where branches must not be indirect.
#[test]
fn no_site_is_left_indirect() {
    let mut image = Image::new(&[Some(&[0xfa]), None, Some(&[0x0f, 0x20, 0xd0]), None]);
    let mut sites = Vec::new();
    let mut at = 0x100;
    for capacity in 6..=32 {
        for (kind, op) in [(Kind::Call, 0), (Kind::Call, 1), (Kind::Jump, 2), (Kind::Jump, 3)] {
            sites.push(Site { at, capacity, kind, op });
            at += usize::from(capacity);
        }
    }
    for &site in &sites {
        image.site(site);
    }
    let near = target(image.arena.address(0x9000));
    for held in [None, Some(Target::NULL), Some(Target::NOP), Some(Target::IDENT), Some(near)] {
        for op in 0..4 {
            image.set(op, held.unwrap_or(image.table.ops()[op].native()));
        }
        let mut patcher = image.patcher(image.second_mapping());
        let report = one_cpu(|cpu| patcher.apply(cpu)).unwrap();
        assert_eq!((report.sites, report.indirect), (sites.len(), 0));
        for &site in &sites {
            assert!(!is_indirect(&image, site), "{site:?} for {held:?}");
        }
        assert_eq!(patcher.plan(Goal::Patched).unwrap().report().indirect, 0);
    }
    // What is not patched is not said to be.
    let report = one_cpu(|cpu| image.patcher(image.second_mapping()).revert(cpu)).unwrap();
    assert_eq!((report.sites, report.indirect), (sites.len(), sites.len()));
    assert!(sites.iter().all(|&site| is_indirect(&image, site)));
}

/// Whether any instruction of the site is an indirect branch.
fn is_indirect(image: &Image, site: Site) -> bool {
    let bits = if Width::NATIVE == Width::Bits64 { 64 } else { 32 };
    let bytes = image.at(site.at, site.capacity.into());
    Decoder::new(bits, &bytes, DecoderOptions::NONE).into_iter().any(|instruction| {
        matches!(
            instruction.flow_control(),
            FlowControl::IndirectBranch | FlowControl::IndirectCall
        )
    })
}

/// Interrupts came back on a CPU that had not serialized yet.
#[test]
fn serialized_before_interrupts_come_back() {
    let mut image = Image::new(&[Some(&[0xfa]), None]);
    image.site(call(0x200, 0));
    image.site(jump(0x300, 1));
    image.site(call(0x400, 1));
    image.arena.protect_text();
    let before = image.bytes();
    let recorder = Recorder::new(&image);
    let log = recorder.log.clone();
    let mut patcher = image.patcher(recorder);
    for unchanged in [false, true] {
        log.borrow_mut().clear();
        let before = if unchanged { image.bytes() } else { before.clone() };
        apply_logged(&mut patcher, &log).unwrap();
        let after = image.bytes();
        assert_eq!(before == after, unchanged);
        let expected = [
            Event::InterruptsOff,
            Event::Unlock(before),
            Event::Lock(after.clone()),
            // Once, not once per site, and after the last write.
            Event::Serialize(after),
            Event::InterruptsOn,
        ];
        assert!(*log.borrow() == expected);
    }
}

/// The proof cannot go where its truth ends: to another thread.
#[test]
fn the_proof_of_one_cpu_stays_with_its_thread() {
    trait Unless<Marker> {
        fn not() {}
    }
    struct IsSend;
    struct IsSync;
    impl<T: ?Sized> Unless<()> for T {}
    impl<T: ?Sized + Send> Unless<IsSend> for T {}
    impl<T: ?Sized + Sync> Unless<IsSync> for T {}
    // Ambiguous, an error of the compiler, if it were Send or Sync.
    <OneCpu<'static> as Unless<_>>::not();
}

/// Read by a struct without `repr(C)`, the fields were in another order.
#[test]
fn the_record_is_repr_c() {
    #[repr(C, align(4))]
    struct Bytes([u8; 26]);
    let bytes = Bytes([
        0x10, 0x32, 0x54, 0x76, // site: 0x7654_3210 ahead of here
        0xfe, 0xff, 0xff, 0xff, // slot: 2 before here
        0x34, 0x12, // op
        0x2a, // capacity
        0x00, // call
        0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0x01, //
        0xaa, 0xaa, // and the beginning of a third
    ]);
    let start = bytes.0.as_ptr();
    // SAFETY: aligned, readable, and not written to.
    let sites = unsafe { Sites::between(start, bytes.0.len()) };
    assert_eq!(Record::SIZE, 12);
    assert_eq!((sites.size(), sites.records().len()), (26, 2));
    let [first, last] = [0, 1].map(|index| sites.records().nth(index).unwrap());
    let at = |offset| start.addr().wrapping_add(offset);
    assert_eq!(first.site(), at(0x7654_3210));
    assert_eq!(first.subject(), at(4 - 2));
    assert_eq!((first.number(), first.capacity(), first.kind()), (0x1234, 42, Ok(Kind::Call)));
    // Whole, the last one too.
    assert_eq!(last.site(), at(12).wrapping_sub(0x8000_0000));
    assert_eq!(last.subject(), at(16));
    assert_eq!((last.number(), last.capacity(), last.kind()), (0xffff, 255, Ok(Kind::Jump)));
}

/// `target - (site + 5)` of unsigned numbers panicked for what lies behind.
#[test]
fn backward_targets_do_not_overflow() {
    let composed = |width, address, target| {
        let call = Replacement::Call(target);
        let buffer = InsnBuffer::compose(width, Nops::Long, address, 6, &call);
        buffer.map(|buffer| i32::from_le_bytes(buffer.bytes()[1..5].try_into().unwrap()))
    };
    for width in [Width::Bits32, Width::Bits64] {
        assert_eq!(composed(width, 0x1000, 0x10), Ok(-0xff5));
        assert_eq!(composed(width, 0x1000, 0), Ok(-0x1005));
        assert_eq!(composed(width, 0x7fff_fffb, 0), Ok(i32::MIN));
    }
    // Below 0 is the top.
    assert_eq!(composed(Width::Bits64, 0, u64::MAX), Ok(-6));
    assert_eq!(composed(Width::Bits64, u64::MAX, 0), Ok(-4));
    assert_eq!(composed(Width::Bits32, 0, 0xffff_ffff), Ok(-6));
    assert_eq!(composed(Width::Bits32, 0xffff_ffff, 0), Ok(-4));
    // And the same through the patcher.
    let mut image = Image::new(&[None]);
    image.site(call(0x1000, 0));
    image.set(0, target(image.arena.address(0x10)));
    one_cpu(|cpu| image.patcher(image.second_mapping()).apply(cpu)).unwrap();
    assert_eq!(image.at(0x1000, 6), [0xe8, 0x0b, 0xf0, 0xff, 0xff, 0x90]);
}

/// What a kernel without `core::fmt` prints says the same as the error does.
#[test]
fn an_error_has_a_name_and_a_site_without_its_sentence() {
    let (index, site, name) = (1, 0x1000, "op0");
    let [old, new, expected, found, wrote] = [InsnBuffer::copy_of(&[0x90]).expect("a byte"); 5];
    let errors = [
        Error::TruncatedTable { bytes: 13, record: 12 },
        Error::BadRecord { index, field: "kind", value: 2 },
        Error::OutsideText { index, site, start: 0, end: 1 },
        Error::UnknownSubject { index, site, subject: 2, number: 3 },
        Error::Overlap { index, site, name, other: 2 },
        Error::OldBytes { site, name, expected, found },
        Error::Compose { site, name, why: ComposeError::TooLong { len: 7, capacity: 6 } },
        Error::Alias { site, alias: 2, name },
        Error::ReadBack { site, name, wrote, found },
        Error::Busy,
        Error::ThreadInside { site, name, boundary: 1, old, new },
        Error::NotEmulated { site, name },
        Error::Breakpoint { site, name },
    ];
    for error in errors {
        let debug = format!("{error:?}");
        let variant = debug.split([' ', '{']).next().expect("the variant's name");
        let lower = |letter: char| {
            let hyphen = letter.is_uppercase().then_some('-');
            hyphen.into_iter().chain(letter.to_lowercase())
        };
        let code: String = variant.chars().flat_map(lower).skip(1).collect();
        assert_eq!(error.code(), code);
        assert_eq!(error.site(), debug.contains("site: ").then_some(site), "{debug}");
    }
}
