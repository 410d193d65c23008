// SPDX-License-Identifier: GPL-2.0

//! Converts mapped ranges to other leaf sizes while devices use them.

use kernel::prelude::*;

use super::{
    domain::Domain,
    table::PageTable, //
};
use crate::{
    pgtable::{
        Conversion,
        IovaRange,
        PageSizes,
        Progress, //
    },
    sys::{
        num::unsupported,
        sched::cond_resched_killable, //
    }, //
};

/// Tables that are built or retired between two IOTLB flushes (1 MiB).
const WORK: u32 = 256;

/// Converts `part` to the largest leaves of `sizes` that fit. No leaf may cross an end of `part`.
///
/// Sleeps. Fails with `EOPNOTSUPP` if the page table cannot be edited, `ENOMEM`, and `EINTR` on a
/// fatal signal; `part` may then have leaves of both kinds. A merge alone allocates nothing.
pub(crate) fn convert_part(domain: &Domain, part: IovaRange, sizes: PageSizes) -> Result {
    convert(domain.table(), part, sizes)
}

/// The same for a range that no device uses yet: leaves stay clean.
pub(crate) fn convert_new(domain: &Domain, part: IovaRange, sizes: PageSizes) -> Result {
    convert(
        domain.table().map(|table| table.tracked(false)),
        part,
        sizes,
    )
}

fn convert(table: Option<PageTable<'_>>, part: IovaRange, sizes: PageSizes) -> Result {
    let table = table.ok_or_else(unsupported)?;
    let mut conversion = Conversion::new(part, sizes);

    while table.edit(|editor| conversion.step(editor, WORK))? == Progress::More {
        cond_resched_killable()?;
    }
    Ok(())
}
