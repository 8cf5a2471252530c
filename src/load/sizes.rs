//! How long messages are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How long messages are: uniformly from one length to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The shortest.
    pub shortest: usize,
    /// The longest.
    pub longest: usize,
}

impl Sizes {
    /// All messages are equally long.
    pub fn fixed(size: usize) -> Sizes {
        Sizes { shortest: size, longest: size }
    }

    /// The length of one message.
    pub(super) fn draw(self, random: &mut fastrand::Rng) -> usize {
        let Sizes { shortest, longest } = self;
        if shortest == longest { shortest } else { random.usize(shortest..=longest) }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Sizes { shortest, longest } if shortest == longest => write!(f, "{shortest}"),
            Sizes { shortest, longest } => write!(f, "{shortest}-{longest}"),
        }
    }
}
