//! The process and its system: limits, memory, signals, the log, error messages. Every other folder may use it.

mod cpu_time;
mod folded;
mod limits;
mod log;
mod memory;
mod message;
mod ports;
mod signals;
mod text;

pub(crate) use self::cpu_time::cpu_time;
pub use self::folded::folded;
pub use self::limits::DescriptorLimit;
pub(crate) use self::limits::open_descriptors;
pub use self::log::{Escaped, LiveLine, StandardErrorLog};
pub(crate) use self::memory::{MemoryGroup, allowed_memory, memory_entry, memory_limit};
pub use self::message::describe;
pub(crate) use self::ports::{PORT_RANGE, port_range};
pub use self::signals::{ReportSignal, StopHandle, StopSignal, survive_file_size_limit};
pub use self::text::{Text, TextError};
