//! Explains the text of a kernel with this crate: what each site should hold follows from the file's
//! records and from what slots and keys hold in the dump.

use std::ops::Range;

use super::compare::ObjectComparison;
use super::elsewhere;
use super::judge::{Judged, Judgement, judge};
use super::object::{Object, Running, SiteContent};
use super::sites::{Decider, DeciderSites, RunningSites};
use super::text::ProgramText;
use super::words::{self, Words};
use crate::insn::{Nops, Width};
use crate::inspect::elf::{ModuleMemory, PlacedModule};
use crate::inspect::error::FileError;
use crate::inspect::explain::{Explanation, Located, RawAddress, Verdict, locate, read};
use crate::inspect::model::Model;

/// What a kernel's address in memory is a multiple of, seen from where it is linked: a page.
const ALIGNMENT: u64 = 0x1000;

/// The file of a module that the kernel has loaded.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ModuleFile<'m> {
    /// The name by which it is printed.
    pub name: &'m str,
    /// The relocatable object.
    pub object: &'m [u8],
}

impl<'m> ModuleFile<'m> {
    /// Makes the file of a module from its name and the bytes of the object.
    #[must_use]
    pub const fn new(name: &'m str, object: &'m [u8]) -> Self {
        Self { name, object }
    }
}

/// Explains the text of a kernel with this crate in a dump, given as bytes, and that of modules which
/// the kernel has loaded. `file` is what the model was read from; `raw` the address of the first byte
/// of a dump without a header. `all` lists proven ranges, too.
///
/// # Errors
/// Returns an error if the dump cannot be read, if the kernel or a module is not in it, or if nothing
/// of its text can be compared.
pub fn explain<'d>(
    model: &Model<'d>,
    file: &'d [u8],
    dump: &[u8],
    raw: Option<RawAddress>,
    modules: &[ModuleFile<'_>],
    all: bool,
) -> Result<Explanation, FileError> {
    let memory = read(dump, raw)?;
    let located = locate(&model.image, &memory, ALIGNMENT)?;
    let kernel = Object { model, slide: located.slide, module: None };
    let mut objects = vec![kernel];
    let mut texts = vec![ProgramText::new(&kernel, file)];
    let placed = place_modules(&kernel, &located, modules)?;
    let models = placed.iter().map(|(module, placed)| {
        let model = placed.image().and_then(Model::new);
        model.map_err(|error| of_module(module, &error))
    });
    let models: Vec<Model<'_>> = models.collect::<Result<_, _>>()?;
    for ((module, placed), model) in placed.iter().zip(&models) {
        let object = Object { model, slide: 0, module: Some((module.name, placed)) };
        texts.push(ProgramText::new(&object, &[]));
        objects.push(object);
    }
    let (running, sites, judged) = with_nops(objects, &located);
    let states: Vec<Judgement> = judged.iter().map(|judged| judged.state).collect();
    let words = Words::new(&running, &sites, &states);
    let mut explanation = Explanation::new(&located, notes(&running, &sites, &texts));
    for (number, (object, text)) in running.objects.iter().zip(&texts).enumerate() {
        let is_of_object =
            |group: usize| sites.groups.get(group).is_some_and(|group| group.object == number);
        let of_object =
            sites.sites.iter().zip(&judged).filter(|(site, _)| is_of_object(site.group));
        let comparison = ObjectComparison {
            running: &running,
            object,
            text,
            sites: of_object.collect(),
            words: &words,
            all,
            explanation: &mut explanation,
        };
        comparison.run();
    }
    if explanation.compared == 0 {
        return Err(FileError::new("the dump has nothing of its text that can be executed"));
    }
    Ok(explanation)
}

/// Finds modules in the dump.
fn place_modules<'m>(
    kernel: &Object<'_, '_>,
    located: &Located<'_, '_>,
    modules: &[ModuleFile<'m>],
) -> Result<Vec<(ModuleFile<'m>, PlacedModule)>, FileError> {
    let image = &kernel.model.image;
    let is_of_kernel = |address: u64| {
        image.section_at(kernel.of_file(address)).is_some_and(|section| !section.data.is_empty())
    };
    let mut executable = located.executable();
    executable.retain(|&(start, _)| !is_of_kernel(start));
    let find = |name: &str| image.symbols().find(name).map(|symbol| kernel.running(symbol.address));
    let mut placed = vec![];
    for &module in modules {
        let error = |error: FileError| of_module(&module, &error);
        let memory = ModuleMemory {
            read: &|address, len| located.virtual_copy(address, len),
            executable: executable.clone(),
            symbol: &find,
            sites: sites_of(module.object).map_err(error)?,
        };
        placed.push((module, PlacedModule::in_memory(module.object, &memory).map_err(error)?));
    }
    Ok(placed)
}

