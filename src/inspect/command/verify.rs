//! `patchlet verify`

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::output::{count, print_findings, print_json};
use super::{Exit, Stop, Terminal, in_file};
use crate::contract;
use crate::inspect::archive::{is_archive, members};
use crate::inspect::arguments::Verify;
use crate::inspect::columns::Paint;
use crate::inspect::error::Error;
use crate::inspect::finding::{Finding, Findings};
use crate::inspect::map::map;
use crate::inspect::model::Model;
use crate::inspect::patchlets::patchlets_of;
use crate::inspect::read::parse;
use crate::inspect::verify::{self, Reference};

/// Verifies, with progress on a terminal.
pub(super) fn verify_slowly(
    model: &Model<'_>,
    reference: &Reference<'_>,
    terminal: &mut Terminal<'_>,
) -> Findings {
    /// Before this nobody wonders.
    const PATIENCE: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut shown = false;
    let findings = verify::verify(model, reference, &mut |done, of| {
        if terminal.progress && start.elapsed() >= PATIENCE {
            shown = true;
            let percent = u128::from(done) * 100 / u128::from(of.max(1));
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(terminal.err, "\rverifying text: {percent} %");
            let _ = terminal.err.flush();
        }
    });
    if shown {
        let _ = write!(terminal.err, "\r\x1b[K");
    }
    findings
}

pub(super) fn verify(arguments: &Verify, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = map(path).map_err(in_file(path))?;
    let model = parse(&data).and_then(Model::new).map_err(in_file(path))?;
    let against = match &arguments.against {
        Some(path) => Some((path, map(path).map_err(in_file(path))?)),
        None => None,
    };
    let mut from_object = Vec::new();
    if let Some((path, data)) = &against {
        for (_, object) in objects(data).map_err(in_file(path))? {
            let image = parse(object).map_err(in_file(path))?;
            if image.width() != model.image().width() {
                return Err(in_file(path)(Error::new(format!(
                    "{}, but {} is {}",
                    image.words(),
                    arguments.file.display(),
                    model.image().words()
                ))));
            }
            from_object.extend(patchlets_of(&image).0);
        }
        if from_object.is_empty() {
            return Err(in_file(path)(Error::new("there is no patchlet to compare with")));
        }
    }
    let mut reference = match against {
        Some(_) => Reference::object(&from_object),
        None => Reference::native(&model),
    };
    reference.required =
        arguments.require.iter().map(|name| &**name).filter(|name| !name.is_empty()).collect();
    for path in &arguments.contracts {
        let source = fs::read_to_string(path)
            .map_err(|error| in_file(path)(Error::new(error.to_string())))?;
        let contracts = contract::parse(&source, model.image().width())
            .map_err(|error| in_file(path)(Error::new(error.to_string())))?;
        if contracts.is_empty() {
            return Err(in_file(path)(Error::new("there is no patchlet in it")));
        }
        reference.contracts.extend(contracts);
    }
    let findings = verify_slowly(&model, &reference, terminal);
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'v> {
            file: String,
            format: String,
            holds: bool,
            patchlets: usize,
            sites: usize,
            tables: usize,
            counts: BTreeMap<&'v str, usize>,
            findings: Vec<Finding>,
        }
        let document = Document {
            file: path.display().to_string(),
            format: model.image().words(),
            holds: findings.is_empty(),
            patchlets: model.patchlets().len(),
            sites: model.records().len(),
            tables: model.tables().len(),
            counts: findings.counts().iter().map(|(code, &count)| (code.name(), count)).collect(),
            findings: findings.sorted(),
        };
        print_json(terminal, &document)?;
        return Ok(exit);
    }
    let total: usize = findings.counts().values().sum();
    print_findings(terminal, findings)?;
    let verdict = match total {
        0 => terminal.paint(Paint::Good, "everything holds"),
        _ => terminal.paint(Paint::Bad, &count(total, "finding")),
    };
    writeln!(
        terminal.out,
        "{}: {}, {}, {}, {}: {verdict}",
        path.display(),
        model.image().words(),
        count(model.patchlets().len(), "patchlet"),
        count(model.records().len(), "site"),
        count(model.tables().len(), "ops table"),
    )?;
    Ok(exit)
}

/// The file itself, or the objects of an archive.
fn objects(data: &[u8]) -> Result<Vec<(String, &[u8])>, Error> {
    if is_archive(data) { members(data) } else { Ok(vec![(String::new(), data)]) }
}
