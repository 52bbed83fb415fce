//! `patchlet sites`

use std::collections::BTreeMap;

use serde::Serialize;

use super::output::{Stream, count, print_json};
use super::{Exit, Stop, Terminal, in_file};
use crate::inspect::arguments::Sites;
use crate::inspect::columns::{self, Paint, number, text};
use crate::inspect::map::map;
use crate::inspect::model::{Model, State};
use crate::inspect::read::parse;
use crate::inspect::records::Record;
use crate::inspect::views::{SiteView, op_name};

pub(super) fn sites(arguments: &Sites, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = map(path).map_err(in_file(path))?;
    let model = parse(&data).and_then(Model::new).map_err(in_file(path))?;
    let wanted = |record: &&Record| {
        let op = || op_name(&model, record);
        let function = || model.function(record.site);
        (arguments.op.is_empty() || arguments.op.contains(&op()))
            && (arguments.function.is_empty()
                || arguments.function.iter().any(|part| function().contains(part)))
    };
    let mut shown: Vec<&Record> = model.records().iter().filter(wanted).collect();
    shown.sort_by_key(|record| record.site);
    let views = || shown.iter().map(|record| SiteView::new(&model, record));
    let (mut ops, mut states) = (BTreeMap::new(), [0, 0, 0]);
    for record in &shown {
        *ops.entry(op_name(&model, record)).or_insert(0_usize) += 1;
        let [indirect, native, foreign] = &mut states;
        *match model.state(record) {
            State::Indirect => indirect,
            State::Native => native,
            State::Foreign => foreign,
        } += 1;
    }
    let [indirect, native, foreign] = states;
    if arguments.json {
        #[derive(Serialize)]
        struct Counts {
            all: usize,
            shown: usize,
            indirect: usize,
            native: usize,
            foreign: usize,
            by_op: BTreeMap<String, usize>,
        }
        #[derive(Serialize)]
        struct Document<S: Serialize> {
            file: String,
            format: String,
            sites: S,
            counts: Counts,
        }
        let (all, shown) = (model.records().len(), shown.len());
        let counts = Counts { all, shown, indirect, native, foreign, by_op: ops };
        let (file, format) = (path.display().to_string(), model.image().words());
        print_json(terminal, &Document { file, format, sites: Stream(views), counts })?;
        return Ok(Exit::Holds);
    }
    let heading = format!("{}: {}", path.display(), model.image().words());
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    if !shown.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("OP"),
            text("KIND"),
            number("CAP"),
            text("BYTES"),
            text("INSTRUCTIONS"),
            text("FUNCTION"),
        ];
        columns::print(terminal, &columns, || views().map(SiteView::row))?;
    }
    let of = if shown.len() == model.records().len() {
        String::new()
    } else {
        format!(" of {}", model.records().len())
    };
    let all = count(shown.len(), "site");
    writeln!(terminal.out, "{all}{of}: {indirect} indirect, {native} native, {foreign} foreign")?;
    for (op, count) in ops {
        writeln!(terminal.out, "{count:>6} {op}")?;
    }
    Ok(Exit::Holds)
}
