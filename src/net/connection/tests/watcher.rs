//! An observer that knows from what it is told where the connection stands.

use super::*;

/// What was told since the pump began, on top of how things stood then.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    received: u64,
    sent: u64,
    calls: u64,
    returned: u64,
    is_paused: bool,
    phase: Option<Phase>,
}

impl Watcher {
    /// What is not told: where the connection stood at first, and a greeting.
    pub(super) fn catch_up(&mut self, connection: &Connection<Kernel>) {
        self.sent = connection.sent;
        self.phase.get_or_insert(connection.phase);
    }

    pub(super) fn check(&self, connection: &Connection<Kernel>) {
        assert_eq!((self.received, self.sent), (connection.received, connection.sent));
        assert_eq!(self.calls, self.returned, "each call that began has returned");
        assert_eq!(self.is_paused, connection.is_paused());
        let kind = |phase: Phase| std::mem::discriminant(&phase);
        assert_eq!(self.phase.map(kind), Some(kind(connection.phase)));
    }
}

impl Observer for Watcher {
    fn calling(&mut self) {
        self.calls += 1;
    }

    fn read(&mut self, asked: usize, result: &io::Result<usize>) {
        assert!(!self.is_paused || self.phase == Some(Phase::Lingering), "read although it is paused");
        let count = *result.as_ref().unwrap_or(&0);
        assert!(count <= asked);
        self.received += count as u64;
        self.returned += 1;
    }

    fn wrote(&mut self, offered: usize, result: &io::Result<usize>) {
        let count = *result.as_ref().unwrap_or(&0);
        assert!(count <= offered);
        self.sent += count as u64;
        self.returned += 1;
    }

    fn paused(&mut self, unsent: usize) {
        assert!(unsent > 0 && !std::mem::replace(&mut self.is_paused, true));
    }

    fn resumed(&mut self, _unsent: usize) {
        assert!(std::mem::replace(&mut self.is_paused, false));
    }

    fn entered(&mut self, phase: Phase) {
        self.phase = Some(phase);
    }
}
