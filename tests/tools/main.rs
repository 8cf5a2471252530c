//! The commands beside the server and its clients, tested from outside.
//!
//! | file | its subject |
//! |---|---|
//! | `doctor.rs` | the report on this machine, its exit status, and that the server counts alike |
//! | `generated.rs` | completions and manual pages: shells and `man` take them |
//! | `trace_page.rs` | a recording as a page that steps through it, in a browser |
//! | `usage.rs` | wrong input and its hints |
//! | `signals.rs` | Ctrl-C while a command resolves a name, and a terminal that goes |

#[path = "../support/mod.rs"]
mod support;

mod doctor;
mod generated;
mod signals;
mod trace_page;
mod usage;
