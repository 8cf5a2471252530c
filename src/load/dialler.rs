//! The clients that need a connection: where they connect to, what a failure means, and when they try again.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;

use super::cause::{Cause, remedy};
use super::client::Client;
use super::plan::Plan;
use super::queue::{Attempt, Queue};
use super::targets::{Ceiling, Targets};
use super::traffic::Traffic;
use crate::net::{Socket, Target, connect};
use crate::reactor::Moment;
use crate::system::describe;

/// How long a client waits before it tries a full Unix backlog again: no event tells when there is room.
const BACKLOG_RETRY: Duration = Duration::from_millis(2);

/// The clients without a connection, with all that they need to get one.
pub(super) struct Dialler {
    pub(super) plan: Rc<Plan>,
    pub(super) targets: Targets,
    ceiling: Ceiling,
    pub(super) queue: Queue,
    course: Course,
    /// Whether any address has ever answered.
    any_heard: bool,
}

/// A client that begins to connect.
pub(super) enum Begun {
    /// Its socket, and the beginning of its first attempt at this connection.
    Stream { client: Client, socket: Socket, began: Moment },
    /// Over UDP a client sends nothing to connect.
    Datagrams(Client),
}

/// The clients' answer to a lost connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// All get their first connection; a client that fails waits until the others have theirs.
    Opening,
    /// Messages flow, and lost connections are replaced.
    Flowing,
    /// No new connection begins.
    Ending,
}

impl Dialler {
    pub(super) fn new(plan: Rc<Plan>, targets: Targets, ceiling: Ceiling, now: Moment) -> Dialler {
        let queue = Queue::new(&plan, now);
        Dialler { plan, targets, ceiling, queue, course: Course::Opening, any_heard: false }
    }

    // A connect

    /// The next client that may begin to connect now.
    pub(super) fn next(&mut self, traffic: &mut Traffic, now: Moment) -> Option<Begun> {
        while let Some(attempt) = self.queue.take(traffic, now) {
            let begun = self.begin(traffic, attempt);
            if begun.is_some() {
                return begun;
            }
        }
        None
    }

    fn begin(&mut self, traffic: &mut Traffic, attempt: Attempt) -> Option<Begun> {
        let Attempt { mut client, since } = attempt;
        let place = place(&client, traffic);
        client.choice = self.targets.choice(place);
        let target = self.targets.at(place, client.choice).cloned()?;
        traffic.figures.connections.requested += u64::from(since.is_none());
        let source = match (&target, &self.plan.sources) {
            (Target::Udp(_), _) => {
                self.queue.ramp.ended();
                return Some(Begun::Datagrams(client));
            }
            (Target::Tcp(address), Some(sources)) => sources.nth(address.is_ipv4(), place),
            _ => None,
        };
        let began = since.unwrap_or_else(Moment::now);
        match connect(&target, source) {
            Ok(socket) => {
                if self.plan.reset {
                    // Set now, so that the reset happens however the connection ends. Best effort: if this fails, the
                    // connection ends without a reset.
                    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                }
                Some(Begun::Stream { client, socket, began })
            }
            Err(error) => {
                self.failed(traffic, client, began, &target, &error);
                None
            }
        }
    }

    /// Notes that a client's connection is established.
    pub(super) fn connected(&mut self, client: &Client, traffic: &Traffic) {
        self.any_heard |= self.plan.greeting == 0;
        self.targets.prove(place(client, traffic));
        self.queue.ramp.ended();
    }

    /// Notes that a server has sent something.
    pub(super) fn heard(&mut self) {
        self.any_heard = true;
    }

    /// Whether any address has ever answered.
    pub(super) fn has_heard(&self) -> bool {
        self.any_heard
    }

    /// Handles a connect that failed.
    pub(super) fn not_connected(
        &mut self,
        traffic: &mut Traffic,
        client: Client,
        began: Moment,
        error: &io::Error,
    ) {
        // Other clients may have chosen another address since this connect began.
        if let Some(target) = self.targets.at(place(&client, traffic), client.choice).cloned() {
            self.failed(traffic, client, began, &target, error);
        }
    }

