//! What the specification says to a platform, as a machine: one service instance and its two bindings, how requests and
//! the ends of operations change them, and what may be answered in which state. Written from the specification's
//! chapters, without a look at how the broker does it: it knows no records, revisions, queues or attempts, and shares
//! with it the names of the operations alone.

use crate::history::{Deed, Seen};

use brokerlet::adapter::Kind;

/// The ids of a plan and of the operations that it does asynchronously.
#[derive(Debug)]
pub struct Plan {
    pub id: &'static str,
    pub asynchronous: &'static [&'static str],
}

fn creates(kind: Kind) -> bool {
    matches!(kind, Kind::Provision | Kind::Bind)
}

fn removes(kind: Kind) -> bool {
    matches!(kind, Kind::Deprovision | Kind::Unbind)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    InProgress,
    Succeeded,
    Failed,
}

/// Who waits for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Waits {
    /// The request in this place of the list of those not yet answered.
    Request(u8),
    /// Whoever polls for the operation with this number.
    Poll(u16),
    /// Nobody was told an id: a synchronous operation that has ended.
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operation {
    kind: Kind,
    state: State,
    waits: Waits,
    /// Of a removal: what it removes never came to exist.
    unmade: bool,
    /// Of an update: what it changes the parameter to.
    to: u8,
}

impl Operation {
    fn in_progress(&self) -> bool {
        self.state == State::InProgress
    }

    fn is_polled(&self) -> bool {
        self.in_progress() && matches!(self.waits, Waits::Poll(_))
    }

    fn ended(self, state: State) -> Operation {
        Operation {
            state,
            waits: match self.waits {
                Waits::Request(_) => Waits::Nobody,
                waits => waits,
            },
            ..self
        }
    }

