//! What the documentation says, held against the source and the program.
//!
//! | file | what it checks |
//! |---|---|
//! | `exercises.rs` | each grader is red on its exercise and green on the solution |
//! | `experiments.rs` | each experiment gives what its chapter shows and concludes |
//! | `quotes.rs` | quoted lines are in the file that is named; diagrams show the code's own names; links lead somewhere; chapters have all their parts |
//! | `picture.rs` | the program that drew the picture of a trace draws what a server has recorded |
//! | `reference.rs` | the blocks of the README and of each page of the reference are run, and show what they say |
//! | `rows.rs` | each line of the table *source document → command* does what the table shows |

#[path = "../support/mod.rs"]
mod support;

mod exercises;
mod experiments;
mod picture;
mod quotes;
mod reference;
mod rows;
