//! The first pass: every record, every site and every replacement is checked; nothing is written.

use super::checked_site::Run;
use super::class::ClassCache;
use super::contents::{Contents, View};
use super::overlap::{self, Search};
use super::platform::Platform;
use super::report::Report;
use super::site_set::SiteSet;
use crate::error::Error;
use crate::site::Record;

/// Checks everything and returns the counts of what the sites get.
///
/// # Errors
/// - Every variant of [`Error`] but those of a platform that breaks its contract and those of
///   [`live`](crate::live).
#[inline(never)]
pub(crate) fn check<P: Platform>(
    run: &Run<'_, P>,
    cache: &mut ClassCache,
) -> Result<Report, Error> {
    let mut report = Report::default();
    for set in run.sets {
        check_set(run, set, cache, &mut report)?;
    }
    Ok(report)
}

/// Checks the sites of one set and counts them.
fn check_set<P: Platform>(
    run: &Run<'_, P>,
    set: &SiteSet<'_>,
    cache: &mut ClassCache,
    report: &mut Report,
) -> Result<(), Error> {
    let (search, span) = Search::new(set);
    for part in set.parts() {
        let sites = part.sites();
        if !sites.is_whole() {
            return Err(Error::TruncatedTable { bytes: sites.size(), record: Record::SIZE });
        }
        let records = sites.records();
        for (index, record) in records.iter().enumerate() {
            run.prefetch(records, index, View::Site);
            // Looked at where it was put, see `Run::site`.
            let site = run.site(part, index, record, cache);
            let site = match &site {
                Ok(site) => site,
                Err(error) => return Err(*error),
            };
            let contents = run.contents(site, View::Site);
            if contents == Contents::Unknown {
                // That it overlaps another site says more about what it holds.
                let overlap = overlap::search(run, set, part, index, record);
                return Err(overlap.unwrap_or_else(|| run.old_bytes(site)));
            }
            if search.finds(run, set, site)
                && let Some(error) = overlap::search(run, set, part, index, record)
            {
                return Err(error);
            }
            report.add(site.class.new_name, contents == Contents::Known);
        }
    }
    set.set_checked(span);
    Ok(())
}
