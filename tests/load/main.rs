//! The load generator, run as the program that it is, and as a library.

mod datagrams;
mod faults;
#[path = "../support/foreign.rs"]
#[allow(dead_code, reason = "the tests of the server use the rest")]
mod foreign;
mod greetings;
mod library;
mod limits;
mod loops;
mod many;
mod outages;
mod replies;
mod report;
mod scale;
mod screen;
mod starvation;
mod support;
