//! Checks in and out: what is believed, what is answered, and what leaves next.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use super::one_path::Path;
use super::schedule::{DEFERRAL, PACE, PACE_QUICK, PACED_QUICKLY};
use super::{PathId, PathSet, PathSetEvent};
use crate::stun::{
    self, DecodeError, Message, RESPONSE_BYTES_MAX, Received, Request, Response, TransactionId,
};

/// Answers that wait to be sent; the endpoint drains them after each batch.
const ANSWERS_MAX: usize = 64;
/// What the answer says on a relayed path, where there is no address to tell.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Why a check was dropped, for a counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckRefused {
    /// It is no check.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// A request to credentials that are not ours, or that are void.
    #[error("unknown ufrag")]
    UnknownUfrag,
    /// Whoever signed it does not know the password.
    #[error("wrong integrity")]
    WrongIntegrity,
    /// A response to nothing, to what was answered, to what was sent on another path, or too late.
    #[error("unknown transaction")]
    UnknownTransaction,
    /// The path is gone, or the source is an address that is never checked.
    #[error("no path")]
    NoPath,
    /// The address has proven nothing and its budget is spent.
    #[error("over budget")]
    OverBudget,
    /// More requests than answers can wait.
    #[error("too many at once")]
    TooMany,
}

/// A response, ready to be sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) path: PathId,
    octets: [u8; RESPONSE_BYTES_MAX],
    size: usize,
}

impl PathSet {
    /// Takes a STUN packet that came in on a path.
    pub fn handle_check(
        &mut self,
        id: PathId,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), CheckRefused> {
        self.now = now;
        let received = stun::decode(packet)?;
        match received.message {
            Message::Request(request) => self.handle_request(id, &request, &received)?,
            Message::Response(response) => self.handle_response(id, response, &received)?,
        }
        self.settle();
        Ok(())
    }

    /// Takes a STUN packet from an address that is no path yet: a valid request makes it one. Nothing
    /// is kept of, and nothing sent to, whoever does not know the password.
    pub fn handle_unknown_source(
        &mut self,
        remote: SocketAddr,
        packet: &[u8],
        now: Instant,
    ) -> Result<PathId, CheckRefused> {
        self.now = now;
        let received = stun::decode(packet)?;
        let Message::Request(request) = received.message else {
            return Err(CheckRefused::UnknownTransaction);
        };
        let password = self.local.password(request.username, now);
        if !received.verify(password.ok_or(CheckRefused::UnknownUfrag)?) {
            return Err(CheckRefused::WrongIntegrity);
        }
        let id = self.add_direct(remote, now).ok_or(CheckRefused::NoPath)?;
        self.handle_check(id, packet, now)?;
        Ok(id)
    }

