//! The line at the bottom of a terminal that a program draws again and again.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the last line of the terminal is such a line.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Stands for a line on standard error that its owner draws several times a second, until this is dropped.
///
/// While it lives, each line of the log first wipes the line on which the cursor stands, so that no old drawing stays above
/// the log. The owner's next drawing puts the line below it again.
#[derive(Debug)]
pub struct LiveLine(());

impl LiveLine {
    /// Call it before the first drawing, on a terminal that understands escape sequences.
    #[must_use]
    pub fn begin() -> LiveLine {
        SHOWN.store(true, Ordering::Relaxed);
        LiveLine(())
    }

    /// Bytes that belong before a line of the log: back to the first column, and empty the line.
    pub(super) fn wipe() -> &'static str {
        if SHOWN.load(Ordering::Relaxed) { "\r\x1b[K" } else { "" }
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        SHOWN.store(false, Ordering::Relaxed);
    }
}