fn of_module(module: &ModuleFile<'_>, error: &FileError) -> FileError {
    FileError::new(format!("{}: {error}", module.name))
}

/// Returns the sites of a module: the number of the section of each, and where it is there.
fn sites_of(object: &[u8]) -> Result<Vec<(usize, Range<u64>)>, FileError> {
    let placed = PlacedModule::new(object)?;
    let model = Model::new(placed.image()?)?;
    let ops = model.records().iter().map(|record| (record.site, record.capacity));
    let branches = model.branches().iter().map(|record| (record.site, record.capacity));
    let sites = ops.chain(branches).filter_map(|(site, capacity)| {
        let section = model.image.section_at(site)?;
        let start = site - section.address;
        Some((section.index, start..start + u64::from(capacity)))
    });
    Ok(sites.collect())
}

/// Judges all sites with the NOPs that the file says. A 32-bit kernel can have chosen the others:
/// these are tried, for all sites, if some are unexplained.
fn with_nops<'a, 'd>(
    objects: Vec<Object<'a, 'd>>,
    located: &'a Located<'a, 'a>,
) -> (Running<'a, 'd>, RunningSites<'a>, Vec<Judged>) {
    let kernel = objects.first().map(|object| (object.model.nops(), object.model.image.width()));
    let (nops, width) = kernel.unwrap_or((Nops::Long, Width::Bits64));
    let attempt = |nops: Nops| {
        let running = Running { objects: objects.clone(), located, nops };
        let sites = RunningSites::new(&running);
        let judged = judge(&running, &sites);
        let is_unexplained = |judged: &&Judged| judged.state.verdict() == Verdict::Unexplained;
        let unexplained = judged.iter().filter(is_unexplained).count();
        (unexplained, (running, sites, judged))
    };
    let (unexplained, usual) = attempt(nops);
    if unexplained > 0 && width == Width::Bits32 {
        let other = if nops == Nops::Long { Nops::Lea } else { Nops::Long };
        let (of_other, other) = attempt(other);
        if of_other < unexplained {
            return other;
        }
    }
    usual
}

/// Returns what was read of the kernel's state, and what is not compared.
fn notes(
    running: &Running<'_, '_>,
    all: &RunningSites<'_>,
    texts: &[ProgramText<'_>],
) -> Vec<String> {
    let mut notes = vec![];
    let (slots, ops, sites) = read_of(all, true);
    let (states, keys, branches) = read_of(all, false);
    notes.push(format!(
        "{sites} sites of {ops} ops, {slots} slots read; {branches} branch sites of {keys} keys, \
         {states} keys read"
    ));
    if all.missing > 0 {
        notes.push(format!("{} sites are not in the dump", all.missing));
    }
    let is_wrong = |group: &&DeciderSites| matches!(group.current, Some(SiteContent::Holds(target)) if running.is_no_function(target));
    let wrong: Vec<&DeciderSites> = all.groups.iter().filter(is_wrong).collect();
    if let Some(first) = wrong.first() {
        let (slots, first) = (wrong.len(), words::decides(running, first));
        notes.push(format!(
            "of {slots} slots no function begins at the address that they hold, the first {first}: a \
             call there goes astray"
        ));
    }
    let writable: u64 = texts.iter().map(|text| text.writable).sum();
    if writable > 0 {
        notes.push(format!(
            "{writable:#x} bytes of data that the program writes can be executed; they are not compared"
        ));
    }
    if let Some(elsewhere) = elsewhere::words(running, texts) {
        notes.push(elsewhere);
    }
    notes
}

/// Returns of how many ops, or keys, the state was read, how many there are, and how many sites they
/// have.
fn read_of(all: &RunningSites<'_>, are_ops: bool) -> (usize, usize, usize) {
    let is_op = |group: &&DeciderSites| matches!(group.decider, Decider::Op { .. }) == are_ops;
    let groups: Vec<&DeciderSites> = all.groups.iter().filter(is_op).collect();
    let known = groups.iter().filter(|group| group.current.is_some()).count();
    (known, groups.len(), groups.iter().map(|group| group.sites.len()).sum())
}
