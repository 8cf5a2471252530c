//! The server, tested from outside: the real program as a child process, real sockets, the bytes on the wire.
//!
//! | file | what it holds to account |
//! |---|---|
//! | `rows.rs` | the rows of the source documents, one test each |
//! | `bytes.rs` | every byte comes back, in order, whatever the length and the options |

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod rows;
