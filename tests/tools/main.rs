//! The commands beside the server and its clients, tested from outside.
//!
//! | file | what it holds to account |
//! |---|---|
//! | `generated.rs` | completions and manual pages: shells and `man` take them |

#[path = "../support/mod.rs"]
mod support;

mod generated;
