//! The admin endpoint: figures for Prometheus and health, over HTTP.
//!
//! The loop that serves the echo serves this endpoint, too, with connections and buffers of the same kind. It is
//! bounded: there are few scrapers at a time. Each has one request, one response and ten seconds for both, and a budget
//! of bytes a turn, as a client has.
//!
//! **One request a connection.** A scrape comes every few seconds, so keeping its connection would save nothing. A
//! connection that ends with its response has no queue of further requests, needs one deadline, and nobody can hold it.
//! The server does not answer further requests on it, as RFC 9112 (9.3) allows with `Connection: close`.
//!
//! | file | its part |
//! |---|---|
//! | `endpoint.rs` | the listeners, and which scrapers have a place |
//! | `scraper.rs` | one connection: a request, a response |
//! | `http.rs` | the head of a request, and a response |
//! | `pages.rs` | the pages, and the refusals of everything else |
//! | `figures.rs` | the figures, and their lines in the log |
//! | `metrics.rs` | the figures as OpenMetrics and as Prometheus text |

mod endpoint;
mod figures;
mod http;
mod metrics;
mod pages;
mod scraper;

pub(super) use self::endpoint::{AdminEndpoint, bind, places, warn_of_strangers};
pub(super) use self::figures::{Figures, NotAccepting, Process};
pub(super) use self::scraper::Scraper;
