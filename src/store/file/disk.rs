//! What stands between redb and the file: two promises that redb leaves to its caller.
//!
//! *A file that is not ours to change stays as it is.* redb marks a file as in use, and repairs an unclean one, before
//! anybody can look into it. So the writes of an open are held back, in order, until the content was found to be ours.
//!
//! *A commit that was answered with an error stays undone.* When writing or `fdatasync` fails, parts of the commit may
//! be in the file, even all of it: redb would find it there when it opens the file again. Which commit counts is
//! decided by the header at offset 0 alone, and redb never writes over the pages of the last durable commit before the
//! next one is durable (they are copied on write). So the header of the last durable commit is kept, and put back; on a
//! full disk too, since it takes no new space. Only where the disk refuses this as well, and the process is killed
//! before the disk is well again, the next open may find the commit after all.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};

/// Writes are kept in memory.
const HELD: u8 = 0;
/// Everything goes through.
const OPEN: u8 = 1;
/// Nothing is written any more; reading goes on.
const SHUT: u8 = 2;

/// The byte behind the magic number in redb's header, and its bit that says which commit slot counts.
const FLAGS: usize = 9;
const PRIMARY_SLOT: u8 = 1;

pub(super) struct Disk {
    inner: Box<dyn StorageBackend>,
    mode: AtomicU8,
    held: Mutex<Vec<Step>>,
    header: Mutex<Header>,
    failed: AtomicBool,
    fault: Mutex<Option<String>>,
}

enum Step {
    Write(u64, Vec<u8>),
    Sync,
}

/// redb's header with its two commit slots, always written as one piece at offset 0.
#[derive(Default)]
struct Header {
    written: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
}

/// redb's end of a [`Disk`].
#[derive(Debug)]
pub(super) struct Handle(pub(super) Arc<Disk>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// With `hold`, nothing is written before [`Disk::release`].
    pub(super) fn new(inner: Box<dyn StorageBackend>, hold: bool) -> Disk {
        Disk {
            inner,
            mode: AtomicU8::new(if hold { HELD } else { OPEN }),
            held: Mutex::default(),
            header: Mutex::default(),
            failed: AtomicBool::new(false),
            fault: Mutex::default(),
        }
    }

    /// Writes what was held back, as redb ordered it, and holds nothing back from now on.
    pub(super) fn release(&self) -> io::Result<()> {
        let steps = std::mem::take(&mut *lock(&self.held));
        if self.mode() == HELD {
            self.mode.store(OPEN, Ordering::Release);
        }
        for step in steps {
            match step {
                Step::Write(offset, data) => self.write(offset, &data)?,
                Step::Sync => self.sync()?,
            }
        }
        Ok(())
    }

    /// Takes the file away from redb and puts the header of the last durable commit back, so that nothing of a commit
    /// that failed comes to light when the file is opened again. May be repeated when it fails.
    pub(super) fn restore(&self) -> io::Result<()> {
        // Under the lock, since a thread that reads may be writing pages out to make room in redb's cache.
        let header = lock(&self.header);
        self.mode.store(SHUT, Ordering::Release);
        if let Some(durable) = &header.durable {
            self.inner.write(0, durable)?;
            self.inner.sync_data()?;
        }
        Ok(())
    }

    /// Which of redb's two commit slots counts, in the header that is known to be on disk. It changes exactly when a
    /// commit becomes durable.
    pub(super) fn durable_slot(&self) -> Option<u8> {
        let header = lock(&self.header);
        let flags = header.durable.as_ref()?.get(FLAGS)?;
        Some(flags & PRIMARY_SLOT)
    }

    /// Says that redb is not to be used on this file any longer.
    pub(super) fn give_up(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Whether the file failed once, or was given up. redb then refuses to go on until it is opened again.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// What the operating system said when the file failed first.
    pub(super) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    fn mode(&self) -> u8 {
        self.mode.load(Ordering::Acquire)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            lock(&self.fault).get_or_insert_with(|| error.to_string());
            self.failed.store(true, Ordering::Release);
        }
        result
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.mode() == HELD {
            lock(&self.held).push(Step::Write(offset, data.to_vec()));
            return Ok(());
        }
        if offset != 0 {
            self.writable()?;
            return self.note(self.inner.write(offset, data));
        }
        let mut header = lock(&self.header);
        self.writable()?;
        // Before the write: one that fails may have written some of it.
        header.written = Some(data.to_vec());
        self.note(self.inner.write(offset, data))
    }

    fn sync(&self) -> io::Result<()> {
        if self.mode() == HELD {
            lock(&self.held).push(Step::Sync);
            return Ok(());
        }
        self.writable()?;
        let written = lock(&self.header).written.clone();
        self.note(self.inner.sync_data())?;
        lock(&self.header).durable = written;
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        match self.mode() {
            SHUT => Err(io::Error::other("the file is closed after an error")),
            _ => Ok(()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.note(self.inner.read(offset, out))?;
        if self.mode() == HELD {
            for step in lock(&self.held).iter() {
                if let Step::Write(at, data) = step {
                    lay_over(out, offset, data, *at);
                }
            }
        }
        Ok(())
    }
}

/// Copies into `out`, which is a piece of the file at `offset`, what `data`, written at `at`, changes of it.
fn lay_over(out: &mut [u8], offset: u64, data: &[u8], at: u64) {
    let start = at.max(offset);
    let end = (at + data.len() as u64).min(offset + out.len() as u64);
    if start < end {
        let within = |base: u64| (start - base) as usize..(end - base) as usize;
        out[within(offset)].copy_from_slice(&data[within(at)]);
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.0.note(self.0.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.0.mode() {
            // redb changes the length in transactions only, and there is none before the release.
            HELD => Err(io::Error::other("the file is not to be changed yet")),
            _ => {
                self.0.writable()?;
                self.0.note(self.0.inner.set_len(len))
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::lay_over;

    #[test]
    fn lays_over_only_what_overlaps() {
        let cases: [(u64, &[u8], &[u8]); 7] = [
            (10, b"XY", b"XYcd"),
            (12, b"XY", b"abXY"),
            (11, b"XY", b"aXYd"),
            (8, b"VWXY", b"XYcd"),
            (13, b"XYZ", b"abcX"),
            (8, b"0123456789", b"2345"),
            (14, b"XY", b"abcd"),
        ];
        for (at, data, wanted) in cases {
            let mut out = *b"abcd";
            lay_over(&mut out, 10, data, at);
            assert_eq!(out, wanted, "{data:?} at {at}");
        }
    }
}