    /// Whether there is something to use, or was before this operation.
    fn exists(&self) -> bool {
        match self.kind {
            Kind::Provision | Kind::Bind => self.state == State::Succeeded,
            Kind::Update => true,
            Kind::Deprovision | Kind::Unbind => !self.unmade,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Record {
    /// Nobody waits to hear of it.
    Never,
    /// It is no more, and this is what a poll is told.
    Gone(Operation),
    There {
        value: u8,
        last: Operation,
        /// Of a removal in progress: the operation before.
        before: Option<Operation>,
    },
}

impl Record {
    fn last(&self) -> Option<&Operation> {
        match self {
            Record::There { last, .. } => Some(last),
            _ => None,
        }
    }

    fn in_progress(&self, kind: Kind) -> bool {
        self.last()
            .is_some_and(|last| last.in_progress() && last.kind == kind)
    }

    fn is_busy(&self) -> bool {
        self.last().is_some_and(Operation::in_progress)
    }

    fn exists(&self) -> bool {
        self.last().is_some_and(Operation::exists)
    }

    /// Whether this very operation is in progress.
    fn polled_for(&self, operation: u16) -> bool {
        self.last()
            .is_some_and(|last| last.in_progress() && last.waits == Waits::Poll(operation))
    }

    /// What it is once the operation that is in progress has ended.
    fn after(self, succeeded: bool) -> Record {
        let Record::There {
            value,
            last,
            before,
        } = self
        else {
            return self;
        };
        if !succeeded {
            // Who has waited for a removal of what never existed is told, and it is as if it had not been tried.
            let last = match (last.waits, before) {
                (Waits::Request(_), Some(before)) if last.unmade => before,
                _ => last.ended(State::Failed),
            };
            return Record::There {
                value,
                last,
                before: None,
            };
        }
        let last_ended = last.ended(State::Succeeded);
        if !removes(last.kind) {
            return Record::There {
                value: if last.kind == Kind::Update {
                    last.to
                } else {
                    value
                },
                last: last_ended,
                before: None,
            };
        }
        match (last.waits, before) {
            (Waits::Poll(_), _) => Record::Gone(last_ended),
            // Somebody polls for what the removal has cut off.
            (_, Some(before)) if matches!(before.waits, Waits::Poll(_)) && !before.exists() => {
                Record::Gone(before)
            }
            _ => Record::Never,
        }
    }
}

/// The instance comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    records: [Record; 3],
}

impl World {
    pub fn new() -> World {
        World {
            records: [Record::Never; 3],
        }
    }

    /// Whether this may be answered as things are, without anything being changed.
    pub fn tells(&self, deed: &Deed, seen: &Seen) -> bool {
        let instance = &self.records[0];
        let record = &self.records[deed.record()];
        let busy = seen.status == 422;
        match *deed {
            Deed::Provision { value } => match *record {
                Record::There {
                    value: found, last, ..
                } if last.in_progress() || last.exists() => {
                    if record.in_progress(Kind::Deprovision) {
                        busy
                    } else if value != found {
                        seen.status == 409
                    } else if last.is_polled() && last.kind == Kind::Provision {
                        self.accepts(record, seen)
                    } else if last.in_progress() {
                        busy
                    } else {
                        seen.status == 200
                    }
                }
                _ => false,
            },
            Deed::Update { value } => match *record {
                Record::There {
                    value: found, last, ..
                } if last.in_progress() || last.exists() => {
                    if last.is_polled() && last.kind == Kind::Update && last.to == value {
                        self.accepts(record, seen)
                    } else if last.in_progress() {
                        busy
                    } else {
                        // After a failed update the same values may repair the instance.
                        let failed = last.kind == Kind::Update && last.state == State::Failed;
                        value == found && !failed && seen.status == 200
                    }
                }
                _ => seen.status == 404,
            },
            Deed::Deprovision => match record.last() {
                None => seen.status == 410,
                Some(last) if last.is_polled() && last.kind == Kind::Deprovision => {
                    self.accepts(record, seen)
                }
                // Both are to go: the platform may be told to wait for its bindings.
                _ if self.records[1..].iter().any(Record::is_busy) => busy,
                Some(last) => {
                    let cuts_off = last.is_polled() && last.kind == Kind::Provision;
                    last.in_progress() && !cuts_off && busy
                }
            },
            Deed::Bind { value, .. } => match (instance.last(), *record) {
                (
                    Some(of),
                    Record::There {
                        value: found, last, ..
                    },
                ) if (of.exists() || of.in_progress()) && (last.exists() || last.in_progress()) => {
                    if record.in_progress(Kind::Unbind) {
                        busy
                    } else if value != found {
                        seen.status == 409
                    } else if last.is_polled() {
                        self.accepts(record, seen)
                    } else if last.in_progress() {
                        busy
                    } else {
                        seen.status == 200
                    }
                }
                (Some(of), _) if of.in_progress() => busy,
                (Some(of), _) if of.exists() => false,
                _ => seen.status == 404,
            },
            Deed::Unbind { .. } => match record.last() {
                None => seen.status == 410,
                Some(last) if last.is_polled() && last.kind == Kind::Unbind => {
                    self.accepts(record, seen)
                }
                Some(last) if last.in_progress() && !last.is_polled() => busy,
                Some(_) => instance.in_progress(Kind::Deprovision) && busy,
            },
            Deed::Fetch { record: 0 } => match *record {
                Record::There { value, last, .. } if last.exists() => match last.in_progress() {
                    true => busy,
                    false => seen.status == 200 && seen.value == Some(value),
                },
                _ => seen.status == 404,
            },
            Deed::Fetch { .. } => match *record {
                Record::There { value, last, .. } if last.exists() => {
                    seen.status == 200 && seen.value == Some(value)
                }
                _ => seen.status == 404,
            },
            Deed::Poll { .. } => self.polled(record, seen),
        }
    }

    fn accepts(&self, record: &Record, seen: &Seen) -> bool {
        let told = seen.number.is_some_and(|number| record.polled_for(number));
        seen.status == 202 && told
    }

    fn polled(&self, record: &Record, seen: &Seen) -> bool {
        let is_meant = |operation: &Operation| match seen.asked {
            None => true,
            Some(number) => operation.waits == Waits::Poll(number),
        };
        let is_state = |state| seen.status == 200 && seen.state == Some(state);
        match record {
            Record::There { last, .. } if is_meant(last) => is_state(last.state),
            Record::There { last, before, .. } => match before {
                Some(before) if last.unmade && is_meant(before) => is_state(State::Failed),
                _ => seen.status == 400,
            },
            Record::Gone(last) if !is_meant(last) => seen.status == 404,
            Record::Gone(last) => match last.state {
                State::Succeeded => seen.status == 410,
                state => is_state(state),
            },
            Record::Never => seen.status == 404,
        }
    }

    /// The state after a request has begun an operation, if it may.
    pub fn begins(&self, plan: &Plan, deed: &Deed, seen: &Seen, place: u8) -> Option<World> {
        let (kind, value) = match *deed {
            Deed::Provision { value } => (Kind::Provision, value),
            Deed::Update { value } => (Kind::Update, value),
            Deed::Deprovision => (Kind::Deprovision, 0),
            Deed::Bind { value, .. } => (Kind::Bind, value),
            Deed::Unbind { .. } => (Kind::Unbind, 0),
            Deed::Fetch { .. } | Deed::Poll { .. } => return None,
        };
        let waits = match (plan.asynchronous.contains(&kind.name()), seen.status) {
            (true, 202) => Waits::Poll(seen.number?),
            (false, 200 | 201 | 500..) => Waits::Request(place),
            _ => return None,
        };
        let (instance, record) = (&self.records[0], self.records[deed.record()]);
        let may = match kind {
            Kind::Provision => !record.exists() && !record.is_busy(),
            Kind::Update => record.exists() && !record.is_busy(),
            Kind::Deprovision | Kind::Unbind => record.last().is_some_and(|last| {
                // What creates asynchronously is cut off.
                !last.in_progress() || last.is_polled() && creates(last.kind)
            }),
            Kind::Bind => {
                instance.exists() && !instance.is_busy() && !record.exists() && !record.is_busy()
            }
        };
        let going = kind == Kind::Unbind && instance.in_progress(Kind::Deprovision);
        if !may || going {
            return None;
        }
        let found = match record {
            Record::There { value, last, .. } => Some((value, last)),
            _ => None,
        };
        let before = found.map(|(_, last)| match last.in_progress() {
            true => last.ended(State::Failed),
            false => last,
        });
        let last = Operation {
            kind,
            state: State::InProgress,
            waits,
            unmade: removes(kind) && before.is_some_and(|before| !before.exists()),
            to: value,
        };
        let value = match creates(kind) {
            true => value,
            false => found?.0,
        };
        Some(self.with(
            deed.record(),
            Record::There {
                value,
                last,
                before: before.filter(|_| removes(kind)),
            },
        ))
    }

    /// The state after the operation that a request waits for has ended, as it was answered.
    pub fn ends(&self, deed: &Deed, seen: &Seen, place: u8) -> Option<World> {
        let last = self.records[deed.record()].last()?;
        if !last.in_progress() || last.waits != Waits::Request(place) {
            return None;
        }
        let status = if creates(last.kind) { 201 } else { 200 };
        match seen.status {
            500.. => self.ended(deed.record(), false),
            found if found == status => self.ended(deed.record(), true),
            _ => None,
        }
    }

    /// The states that may come next without a request.
    pub fn by_itself(&self) -> Vec<World> {
        let mut next = Vec::new();
        for (place, record) in self.records.iter().enumerate() {
            if record.last().is_some_and(Operation::is_polled) {
                next.extend(self.ended(place, true));
                next.extend(self.ended(place, false));
            }
            // With the instance its bindings go, one by one.
            let goes = place > 0 && self.records[0].in_progress(Kind::Deprovision);
            if goes && !record.is_busy() && record.last().is_some() {
                next.push(self.with(place, Record::Never));
            }
        }
        next
    }

    fn ended(&self, place: usize, succeeded: bool) -> Option<World> {
        let record = self.records[place];
        let mut after = self.with(place, record.after(succeeded));
        if succeeded && record.in_progress(Kind::Deprovision) {
            if self.records[1..].iter().any(Record::is_busy) {
                return None;
            }
            after.records[1..].fill(Record::Never);
        }
        Some(after)
    }

    fn with(&self, place: usize, record: Record) -> World {
        let mut after = *self;
        after.records[place] = record;
        after
    }
}
