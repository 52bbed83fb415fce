//! A program in an arena that has static branches beside the sites of ops: what `branch!`, `keys!`
//! and the linker make of a kernel, written byte by byte, so that a test can write it wrongly.

use std::cell::{Cell, OnceCell};

use patchlet::branch::{BranchSource, BranchState, CountedKey, Key, Keys};
use patchlet::live::Live;
use patchlet::text::{Change, Part};
use patchlet::{Patcher, Platform, SiteSet, Sites};

use crate::image::{Image, leak_live};

/// Offsets in the arena: of the records of branches, of the keys, and of their records.
const BRANCHES: usize = 0x3400;
const KEYS: usize = 0x3a00;
const KEY_RECORDS: usize = 0x3c00;
/// Room for one key.
const KEY: usize = 8;

/// A branch; `at` and `target` are offsets into the arena.
#[derive(Clone, Copy, Debug)]
pub struct Branch {
    pub at: usize,
    pub key: usize,
    /// Whether it jumps when its key is on.
    pub jumps_when_on: bool,
    pub target: usize,
}

/// The record of a branch, by its values.
#[derive(Clone, Copy, Debug)]
pub struct RawBranch {
    pub site: usize,
    pub key: usize,
    pub number: u16,
    pub capacity: u8,
    pub kind: u8,
    pub target: usize,
}

#[derive(Debug)]
pub struct BranchImage {
    pub image: Image,
    /// Bytes of records of branches.
    len: Cell<usize>,
    /// Bytes of records of keys.
    keys_len: Cell<usize>,
    /// Whether each key starts on.
    starts_on: Vec<bool>,
    source: OnceCell<&'static BranchSource<'static>>,
}

impl BranchImage {
    /// With keys of these states, called `key0` and so on, beside these ops.
    pub fn new(ops: &[Option<&[u8]>], starts_on: &[bool]) -> Self {
        let this = Self {
            image: Image::new(ops),
            len: Cell::new(0),
            keys_len: Cell::new(0),
            starts_on: starts_on.to_vec(),
            source: OnceCell::new(),
        };
        for (index, &starts_on) in starts_on.iter().enumerate() {
            let place = this.image.arena.pointer(KEYS + KEY * index);
            // SAFETY: aligned, in the arena, and nobody knows of it yet.
            unsafe {
                match starts_on {
                    true => place.cast::<Key<true>>().write(Key::new()),
                    false => place.cast::<Key<false>>().write(Key::new()),
                }
            }
            this.key_record(index, starts_on);
        }
        this
    }

    fn key_record(&self, index: usize, starts_on: bool) {
        let at = KEY_RECORDS + self.keys_len.get();
        let mut bytes = ((KEYS + KEY * index) as i32 - at as i32).to_le_bytes().to_vec();
        let name = format!("key{index}");
        bytes.extend([starts_on.into(), 0, 0, name.len() as u8]);
        bytes.extend(name.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.image.arena.write(at, &bytes);
        self.keys_len.set(self.keys_len.get() + bytes.len());
    }

    /// Address of a key.
    pub fn key(&self, index: usize) -> usize {
        self.image.arena.address(KEYS + KEY * index)
    }

    fn place(&self, index: usize) -> *const u8 {
        assert!(index < self.starts_on.len());
        self.image.arena.pointer(KEYS + KEY * index).cast_const()
    }

    /// The change of a key, which is `Key` of either state: they have one layout.
    pub fn to(&self, index: usize, on: bool) -> Change<'static> {
        // SAFETY: a key was written there, and stays.
        let key: &'static Key<false> = unsafe { &*self.place(index).cast() };
        if on { key.on() } else { key.off() }
    }

