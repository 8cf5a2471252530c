#![doc = include_str!("../docs/guide.md")]

macro_rules! chapters {
    ($($chapter:ident: $file:literal,)*) => { $(
        #[doc = include_str!(concat!("../docs/", $file))]
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
}
