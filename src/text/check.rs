//! The first pass: every record, every site and every replacement is checked; nothing is written.

use super::checked_site::{CheckedSite, Run};
use super::class::ClassCache;
use super::contents::{Contents, View};
use super::fault::{Fault, SiteFault};
use super::overlap::{self, Search};
use super::platform::Platform;
use super::report::Report;
use super::site_set::SiteSet;
use super::source::Follow;
use crate::error::Error;

/// Checks everything in these sets and returns the counts of what the sites get.
///
/// # Errors
/// Returns every variant of [`Error`] but [`Error::Alias`] and [`Error::ReadBack`], which only a
/// write can find, and those of [`live`](crate::live).
pub(crate) fn check<'r, P: Platform>(
    sets: impl Iterator<Item = &'r SiteSet<'r>>,
    platform: &P,
    follow: Follow,
    cache: &mut ClassCache,
) -> Result<Report, Error> {
    let mut report = Report::default();
    for set in sets {
        let run = &Run { set, platform, follow };
        if let Err(fault) = &check_set(run, cache, &mut report) {
            return Err(run.error(fault));
        }
    }
    Ok(report)
}

/// Checks the sites of one set and counts them.
#[inline(never)]
fn check_set<'r, P: Platform>(
    run: &Run<'r, P>,
    cache: &mut ClassCache,
    report: &mut Report,
) -> Result<(), Fault<'r>> {
    let set = run.set;
    let (search, span) = Search::new(set);
    for part in set.parts() {
        let sites = part.sites();
        if !sites.is_whole() {
            return Err(Fault::TruncatedTable(part));
        }
        let mut rest = sites.records();
        while let Some(record) = rest.next() {
            run.prefetch(&rest, View::Site);
            // Borrowed, and never moved: see `Run::site`.
            let Some(site) = &run.site(part, record, cache) else {
                if set.is_withdrawn(record.site()) {
                    report.withdrawn += 1;
                    continue;
                }
                return Err(Fault::Site(part, record, SiteFault::Refused));
            };
            let contents = run.contents(site, View::Site);
            if contents == Contents::Unknown || search.is_needed(run, site, contents) {
                look_closer(set, site, contents)?;
            }
            report.add(site.class.new_name, contents != Contents::New);
        }
    }
    set.set_checked(span);
    Ok(())
}

/// Checks that the site overlaps no other one, and then that it holds something known. In this
/// order, because a site that another one overlaps usually holds something unknown as well, and the
/// overlap is the reason.
#[cold]
fn look_closer<'r>(
    set: &SiteSet<'r>,
    site: &CheckedSite<'r, '_>,
    contents: Contents,
) -> Result<(), Fault<'r>> {
    overlap::search(set, site.part, site.record)?;
    match contents {
        Contents::Unknown => Err(site.fault(SiteFault::Contents)),
        _ => Ok(()),
    }
}
