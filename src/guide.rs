//! [`src/net/connection.rs`]: ../../src/echoloop/net/connection.rs.html
//! [`src/reactor/mod.rs`]: ../../src/echoloop/reactor/mod.rs.html
//! [`Reactor::turn`]: crate::reactor::Reactor::turn
//! [`Phase`]: crate::net::Phase
//! [`readiness`]: c01_readiness
//! [`edges`]: c02_edges
//! [`short_read`]: c03_short_read
//! [`write_buffer`]: c04_write_buffer
//! [`backpressure`]: c05_backpressure
//! [`half_close`]: c06_half_close
//! [`fairness`]: c07_fairness
//! [`descriptors`]: c08_descriptors
//! [`deadlines`]: c09_deadlines
//! [`signals`]: c10_signals
//! [`measuring`]: c11_measuring
//! [`io_uring`]: c12_io_uring
//! [`seeing`]: c13_seeing
#![doc = include_str!("../docs/guide.md")]

// The pages link to each other and to the files that they quote as they lie in the repository. Here these links lead to
// what rustdoc makes of them: of two definitions the first one counts.
macro_rules! chapters {
    ($($chapter:ident: $file:literal $(with $picture:literal)?,)*) => { $(
        /// [`BENCHMARKS.md`]: ../../../../../BENCHMARKS.md
        /// [`src/net/buffers.rs`]: ../../../src/echoloop/net/buffers.rs.html
        /// [`src/net/connection.rs`]: ../../../src/echoloop/net/connection.rs.html
        /// [`src/reactor/context.rs`]: ../../../src/echoloop/reactor/context.rs.html
        /// [`src/reactor/mod.rs`]: ../../../src/echoloop/reactor/mod.rs.html
        /// [`src/server/acceptor.rs`]: ../../../src/echoloop/server/acceptor.rs.html
        /// [`src/server/connections.rs`]: ../../../src/echoloop/server/connections.rs.html
        /// [`src/server/trace_file.rs`]: ../../../src/echoloop/server/trace_file.rs.html
        /// [`src/system/signals.rs`]: ../../../src/echoloop/system/signals.rs.html
        #[doc = include_str!(concat!("../docs/", $file))]
        // A picture can't be linked to from here, since rustdoc takes no files but these. So it becomes a part of the
        // page, and the link to it, with which the page ends, is not shown.
        $(
            #[doc = concat!("<style>.docblock img[src='", $picture, "'] { display: none }</style>\n")]
            #[doc = include_str!(concat!("../docs/", $picture))]
        )?
        pub mod $chapter {}
    )* };
}

chapters! {
    c01_readiness: "readiness.md",
    c02_edges: "edges.md",
    c03_short_read: "short_read.md",
    c04_write_buffer: "write_buffer.md",
    c05_backpressure: "backpressure.md",
    c06_half_close: "half_close.md",
    c07_fairness: "fairness.md",
    c08_descriptors: "descriptors.md",
    c09_deadlines: "deadlines.md",
    c10_signals: "signals.md",
    c11_measuring: "measuring.md",
    c12_io_uring: "io_uring.md",
    c13_seeing: "seeing.md" with "trace.svg",
}
