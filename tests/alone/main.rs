//! Tests that need the machine to themselves, one after the other: they load its cores, or measure on them. Cargo runs
//! the targets of a package one after the other as well.

mod rate_search;
mod starvation;
#[path = "../support/mod.rs"]
mod support;
#[path = "../load/toys.rs"]
#[allow(dead_code, reason = "these tests use a part of it")]
mod toys;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// While a test holds this, none of the others runs.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}
