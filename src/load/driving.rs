//! What the reactor calls: connections are pumped, messages leave when they are due, connections end.

use std::io;
use std::time::Duration;

use super::cause::Cause;
use super::figures::MOST_DESCRIBED;
use super::plan::Usage;
use super::session::{Exchange, Session};
use super::shared::Pacing;
use super::{Client, Source, State};
use crate::net::{End, Next, Phase};
use crate::reactor::{Context, Handler, Moment, Readiness, Token};
use crate::system::describe;

/// How long more bytes are waited for that show what a difference is.
const EVIDENCE_TIME: Duration = Duration::from_millis(100);

impl Handler for State {
    type Source = Source;

    fn ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        match context.get_mut(token) {
            Some(Source::Client(client)) => {
                client.connection.note(readiness);
                if !context.is_queued(token) {
                    self.pump(context, token);
                }
            }
            Some(Source::Datagrams(_)) => self.receive_datagrams(context, token),
            Some(Source::Stop(signal)) => {
                let requests = signal.received();
                if requests > 0 {
                    self.interrupt(context);
                }
            }
            None => {}
        }
    }

    fn resume(&mut self, context: &mut Context<Source>, token: Token) {
        if let Some(Source::Datagrams(_)) = context.get(token) {
            return self.receive_datagrams(context, token);
        }
        self.pump(context, token);
    }

    fn deadline(&mut self, context: &mut Context<Source>, token: Token) {
        match context.get(token) {
            Some(Source::Client(client)) if client.session.fault.is_some() => self.mismatch(context, token),
            Some(Source::Client(_) | Source::Datagrams(_)) => self.send(context, token),
            Some(Source::Stop(_)) | None => {}
        }
    }

    fn turn_end(&mut self, context: &mut Context<Source>) {
        self.conduct(context);
    }
}

impl State {
    fn pump(&mut self, context: &mut Context<Source>, token: Token) {
        let now = context.now();
        let Some(Source::Client(Client { connection, session })) = context.get_mut(token) else { return };
        let next = connection.pump(&mut Exchange { session, run: &mut self.run }, &mut self.workspace, now);
        // Established and ended may be one event.
        let established = session.connecting
            && connection.phase() != Phase::Connecting
            && !matches!(next, Next::Close(End::NotConnected(_)));
        let attention = session.take_attention();
        if established && connection.transport().is_connected_to_itself() {
            // It would find its own bytes right, and there is nobody.
            return self.ended(context, token, End::NotConnected(io::ErrorKind::ConnectionRefused.into()));
        }
        if established {
            self.established(context, token);
        }
        match next {
            Next::Close(end) => self.ended(context, token, end),
            Next::Again => context.run_again(token),
            Next::Wait => {}
        }
        if attention {
            self.attend(context, token);
        }
    }

