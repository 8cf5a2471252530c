//! The server, tested from outside: the real program as a child process, real sockets, the bytes on the wire.
//!
//! | file | what it holds to account |
//! |---|---|
//! | `accept_errors.rs` | errors of `accept` that strace injects: no spin, no flood, nobody lost |
//! | `admin.rs` | figures and health over HTTP, for well-behaved scrapers and the others |
//! | `rows.rs` | the rows of `docs/rows.md`, one test each |
//! | `bytes.rs` | every byte comes back, in order, whatever the length and the options |
//! | `ends.rs` | half-closes, resets in every phase, urgent bytes, passed descriptors |
//! | `greetings.rs` | the server's first words, and to whom |
//! | `proxy.rs` | the PROXY protocol: the client that a balancer announces, and clients that nobody announces |
//! | `haproxy.rs` | the same with a real HAProxy, and servers that are replaced under load |
//! | `limits.rs` | connections and descriptors: nobody is lost, nothing spins |
//! | `timeouts.rs` | time: clients that are dropped, and clients that are not, however late the server looks |
//! | `cut_off.rs` | bytes that are lost when a connection ends: the server counts them all |
//! | `fairness.rs` | crowds, floods and clients that never read: bounded memory, and the others are served |
//! | `logs.rs` | what the log and standard output say, and that they can't stop the server |
//! | `clients.rs` | nc, socat, telnet, curl, Python and Bash as clients |
//! | `calls.rs` | the system calls that all of it costs |
//! | `containers.rs` | the image and the manifest in `deploy` |
//! | `datagrams.rs` | UDP: whole, from the right address, and never where it would be a weapon |
//! | `endpoints.rs` | where it listens, and where it can't, with exit status |
//! | `activation.rs` | sockets that somebody else has opened, and keeps |
//! | `service.rs` | as a service: notices to systemd, and the units in `deploy/systemd` |
//! | `splicing.rs` | bulk data that is not copied: the same bytes, and figures of it |
//! | `stopping.rs` | signals: an exact prefix, a clean end, and nobody who can keep the server |
//! | `trace.rs` | `--trace`: a file that can be opened, and shows what happened |

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
