//! The question to the doctor.

use serde::Serialize;

/// A question about this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The connections that are to be held at once; `None`: as many as possible.
    pub connections: Option<u64>,
    /// The role of this machine; `None`: both roles, each for itself.
    pub role: Option<Role>,
    /// How many pairs of source address and target (address and port) a client has: each has all ephemeral ports.
    pub sources: u64,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It accepts.
    Server,
    /// It connects.
    Client,
}
