//! The client, run as the program that it is, and the line client; with servers that behave as each test needs it.

#[path = "../support/mod.rs"]
mod support;

mod datagrams;
mod exits;
mod http;
mod line;
mod prompt;
mod purpose;
mod resolving;
mod rows;
mod streams;
