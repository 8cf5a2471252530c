//! What is told about a running server over HTTP: its figures for Prometheus, and whether it lives and accepts.
//!
//! It is served by the same loop, connection and buffers as the echo, and can't disturb it: there are few of these
//! connections at a time, each has one request, one response and ten seconds for both, and its bytes have a budget a
//! turn like anybody's.
//!
//! **One request a connection.** A scrape comes every few seconds, so a connection that is kept for the next one saves
//! nothing; and one that ends with its response can't be held, has no queue of further requests, and needs one
//! deadline. Requests that follow in the same connection are not answered, as RFC 9112 (9.3) allows to a server that
//! says `Connection: close`.
//!
//! | file | what it holds |
//! |---|---|
//! | `request.rs` | bytes, however torn → a request, or the reason to refuse it |
//! | `response.rs` | what is answered to what |
//! | `scraper.rs` | one connection to it |
//! | `status.rs` | what the pages say |
//! | `figures.rs` | what is counted, and how it is said in the log |
//! | `exposition.rs` | the figures as OpenMetrics and as Prometheus text |
//! | `endpoint.rs` | its listeners, and the scrapers that it takes in |

mod endpoint;
mod exposition;
mod figures;
mod request;
mod response;
mod scraper;
mod status;

pub(super) use self::endpoint::{AdminEndpoint, Admission, bind, descriptors, warn_of_strangers};
pub(super) use self::figures::{Figures, Process, ProcessFigures};
pub(super) use self::scraper::Scraper;
pub(super) use self::status::{NotAccepting, Status};
