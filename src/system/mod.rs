//! The process and its system: limits, memory, signals, the log, error messages. Every other folder may use it.

mod limits;
mod log;
mod memory;
mod message;
mod signals;

pub use self::limits::DescriptorLimit;
pub(crate) use self::limits::open_descriptors;
pub use self::log::{Escaped, StandardErrorLog};
pub(crate) use self::memory::allowed_memory;
pub(crate) use self::message::describe;
pub use self::signals::{ReportSignal, StopHandle, StopSignal, survive_file_size_limit};
