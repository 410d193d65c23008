// SPDX-License-Identifier: GPL-2.0

//! Other leaf sizes for what a domain maps, while devices use it.

use kernel::prelude::*;

use super::domain::Domain;
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

/// Tables that are made, or given back, between two flushes: a megabyte of them.
const WORK: u32 = 256;

/// Gives `part`, the ends of which no leaf crosses, leaves of `sizes`, each as large as fits.
pub(crate) fn convert_part(domain: &Domain, part: IovaRange, sizes: PageSizes) -> Result {
    let table = domain.table().ok_or_else(unsupported)?;
    let mut conversion = Conversion::new(part, sizes);

    while table.edit(|editor| conversion.step(editor, WORK))? == Progress::More {
        cond_resched_killable()?;
    }
    Ok(())
}
