//! The sites of all tables of a kernel, each with what its record says.

use super::kernel::LinuxKernel;
use super::tables::{KernelTable, TableKind, TableRecord};
use crate::disassemble::disassemble;

/// A site of a Linux kernel, as its file has it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListedSite {
    /// Address of the first byte.
    pub address: u64,
    /// The kind of the table.
    pub table: TableKind,
    /// What decides the bytes: a feature, a key, a slot.
    pub depends: String,
    /// Where the record leads: the target of a jump, the function of a call, a replacement.
    pub leads_to: String,
    /// The bytes of the site.
    pub bytes: Vec<u8>,
    /// The instructions of the site.
    pub instructions: String,
    /// The function, with the distance from its start.
    pub function: String,
}

/// The sites that are wanted.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SiteFilter {
    /// Only sites of these tables; of all, if there are none.
    pub tables: Vec<TableKind>,
    /// Only sites that these keys decide: jump labels and static calls.
    pub keys: Vec<u64>,
    /// Only sites in functions with one of these in their names.
    pub functions: Vec<String>,
}

impl<'d> LinuxKernel<'d> {
    /// Returns the address of a key, by its name or as `0x…`.
    #[must_use]
    pub fn key(&self, words: &str) -> Option<u64> {
        match words.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => {
                self.names.address(words).or_else(|| self.names.address(&format!("__SCK__{words}")))
            }
        }
    }

    /// Returns the sites that are wanted, sorted by address.
    pub fn sites(&self, filter: &SiteFilter) -> Vec<LinuxSite<'_>> {
        let mut sites: Vec<LinuxSite<'_>> = Vec::new();
        for table in &self.tables {
            if !filter.tables.is_empty() && !filter.tables.contains(&table.kind) {
                continue;
            }
            let has_key = matches!(table.kind, TableKind::JumpLabels | TableKind::StaticCalls);
            sites.extend(
                table
                    .records
                    .iter()
                    .filter(|record| {
                        filter.keys.is_empty() || has_key && filter.keys.contains(&record.key)
                    })
                    .filter(|record| self.is_in_function(&filter.functions, record.site))
                    .map(|record| LinuxSite { table, record }),
            );
        }
        sites.sort_by_key(|site| site.record.site);
        sites
    }

    /// Returns the name of what is at an address or before it.
    #[must_use]
    pub fn name_of(&self, address: u64) -> Option<String> {
        Some(self.names.place(address)).filter(|name| !name.is_empty())
    }

    /// Returns whether an address is in a function with one of `parts` in its name; with no parts,
    /// any is.
    #[must_use]
    pub fn is_in_function(&self, parts: &[String], address: u64) -> bool {
        if parts.is_empty() {
            return true;
        }
        let function = self.names.function(address).map_or("", |(name, _)| name);
        parts.iter().any(|part| function.contains(&**part))
    }

    /// Returns what there is to say of a site.
    #[must_use]
    pub fn listed(&self, site: &LinuxSite<'_>) -> ListedSite {
        let LinuxSite { table, record } = site;
        let len = self.site_length(table.kind, record);
        let bytes = self.code(record.site, usize::try_from(len).unwrap_or(0)).to_vec();
        let name = |target| Some(self.names.place(target)).filter(|name| !name.is_empty());
        let is_operand = table.kind.is_operand();
        ListedSite {
            address: record.site,
            table: table.kind,
            depends: self.depends(table, record),
            leads_to: self.leads_to(table, record),
            instructions: match (is_operand, table.kind) {
                (true, _) => "operand".to_owned(),
                (_, TableKind::SmpLocks) => "lock".to_owned(),
                _ => disassemble(self.image.width(), record.site, &bytes, name),
            },
            bytes,
            function: self.names.place(record.site),
        }
    }
}

/// A site in a table.
#[derive(Clone, Copy, Debug)]
pub struct LinuxSite<'k> {
    pub(super) table: &'k KernelTable,
    pub(super) record: &'k TableRecord,
}

impl LinuxSite<'_> {
    /// Returns the kind of the table.
    #[must_use]
    pub const fn table(&self) -> TableKind {
        self.table.kind
    }
}