    /// Writes the next packet to send and returns its path and size: answers, then checks, then what
    /// is replayed. `out` holds at least 1,500 octets. Checks are timed by the last input, so poll
    /// right after it.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<(PathId, usize)> {
        if let Some(answer) = self.answers.pop_front() {
            out.get_mut(..answer.size)?.copy_from_slice(answer.octets.get(..answer.size)?);
            return Some((answer.path, answer.size));
        }
        for index in 0..self.paths.len() {
            if let Some(sent) = self.poll_check(index, out) {
                return Some(sent);
            }
        }
        self.next_replayed(out)
    }

    fn handle_request(
        &mut self,
        id: PathId,
        request: &Request<'_>,
        received: &Received<'_>,
    ) -> Result<(), CheckRefused> {
        let now = self.now;
        let password = self.local.password(request.username, now);
        let password = password.ok_or(CheckRefused::UnknownUfrag)?;
        if !received.verify(password) {
            return Err(CheckRefused::WrongIntegrity);
        }
        let path = self.path(id).ok_or(CheckRefused::NoPath)?;
        if self.answers.len() >= ANSWERS_MAX {
            return Err(CheckRefused::TooMany);
        }
        let mapped = path.direct();
        let response =
            Response { transaction: request.transaction, mapped: mapped.unwrap_or(NO_ADDRESS) };
        let mut octets = [0; RESPONSE_BYTES_MAX];
        let size = response.encode(password, &mut octets).ok_or(CheckRefused::TooMany)?;
        if mapped.is_some_and(|remote| !self.try_spend_for(remote)) {
            return Err(CheckRefused::OverBudget);
        }

        self.answers.push_back(Answer { path: id, octets, size });
        if let Some(path) = self.path_mut(id) {
            path.requested_at = Some(now);
            path.checks.handle_heard(now);
            // An own check at once, unless it would prove what is proven: else two sides would
            // answer each other's checks with checks for ever.
            path.triggered |= !path.is_proven(now) || path.is_suspect();
        }
        if let (true, Some(number)) = (request.use_candidate, request.selection) {
            self.handle_choice(id, number);
        }
        Ok(())
    }

    fn handle_response(
        &mut self,
        id: PathId,
        response: Response,
        received: &Received<'_>,
    ) -> Result<(), CheckRefused> {
        let now = self.now;
        let path = self.path(id).ok_or(CheckRefused::NoPath)?;
        let check =
            path.checks.find(response.transaction, now).ok_or(CheckRefused::UnknownTransaction)?;
        let password = self.remote.password(check.generation);
        if !received.verify(password.ok_or(CheckRefused::UnknownTransaction)?) {
            return Err(CheckRefused::WrongIntegrity);
        }

        let Some(path) = self.path_mut(id) else { return Err(CheckRefused::NoPath) };
        path.checks.handle_answer(check, now);
        let rtt = path.checks.srtt().unwrap_or_default();
        let proven = path.note_proof();
        let recovered = path.is_suspect();
        path.handle_recovery(now);
        let rose = check.size.is_some_and(|size| path.size.handle_answer(size, now));
        let size = path.size.proven();

        if proven {
            self.emit(PathSetEvent::Proven { path: id, rtt });
        }
        if recovered {
            self.emit(PathSetEvent::Recovered { path: id, rtt });
        }
        if rose {
            self.emit(PathSetEvent::Mtu { path: id, size });
        }
        self.handle_told(id, check.selection);
        if self.selected() == Some(id) {
            self.resume();
        }
        Ok(())
    }

    fn poll_check(&mut self, index: usize, out: &mut [u8]) -> Option<(PathId, usize)> {
        let (now, active) = (self.now, self.is_active());
        let path = self.paths.get(index)?;
        let due = self.next_check(path).is_some_and(|at| at <= now);
        let sized = self.tests_size_of(path);
        let (wait, remote) = (self.silence_of(path), path.direct());
        if due {
            if remote.is_some_and(|remote| !self.try_spend_for(remote)) {
                self.paths.get_mut(index)?.deferred_until = Some(now + DEFERRAL);
                return None;
            }
            self.pace(index);
            return self.send_check(index, None, out);
        }
        if !sized {
            return None;
        }
        let size = self.paths.get_mut(index)?.size.take_due(wait, active, now)?;
        self.send_check(index, Some(size), out)
    }

    fn send_check(
        &mut self,
        index: usize,
        size: Option<u16>,
        out: &mut [u8],
    ) -> Option<(PathId, usize)> {
        let now = self.now;
        let transaction = TransactionId((self.transaction_ids)());
        let (generation, credentials) = self.remote.current()?;
        let path = self.paths.get_mut(index)?;
        let told = self.selection.nomination.as_mut();
        let told = told.filter(|told| told.path == path.id && size.is_none());
        let use_candidate = told.is_some();
        let selection = use_candidate.then_some(self.selection.number);
        let username = credentials.ufrag.as_str();
        let mut request =
            Request { transaction, username, use_candidate, selection, padding: None };
        request.padding = size.and_then(|size| request.padding_to(size));
        let written = request.encode(&credentials.password, out);

        // Counted as sent even if it could not be written: an unanswered check, not one for ever due.
        if let Some(told) = told {
            told.begun = true;
        }
        path.checks.handle_sent(transaction, generation, size, selection, now);
        if size.is_none() {
            path.triggered = false;
            path.deferred_until = None;
            path.attempts += 1;
            path.asked_since.get_or_insert(now);
        }
        let id = path.id;
        written.map(|size| (id, size))
    }

    /// Spaces the checks of unproven direct paths.
    fn pace(&mut self, index: usize) {
        let unproven =
            self.paths.get(index).is_some_and(|path| path.is_direct() && !path.is_proven(self.now));
        if unproven {
            self.paced = self.paced.saturating_add(1);
            let pace = if self.paced < PACED_QUICKLY { PACE_QUICK } else { PACE };
            self.pace_until = Some(self.now + pace);
        }
    }

    /// Returns whether a packet may go to an address: it has proven itself on some path, or there is
    /// budget left for it.
    fn try_spend_for(&self, remote: SocketAddr) -> bool {
        let proven = |path: &Path| {
            path.direct().is_some_and(|known| known.ip() == remote.ip()) && path.is_proven(self.now)
        };
        self.paths.iter().any(proven) || self.budget.try_spend(remote.ip(), self.now)
    }
}