    fn failed(
        &mut self,
        traffic: &mut Traffic,
        mut client: Client,
        began: Moment,
        target: &Target,
        error: &io::Error,
    ) {
        self.queue.ramp.ended();
        let now = Moment::now();
        let mut cause = Cause::of(error);
        if Errno::from_io_error(error) == Some(Errno::AGAIN) {
            // A Unix socket with a full backlog. As with TCP, the client waits for room.
            if now.since(began) < self.plan.connect_timeout && !self.is_ending() {
                return self.queue.go_on(client, now + BACKLOG_RETRY, began);
            }
            cause = Cause::Timeout;
        }
        // Once the last message has left, a client of a churn needs no connection any more.
        let is_needless = traffic.churn && traffic.pacing.budget() == 0;
        let place = place(&client, traffic);
        if cause == Cause::Refused && !is_needless && self.targets.try_next(place, target) {
            return self.queue.go_on(client, now, began);
        }
        let is_first = client.tries == 0 && !client.is_silent();
        let figures = &mut traffic.figures;
        if is_first {
            figures
                .fail(cause, || format!("cannot connect to {target}: {}{}", describe(error), remedy(error)));
        } else {
            figures.outages.reconnect_failed();
        }
        if cause == Cause::Local && is_first && !traffic.churn {
            if !self.ceiling.others_may_have_ports(error) {
                // The next client would not find more ports or descriptors, and looking for them is slow.
                self.queue.give_fresh_up();
            }
            return self.queue.give_up(client);
        }
        if client.was_open && client.silenced(now) {
            figures.outages.lost(cause, now, now);
        }
        self.connect_again(traffic, client, !is_needless);
    }

    // After a connection

    /// Queues the client for another connection, or gives the client up.
    pub(super) fn connect_again(&mut self, traffic: &Traffic, mut client: Client, is_needed: bool) {
        let may = self.plan.reconnect.is_some() || traffic.churn;
        if !may || !is_needed || self.is_ending() {
            return self.queue.give_up(client);
        }
        let at = self.queue.again_at(client.tries, Moment::now());
        client.tries = client.tries.saturating_add(1);
        client.pacer.connected(None, at);
        if self.course == Course::Opening && !traffic.churn {
            self.queue.hold_back(client, at);
        } else {
            self.queue.push(client, at);
        }
    }

    /// Queues a client of a churn, which has had its reply, to connect when its next message is due.
    pub(super) fn connect_for_next(&mut self, traffic: &Traffic, client: Client) {
        let pacing = &traffic.pacing;
        // The next message may be due after the end: then the client does not connect any more.
        let at = if pacing.is_scheduled() {
            client.pacer.due()
        } else {
            client.pacer.wakes_at(pacing).unwrap_or_else(Moment::now)
        };
        if pacing.budget() == 0 {
            self.queue.give_up(client);
        } else {
            self.queue.push(client, at);
        }
    }

    // The run as a whole

    /// Lets all clients that were given up connect again.
    pub(super) fn reopen(&mut self) {
        self.course = Course::Opening;
        self.queue.revive();
    }

    /// Lets messages flow from now on.
    pub(super) fn start(&mut self, traffic: &Traffic, now: Moment) {
        self.course = Course::Flowing;
        if !self.any_heard && !traffic.churn && !self.plan.is_over_udp() {
            // No server is there.
            self.queue.give_all_up();
        }
        self.queue.release();
        self.queue.for_each(|client| client.pacer.reschedule(&traffic.pacing, traffic.seed));
        if traffic.churn {
            self.queue.await_first_messages(traffic, now);
        }
    }

    /// Begins nothing new from now on.
    pub(super) fn end(&mut self) {
        self.course = Course::Ending;
        self.queue.give_all_up();
    }

    /// Whether messages flow.
    pub(super) fn is_flowing(&self) -> bool {
        self.course == Course::Flowing
    }

    /// Whether no new connection begins.
    pub(super) fn is_ending(&self) -> bool {
        self.course == Course::Ending
    }
}

/// Decides where a client connects to and from. In a churn the connections go to the endpoints in turn; otherwise each
/// client stays with its own endpoint.
fn place(client: &Client, traffic: &Traffic) -> u64 {
    if traffic.churn { client.number } else { client.pacer.client().into() }
}
