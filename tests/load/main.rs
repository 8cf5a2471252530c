//! The load generator, run as the program that it is, and as a library.

#[path = "../support/mod.rs"]
mod support;

mod datagrams;
mod faults;
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
mod toys;
