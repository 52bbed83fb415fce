//! Changes random bytes of text in a dump: each is found, unless it makes another state of its site that
//! can be.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use patchlet::inspect::{Model, Verdict, explain_running, parse};

use crate::core_file::{offset, pieces};

/// How many bytes are changed, and how many at once. Those of one time are in different sites.
const FLIPS: usize = 10_000;
const AT_ONCE: usize = 500;

/// Changes bytes of text in a dump of a kernel whose physical addresses are those of its file, one in
/// five of them in sites. Returns how many made another state.
pub fn each_is_found(kernel: &Path, dump: &[u8]) -> usize {
    let file = std::fs::read(kernel).expect("the kernel");
    let model = Model::new(parse(&file).expect("an ELF file")).expect("a kernel");
    let text: Vec<Range<u64>> = model
        .image()
        .sections()
        .iter()
        .filter(|section| section.is_executable() && !section.data.is_empty())
        .map(|section| section.address..section.address + section.data.len() as u64)
        .collect();
    let ops = model.records().iter().map(|record| record.site..record.end());
    let branches = model.branches().iter().map(|record| record.site..record.end());
    let mut sites: Vec<Range<u64>> = ops.chain(branches).collect();
    sites.sort_by_key(|site| site.start);
    let site_at = |address: u64| {
        let at = sites.partition_point(|site| site.end <= address);
        sites.get(at).filter(|site| site.contains(&address)).cloned()
    };
    let in_text: u64 = text.iter().map(|range| range.end - range.start).sum();
    let nth = |mut number: u64| {
        for range in &text {
            let size = range.end - range.start;
            if number < size {
                return range.start + number;
            }
            number -= size;
        }
        unreachable!("less than all of text")
    };

    let memory = pieces(dump);
    let at = |address: u64| offset(&memory, address);
    // A fixed sequence (xorshift): a failure can be repeated.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random >> 8
    };
    let (mut done, mut other_states, mut in_sites) = (0, 0, 0);
    while done < FLIPS {
        let mut changed = dump.to_vec();
        let mut flipped: BTreeMap<u64, Range<u64>> = BTreeMap::new();
        let mut places = BTreeSet::new();
        while flipped.len() < AT_ONCE {
            let address = match next() % 5 {
                0 => {
                    let site = &sites[(next() % sites.len() as u64) as usize];
                    site.start + next() % (site.end - site.start)
                }
                _ => nth(next() % in_text),
            };
            let place = site_at(address).unwrap_or(address..address + 1);
            if places.insert(place.start) {
                in_sites += usize::from(place.end - place.start > 1);
                changed[at(address)] ^= (next() % 255 + 1) as u8;
                flipped.insert(address, place);
            }
        }
        done += AT_ONCE;
        let explanation = explain_running(&model, &file, &changed, None, &[], false);
        let explanation = explanation.unwrap_or_else(|error| panic!("{error}"));
        let unexplained: Vec<Range<u64>> = explanation
            .list
            .iter()
            .filter(|of| of.verdict == Verdict::Unexplained)
            .map(|of| of.address_in_file..of.address_in_file + of.seen.len() as u64)
            .collect();
        for (address, place) in flipped {
            if unexplained.iter().any(|range| range.contains(&address)) {
                continue;
            }
            // By the first byte of a live switch, over a tail that was there or that the file has.
            let bytes = |from: &[u8]| {
                let at = at(place.start);
                from[at..at + (place.end - place.start) as usize].to_vec()
            };
            let (now, before) = (bytes(&changed), bytes(dump));
            assert_eq!(address, place.start, "not found: {before:02x?} became {now:02x?}");
            assert_eq!(now[0], 0xcc, "not found: {before:02x?} became {now:02x?} at {address:#x}");
            assert_eq!(now[1..], before[1..]);
            other_states += 1;
        }
    }
    assert!(in_sites > FLIPS / 6 && in_sites < FLIPS / 2, "{in_sites} of {FLIPS} in sites");
    other_states
}
