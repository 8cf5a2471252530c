//! A reader of the journal. It derives the state of the connection from the journal alone.

use std::mem::discriminant;

use super::*;
use crate::net::{Entry, Traffic};

/// The connection as the journal tells it.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    received: u64,
    sent: u64,
    is_paused: bool,
    phase: Option<Phase>,
}

impl Watcher {
    pub(super) fn check(&self, connection: &Connection<Kernel>, traffic: Traffic) {
        assert_eq!((self.received, self.sent), (connection.received(), connection.sent()));
        assert_eq!((traffic.received, traffic.sent), (connection.received(), connection.sent()));
        assert_eq!(self.is_paused, connection.is_paused());
        let phase = self.phase.unwrap_or(Phase::Open);
        assert_eq!(discriminant(&phase), discriminant(&connection.phase));
    }

    pub(super) fn follow(&mut self, entries: Vec<Entry>) {
        for Entry { began, ended, deed } in entries {
            assert!(began <= ended);
            match deed {
                Deed::Read { asked, result } => {
                    let may_read = !self.is_paused || self.phase == Some(Phase::Lingering);
                    assert!(may_read, "read although it is paused");
                    let count = result.unwrap_or(0);
                    assert!(count <= asked);
                    self.received += count as u64;
                }
                Deed::Wrote { offered, result } => {
                    let count = result.unwrap_or(0);
                    assert!(count <= offered);
                    self.sent += count as u64;
                }
                Deed::Paused { unsent } => {
                    assert!(!std::mem::replace(&mut self.is_paused, true), "{unsent} unsent");
                }
                Deed::Resumed { .. } => assert!(std::mem::replace(&mut self.is_paused, false)),
                Deed::Entered { from, to } => {
                    let left = self.phase.replace(to).unwrap_or(from);
                    assert_eq!(discriminant(&left), discriminant(&from), "{from:?} → {to:?}");
                }
            }
        }
    }
}