    /// Sees to what a session can't do by itself.
    fn attend(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Client(client)) = context.get_mut(token) else { return };
        if client.session.take_greeted() {
            self.run.ungreeted -= 1;
            if client.session.fault.is_none() {
                return self.send(context, token);
            }
        }
        match &client.session.fault {
            Some(fault) if fault.is_complete() => self.mismatch(context, token),
            Some(_) => context.set_deadline_no_later_than(token, context.now() + EVIDENCE_TIME),
            None if self.run.churn && client.session.in_flight() == 0 => self.next_connection(context, token),
            None => self.set_alarm(context, token),
        }
    }

    /// Sends whatever may be sent now.
    pub(super) fn send(&mut self, context: &mut Context<Source>, token: Token) {
        let now = Moment::now();
        let Some(Source::Client(Client { connection, session })) = context.get_mut(token) else {
            return self.send_datagrams(context, token);
        };
        self.staged.clear();
        let bytes = session.compose(&mut self.run, now, &mut self.staged);
        let sent = connection
            .send(&self.staged, &mut self.workspace, now)
            .and_then(|()| connection.send(bytes, &mut self.workspace, now));
        match sent {
            Ok(()) => self.set_alarm(context, token),
            Err(error) => self.ended(context, token, End::Reset(error)),
        }
    }

    fn set_alarm(&self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Client(client)) = context.get(token) else { return };
        if let Some(at) = client.session.wakes_at(&self.run) {
            context.set_deadline(token, at);
        }
    }

    /// A churning client closes its connection and opens another one.
    fn next_connection(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(mut session) = self.remove(context, token) else { return };
        session.number = self.next_number();
        self.queue(session, Moment::now());
    }

    /// A connection has ended, and not because we wanted it to.
    fn ended(&mut self, context: &mut Context<Source>, token: Token, end: End) {
        let Some(Source::Client(Client { session, .. })) = context.get(token) else { return };
        let (number, choice, outstanding) = (session.number, session.choice, session.outstanding());
        let missing = session.missing();
        match end {
            End::NotConnected(error) => {
                // Others may have chosen another address since it began.
                let target = self.targets.at(number, choice).cloned();
                let session = self.remove(context, token);
                if let (Some(session), Some(target)) = (session, target) {
                    self.not_connected(session, &target, &error);
                }
            }
            _ if session.fault.is_some() => self.mismatch(context, token),
            // It did what was wanted of it.
            End::Finished | End::Lingered if self.conductor.is_ending() && outstanding == 0 => {
                if let Some(session) = self.remove(context, token) {
                    self.run.figures.fairness.add(session.completed);
                }
            }
            End::Finished | End::Lingered => self.lose(context, token, Cause::Closed, || {
                format!("connection {number}: the server closed it with {missing} still to come")
            }),
            End::Reset(error) => {
                let cause = match Cause::of(&error) {
                    Cause::Refused => Cause::Reset,
                    cause => cause,
                };
                self.lose(context, token, cause, || {
                    format!("connection {number}: {} with {missing} still to come", describe(&error))
                });
            }
        }
    }

    /// Other bytes came than were sent: the connection is of no use any more.
    pub(super) fn mismatch(&mut self, context: &mut Context<Source>, token: Token) {
        let Some(Source::Client(client)) = context.get(token) else { return };
        let Some(fault) = &client.session.fault else { return };
        let number = client.session.number;
        let described =
            (self.run.figures.mismatches.len() < MOST_DESCRIBED).then(|| fault.judge(&self.run.pattern));
        let words = self.run.figures.keep_mismatch(number, described);
        self.lose(context, token, Cause::Mismatch, || words);
    }

    /// Gives up connections whose handshake or reply takes too long.
    pub(super) fn sweep(&mut self, context: &mut Context<Source>, now: Moment) {
        if self.plan.is_over_udp() {
            return self.sweep_datagrams(context, now);
        }
        let (connecting, reply) = (self.plan.connect_timeout, self.plan.timeout);
        let is_late = |session: &Session| {
            if session.connecting {
                session.began + connecting <= now
            } else {
                session.fault.is_none() && session.waiting_since().is_some_and(|since| since + reply <= now)
            }
        };
        let late: Vec<Token> = context
            .tokens()
            .filter(|token| matches!(context.get(*token), Some(Source::Client(client)) if is_late(&client.session)))
            .collect();
        for token in late {
            let Some(Source::Client(Client { session, .. })) = context.get(token) else { continue };
            if session.connecting {
                self.ended(context, token, End::NotConnected(io::ErrorKind::TimedOut.into()));
            } else {
                let (number, missing) = (session.number, session.missing());
                let cause =
                    if session.missing_greeting().is_some() { Cause::Greeting } else { Cause::Timeout };
                self.lose(context, token, cause, || {
                    format!("connection {number}: {missing} did not come within {reply:?}")
                });
            }
        }
    }

    /// An established connection is lost.
    fn lose(
        &mut self,
        context: &mut Context<Source>,
        token: Token,
        cause: Cause,
        words: impl FnOnce() -> String,
    ) {
        self.fail(cause, words);
        self.run.figures.lost += 1;
        let Some(mut session) = self.remove(context, token) else { return };
        if self.run.churn {
            session.number = self.next_number();
            self.queue(session, Moment::now());
        } else {
            self.run.figures.fairness.add(session.completed);
        }
    }

    /// Closes a connection and gives its session back.
    fn remove(&mut self, context: &mut Context<Source>, token: Token) -> Option<Session> {
        let Some(Source::Client(Client { connection, session })) = context.get_mut(token) else {
            return None;
        };
        connection.abandon(&mut self.workspace);
        let blank = Session::new(session.client, session.began);
        let session = std::mem::replace(session, blank);
        self.run.in_flight -= u64::from(session.in_flight());
        if !session.connecting {
            self.run.figures.open -= 1;
            self.run.ungreeted -= u64::from(session.is_ungreeted());
        }
        context.remove(token);
        Some(session)
    }

    /// All clients that are connected.
    pub(super) fn clients(&self, context: &Context<Source>) -> Vec<Token> {
        let is_open = |token: &Token| match context.get(*token) {
            Some(Source::Client(client)) => !client.session.connecting,
            Some(Source::Datagrams(_)) => true,
            Some(Source::Stop(_)) | None => false,
        };
        context.tokens().filter(is_open).collect()
    }

    /// Everyone sends what may be sent now.
    pub(super) fn send_all(&mut self, context: &mut Context<Source>) {
        for token in self.clients(context) {
            self.send(context, token);
        }
    }

    /// Everyone has a turn in the schedule, from the beginning.
    pub(super) fn schedule_all(&mut self, context: &mut Context<Source>) {
        let Pacing::Scheduled(schedule) = self.run.pacing else { return };
        for token in self.clients(context) {
            let (client, turn) = match context.get_mut(token) {
                Some(Source::Client(client)) => (client.session.client, &mut client.session.turn),
                Some(Source::Datagrams(client)) => client.place(),
                Some(Source::Stop(_)) | None => continue,
            };
            *turn = Some(schedule.first(client, self.plan.seed));
        }
    }

    /// Everyone may send once more.
    pub(super) fn call_all(&mut self, context: &mut Context<Source>) {
        if self.plan.usage != Usage::Hold {
            return;
        }
        for token in self.clients(context) {
            if let Some(Source::Client(client)) = context.get_mut(token) {
                client.session.calls = 1;
            }
        }
        self.send_all(context);
    }
}
