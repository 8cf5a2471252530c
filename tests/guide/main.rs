//! Compares the documentation with the source and with the programs.
//!
//! | file | its checks |
//! |---|---|
//! | `exercises.rs` | each grader is red on its exercise and green on the solution |
//! | `experiments.rs` | each experiment gives what its chapter shows and concludes |
//! | `quotes.rs` | quoted lines are in the named file; diagrams show the code's own names; links lead somewhere; chapters have all their parts |
//! | `picture.rs` | the program that drew the picture of a trace draws a server's recording |
//! | `reference.rs` | the blocks of the README and of each page of the reference run, and show what they say |
//! | `rows.rs` | each row of `docs/rows.md` does as it says |

#[path = "../support/mod.rs"]
mod support;

mod exercises;
mod experiments;
mod picture;
mod quotes;
mod reference;
mod rows;
