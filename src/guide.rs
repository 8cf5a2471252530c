//! [`src/net/connection.rs`]: ../../src/echoloop/net/connection.rs.html
//! [`src/reactor/mod.rs`]: ../../src/echoloop/reactor/mod.rs.html
//! [`Reactor::turn`]: crate::reactor::Reactor::turn
//! [`Phase`]: crate::net::Phase
//! [`readiness`]: c01_readiness
//! [`edges`]: c02_edges
//! [`short_read`]: c03_short_read
//! [`write_buffer`]: c04_write_buffer
//! [`backpressure`]: c05_backpressure
//! [`writability`]: c06_writability
//! [`half_close`]: c07_half_close
//! [`fairness`]: c08_fairness
//! [`whose_event`]: c09_whose_event
//! [`descriptors`]: c10_descriptors
//! [`deadlines`]: c11_deadlines
//! [`signals`]: c12_signals
//! [`measuring`]: c13_measuring
//! [`splice`]: c14_splice
//! [`io_uring`]: c15_io_uring
//! [`seeing`]: c16_seeing
#![doc = include_str!("../docs/guide.md")]

// The pages link to each other and to the files that they quote as they lie in the repository. Here these links lead to
// what rustdoc makes of them: of two definitions the first one counts.
macro_rules! chapters {
    ($($chapter:ident: $file:literal $(with $picture:literal)?,)*) => { $(
        /// [`guide`]: crate::guide
        /// [`words`]: crate::guide#the-words
        /// [`readiness`]: crate::guide::c01_readiness
        /// [`edges`]: crate::guide::c02_edges
        /// [`short_read`]: crate::guide::c03_short_read
        /// [`write_buffer`]: crate::guide::c04_write_buffer
        /// [`backpressure`]: crate::guide::c05_backpressure
        /// [`writability`]: crate::guide::c06_writability
        /// [`half_close`]: crate::guide::c07_half_close
        /// [`fairness`]: crate::guide::c08_fairness
        /// [`whose_event`]: crate::guide::c09_whose_event
        /// [`descriptors`]: crate::guide::c10_descriptors
        /// [`deadlines`]: crate::guide::c11_deadlines
        /// [`signals`]: crate::guide::c12_signals
        /// [`measuring`]: crate::guide::c13_measuring
        /// [`splice`]: crate::guide::c14_splice
        /// [`io_uring`]: crate::guide::c15_io_uring
        /// [`seeing`]: crate::guide::c16_seeing
        /// [`BENCHMARKS.md`]: ../../../../../BENCHMARKS.md
        /// [`src/net/connection.rs`]: ../../../src/echoloop/net/connection.rs.html
        /// [`src/net/flow.rs`]: ../../../src/echoloop/net/flow.rs.html
        /// [`src/net/pipes.rs`]: ../../../src/echoloop/net/pipes.rs.html
        /// [`src/net/wire.rs`]: ../../../src/echoloop/net/wire.rs.html
        /// [`src/net/workspace.rs`]: ../../../src/echoloop/net/workspace.rs.html
        /// [`src/reactor/context.rs`]: ../../../src/echoloop/reactor/context.rs.html
        /// [`src/reactor/mod.rs`]: ../../../src/echoloop/reactor/mod.rs.html
        /// [`src/reactor/sources.rs`]: ../../../src/echoloop/reactor/sources.rs.html
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
    c06_writability: "writability.md",
    c07_half_close: "half_close.md",
    c08_fairness: "fairness.md",
    c09_whose_event: "whose_event.md",
    c10_descriptors: "descriptors.md",
    c11_deadlines: "deadlines.md",
    c12_signals: "signals.md",
    c13_measuring: "measuring.md",
    c14_splice: "splice.md",
    c15_io_uring: "io_uring.md",
    c16_seeing: "seeing.md" with "trace.svg",
}