    /// The same key, as one that counts.
    pub fn counted(&self, index: usize) -> &'static CountedKey<false> {
        // SAFETY: as above; the two types are one word and a state.
        unsafe { &*self.place(index).cast() }
    }

    /// Whether a key is on, as its memory says.
    pub fn is_on(&self, index: usize) -> bool {
        self.counted(index).is_enabled()
    }

    /// The bytes of a branch while its key is in this state.
    pub fn bytes_of(&self, branch: Branch, is_on: bool) -> Vec<u8> {
        if is_on != branch.jumps_when_on {
            return vec![0x0f, 0x1f, 0x44, 0x00, 0x00];
        }
        let displacement = branch.target as i64 - (branch.at as i64 + 5);
        [&[0xe9], &i32::try_from(displacement).unwrap().to_le_bytes()[..]].concat()
    }

    /// The bytes of a branch before it is patched.
    pub fn unpatched(&self, branch: Branch) -> Vec<u8> {
        self.bytes_of(branch, self.starts_on[branch.key])
    }

    /// The record of a branch that is as it should be.
    pub fn raw(&self, branch: Branch) -> RawBranch {
        RawBranch {
            site: self.image.arena.address(branch.at),
            key: self.key(branch.key),
            number: 0,
            capacity: 5,
            kind: (!branch.jumps_when_on).into(),
            // Wrapping: on 32 bit a target can be anywhere.
            target: self.image.arena.address(0).wrapping_add(branch.target),
        }
    }

    /// Adds a record as it is.
    pub fn record(&self, raw: RawBranch) {
        let at = BRANCHES + self.len.get();
        let here = self.image.arena.address(at);
        let relative = |address: usize, from: usize| {
            let distance = address.wrapping_sub(from).cast_signed();
            i32::try_from(distance).expect("within 2 GiB of the record").to_le_bytes()
        };
        let mut bytes = Vec::new();
        bytes.extend(relative(raw.site, here));
        bytes.extend(relative(raw.key, here + 4));
        bytes.extend(raw.number.to_le_bytes());
        bytes.extend([raw.capacity, raw.kind]);
        bytes.extend(relative(raw.target, here + 12));
        assert!(at + bytes.len() <= KEYS && self.source.get().is_none());
        self.image.arena.write(at, &bytes);
        self.len.set(self.len.get() + bytes.len());
    }

    /// Adds a branch, in text and in the table.
    pub fn branch(&self, branch: Branch) {
        self.image.arena.write(branch.at, &self.unpatched(branch));
        self.record(self.raw(branch));
    }

    /// Makes the table of branches so many bytes long.
    pub fn truncate(&self, len: usize) {
        self.len.set(len);
    }

    /// The table of branches.
    pub fn branches(&self) -> Sites<'static> {
        // SAFETY: aligned, in the arena, which is never unmapped.
        unsafe { Sites::with_targets_between(self.image.arena.pointer(BRANCHES), self.len.get()) }
    }

    /// The front end of all branches so far; the same each time.
    pub fn source(&self) -> &'static BranchSource<'static> {
        self.source.get_or_init(|| self.another_source())
    }

    /// Another front end of the same branches.
    pub fn another_source(&self) -> &'static BranchSource<'static> {
        let states: Vec<_> = self.starts_on.iter().map(|_| BranchState::new()).collect();
        // SAFETY: the records written by `key_record`, as `keys!` does.
        let keys =
            unsafe { Keys::between(self.image.arena.pointer(KEY_RECORDS), self.keys_len.get()) };
        // SAFETY: nobody executes an arena; nobody else has these states.
        let source =
            unsafe { BranchSource::new(self.branches(), vec![keys].leak(), states.leak()) };
        Box::leak(Box::new(source))
    }

    /// A set of the ops' sites and of the branches.
    pub fn set(&self) -> &'static SiteSet<'static> {
        // SAFETY: the front ends are those of these tables only.
        let ops = unsafe { Part::new(self.image.sites(), self.image.source) };
        Box::leak(Box::new(SiteSet::new(vec![ops, self.source().part()].leak())))
    }

    pub fn patcher<P: Platform>(&self, platform: P) -> Patcher<'static, P> {
        Patcher::new(self.set(), platform)
    }

    /// The shared state of the set.
    #[allow(dead_code, reason = "for live_model")]
    pub fn live(&self) -> &'static Live<'static> {
        leak_live(self.set())
    }
}
