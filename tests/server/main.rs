//! The server, tested from outside: the real program as a child process, real sockets, the bytes on the wire.
//!
//! | file | its subject |
//! |---|---|
//! | `accept_errors.rs` | errors of `accept` that strace injects: no spin, no flood, nobody lost |
//! | `admin.rs` | figures and health over HTTP, for well-behaved scrapers and the others |
//! | `rows.rs` | the rows of `docs/rows.md`, one test each |
//! | `bytes.rs` | every byte comes back, in order, whatever the length and the options |
//! | `ends.rs` | half-closes, resets in every phase, urgent bytes, passed descriptors |
//! | `greetings.rs` | the server's first words, and to whom |
//! | `proxy.rs` | the PROXY protocol: the client that a balancer announces, and clients that nobody announces |
//! | `haproxy.rs` | the same with a real HAProxy, which gets new servers under load |
//! | `limits.rs` | connections and descriptors: nobody is lost, nothing spins |
//! | `timeouts.rs` | time: clients that the server drops, and clients that it keeps, however late it looks |
//! | `cut_off.rs` | bytes that are lost when a connection ends: the server counts them all |
//! | `fairness.rs` | crowds, floods and clients that never read: memory has a bound, and the others get their answers |
//! | `logs.rs` | the text of the log and of standard output, and that they can't stop the server |
//! | `clients.rs` | nc, socat, telnet, curl, Python and Bash as clients |
//! | `calls.rs` | the system calls of an echo and of a new connection |
//! | `containers.rs` | the image and the manifest in `deploy` |
//! | `datagrams.rs` | UDP: whole, from the right address, and no answer that could serve an attack |
//! | `endpoints.rs` | where the server listens, and where it can't, with exit status |
//! | `activation.rs` | sockets that another process has opened, and keeps |
//! | `service.rs` | as a service: notices to systemd, and the units in `deploy/systemd` |
//! | `splicing.rs` | bulk data that the server does not copy: the same bytes, and metrics that count them |
//! | `stopping.rs` | signals: an exact prefix, a clean end, and no client that can keep the server |
//! | `trace.rs` | `--trace`: a file that programs can open, and that shows what happened |

#[path = "../support/mod.rs"]
mod support;

mod accept_errors;
mod activation;
mod admin;
mod bytes;
mod calls;
mod clients;
mod containers;
mod cut_off;
mod datagrams;
mod endpoints;
mod ends;
mod fairness;
mod greetings;
mod haproxy;
mod limits;
mod logs;
mod proxy;
mod rows;
mod service;
mod splicing;
mod stopping;
mod timeouts;
mod trace;
