//! A single-threaded event loop that is an echo server for very many connections.
#![cfg(unix)]

mod descriptors;
mod endpoint;
mod error;
pub mod load;
mod logging;
pub mod net;
pub mod reactor;
mod server;
mod service;
mod signals;

pub use crate::descriptors::DescriptorLimit;
pub use crate::endpoint::{DEFAULT_PORT, Endpoint, EndpointError, Host};
pub use crate::error::Error;
pub use crate::logging::{Escaped, StandardErrorLog};
pub use crate::server::{Server, ServerOptions, Summary, WhenFull};
pub use crate::service::Protocol;
pub use crate::signals::{StopHandle, StopSignal};
