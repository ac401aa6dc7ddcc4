//! One program, from its start to its end: what goes into its standard input, what comes out of its output, how long it
//! may take, and how it is stopped. Knows nothing of what the bytes mean.
//!
//! A program runs in a process group of its own, without a shell, and inherits nothing but the three pipes. The calling
//! thread serves the pipes; a second one waits for the program's end and reaps it, so that no zombie is left whatever
//! becomes of the first.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, waitid,
};

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long SIGKILL may take.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// How long the output of a program that has ended is waited for, while a process that it left behind keeps it open.
const DRAIN: Duration = Duration::from_millis(250);
/// One read of a pipe.
const CHUNK: usize = 16 * 1024;

/// What to run.
pub struct Program<'a> {
    pub file: &'a Path,
    pub arguments: &'a [&'a str],
    /// The working folder.
    pub folder: &'a Path,
    /// The whole environment.
    pub environment: &'a [(&'a OsStr, OsString)],
    /// When it is told to end.
    pub deadline: Instant,
    /// How long it may go on after it was told.
    pub grace: Duration,
}

/// Takes what a program prints, in chunks as they come.
pub trait Sink {
    /// `Break` stops the program.
    fn output(&mut self, bytes: &[u8]) -> ControlFlow<()>;
    fn messages(&mut self, bytes: &[u8]);
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Absent if the program could not be killed, as one that runs as another user: it is left behind, and reaped when
    /// it ends.
    pub status: Option<ExitStatus>,
    /// Why it was stopped, if it was.
    pub stopped: Option<Stopped>,
    /// A process that the program left behind keeps its output open.
    pub held_open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It did not end in time.
    Deadline,
    Cancelled,
    Killed,
    /// The sink had enough.
    Output,
}

/// What the caller wants of a program that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    GoOn,
    /// SIGTERM, and SIGKILL when the time for that is over.
    Cancel,
    /// SIGKILL, as when the machine goes down.
    Kill,
}

/// Ends the wait of [`run`], so that it asks for its order again. Clones ring the same bell.
#[derive(Clone)]
pub struct Bell(Arc<UnixStream>);

impl Bell {
    pub fn ring(&self) {
        // A full buffer means that the bell rings already.
        let _ = (&*self.0).write(&[0]);
    }
}

/// The other end of a [`Bell`].
pub struct Ear(UnixStream);

/// A bell, and who hears it.
pub fn bell() -> io::Result<(Bell, Ear)> {
    let (ear, bell) = UnixStream::pair()?;
    ear.set_nonblocking(true)?;
    bell.set_nonblocking(true)?;
    Ok((Bell(Arc::new(bell)), Ear(ear)))
}

impl Ear {
    fn hush(&self) {
        let mut rings = [0; 64];
        while matches!((&self.0).read(&mut rings), Ok(n) if n > 0) {}
    }
}

/// Runs a program until it has ended or was stopped: at its deadline, on order (asked for whenever the bell rings), or when
/// the sink has enough. An error means that it was never started.
pub fn run(
    program: &Program<'_>,
    input: &[u8],
    order: &dyn Fn() -> Order,
    (bell, ear): (Bell, Ear),
    sink: &mut dyn Sink,
) -> io::Result<Ended> {
    let (running, pipes) = Running::start(program, bell)?;
    let mut pipes = Pipes::new(pipes, input)?;
    let mut stopping: Option<Stopping> = None;
    let mut drained_by = None;
    let mut enough = false;
    loop {
        let now = Instant::now();
        if running.has_ended() {
            if drained_by.is_none() && stopping.is_some() {
                // Nothing of a call that was stopped goes on working.
                running.signal(Signal::KILL);
            }
            let until = *drained_by.get_or_insert(now + DRAIN);
            pipes.input = None;
            if pipes.are_closed() || now >= until {
                break;
            }
        } else if let Some(stopping) = &mut stopping {
            if stopping.is_hopeless(now, &running) {
                break;
            }
        } else if let Some(reason) = reason_to_stop(enough, order(), now >= program.deadline) {
            stopping = Some(Stopping::begin(reason, now + program.grace, &running));
        }
        let next = match (&drained_by, &stopping) {
            (Some(until), _) => *until,
            (None, Some(stopping)) => stopping.until,
            (None, None) => program.deadline,
        };
        enough |= pipes.serve(&ear, next.saturating_duration_since(now), sink);
    }
    let held_open = running.has_ended() && !pipes.are_closed();
    Ok(Ended {
        status: running.finish(),
        stopped: stopping.map(|stopping| stopping.reason),
        held_open,
    })
}

fn reason_to_stop(enough: bool, order: Order, late: bool) -> Option<Stopped> {
    match (enough, order, late) {
        (true, _, _) => Some(Stopped::Output),
        (_, Order::Cancel, _) => Some(Stopped::Cancelled),
        (_, Order::Kill, _) => Some(Stopped::Killed),
        (_, Order::GoOn, true) => Some(Stopped::Deadline),
        (false, Order::GoOn, false) => None,
    }
}

/// A program that was told to end.
struct Stopping {
    reason: Stopped,
    until: Instant,
    killed: bool,
}

impl Stopping {
    fn begin(reason: Stopped, until: Instant, running: &Running) -> Stopping {
        let killed = reason == Stopped::Killed;
        running.signal(if killed { Signal::KILL } else { Signal::TERM });
        Stopping {
            reason,
            until,
            killed,
        }
    }

    /// Kills when the time for SIGTERM is over; true when that for SIGKILL is, too.
    fn is_hopeless(&mut self, now: Instant, running: &Running) -> bool {
        if now < self.until {
            return false;
        }
        if self.killed {
            return true;
        }
        running.signal(Signal::KILL);
        self.killed = true;
        self.until = now + KILL_LIMIT;
        false
    }
}

/// A program that runs, or has ended and was not reaped yet: its group's id is not free, so it can be signalled.
/// Dropped before its end, it is killed.
struct Running {
    group: Pid,
    ended: Arc<AtomicBool>,
    /// The watcher reaps when this is gone.
    release: Option<mpsc::Sender<Child>>,
    watcher: Option<JoinHandle<Option<ExitStatus>>>,
}

type StdPipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

impl Running {
    fn start(program: &Program<'_>, bell: Bell) -> io::Result<(Running, StdPipes)> {
        inherit_nothing();
        let ended = Arc::new(AtomicBool::new(false));
        let (release, child) = mpsc::channel();
        // The watcher comes first: without a thread to reap it, no program is started.
        let watcher = thread::Builder::new()
            .name("program".into())
            .stack_size(64 * 1024)
            .spawn({
                let ended = ended.clone();
                move || watch(&child, &ended, &bell)
            })?;
        let mut child = Command::new(program.file)
            .args(program.arguments)
            .current_dir(program.folder)
            .env_clear()
            .envs(
                program
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Pid::from_child(&child);
        // The watcher waits for it.
        let _ = release.send(child);
        let running = Running {
            group,
            ended,
            release: Some(release),
            watcher: Some(watcher),
        };
        Ok((running, pipes))
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn signal(&self, signal: Signal) {
        // Fails if nobody is left, or where the program became another user.
        let _ = kill_process_group(self.group, signal);
    }

    /// The status of a program that has ended. One that has not is left to the watcher.
    fn finish(mut self) -> Option<ExitStatus> {
        let watcher = self.watcher.take().filter(|_| self.has_ended());
        self.release = None;
        watcher?.join().ok()?
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.watcher.is_some() {
            self.signal(Signal::KILL);
        }
    }
}

/// Waits for the end of a program, tells it, and reaps the program when nobody needs its id any more.
fn watch(child: &mpsc::Receiver<Child>, ended: &AtomicBool, bell: &Bell) -> Option<ExitStatus> {
    let mut running = child.recv().ok()?;
    let pid = Pid::from_child(&running);
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let seen: Result<Option<WaitIdStatus>, Errno> = loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(Errno::INTR) => {}
            seen => break seen,
        }
    };
    if seen.is_ok() {
        ended.store(true, Ordering::Release);
        bell.ring();
        // Nothing more is ever sent: this waits for the sender to go away.
        let _ = child.recv();
    }
    let status = running.wait().ok();
    ended.store(true, Ordering::Release);
    bell.ring();
    status
}

/// What the broker opens itself is closed when a program starts; what it was started with is so from here on.
fn inherit_nothing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| close_fds::set_fds_cloexec_threadsafe(3, &[]));
}

/// The broker's ends of the three pipes; those that are closed are absent.
struct Pipes<'i> {
    input: Option<(ChildStdin, &'i [u8])>,
    output: Option<ChildStdout>,
    messages: Option<ChildStderr>,
    chunk: Vec<u8>,
}

impl<'i> Pipes<'i> {
    fn new((input, output, messages): StdPipes, bytes: &'i [u8]) -> io::Result<Pipes<'i>> {
        if let Some(pipe) = &input {
            ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &output {
            ioctl_fionbio(pipe, true)?;
        }
        if let Some(pipe) = &messages {
            ioctl_fionbio(pipe, true)?;
        }
        Ok(Pipes {
            input: input.map(|pipe| (pipe, bytes)),
            output,
            messages,
            chunk: vec![0; CHUNK],
        })
    }

    /// Whether the program's output is.
    fn are_closed(&self) -> bool {
        self.output.is_none() && self.messages.is_none()
    }

    /// Waits until something can be read or written, the bell rings, or `timeout` has passed; reads and writes it. True
    /// when the sink has enough.
    fn serve(&mut self, ear: &Ear, timeout: Duration, sink: &mut dyn Sink) -> bool {
        let [input, output, messages] = self.wait(ear, timeout);
        if input {
            self.write();
        }
        if messages && let Some(bytes) = read(&mut self.messages, &mut self.chunk) {
            sink.messages(bytes);
        }
        if output
            && let Some(bytes) = read(&mut self.output, &mut self.chunk)
            && sink.output(bytes).is_break()
        {
            self.output = None;
            return true;
        }
        false
    }

    /// Which of the pipes are ready.
    fn wait(&self, ear: &Ear, timeout: Duration) -> [bool; 3] {
        let pipes = [
            self.input
                .as_ref()
                .map(|(pipe, _)| (pipe.as_fd(), PollFlags::OUT)),
            self.output
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
            self.messages
                .as_ref()
                .map(|pipe| (pipe.as_fd(), PollFlags::IN)),
        ];
        let mut polled = Vec::with_capacity(4);
        polled.push(PollFd::from_borrowed_fd(ear.0.as_fd(), PollFlags::IN));
        for (fd, flags) in pipes.iter().flatten() {
            polled.push(PollFd::from_borrowed_fd(*fd, *flags));
        }
        // A deadline that is further away than the system can count is none.
        let timeout = Timespec::try_from(timeout).ok();
        if poll(&mut polled, timeout.as_ref()).is_err() {
            // Interrupted, or short of memory: the caller looks at the clock and comes again.
            return [false; 3];
        }
        let mut events = polled.iter().map(|fd| !fd.revents().is_empty());
        if events.next() == Some(true) {
            ear.hush();
        }
        pipes.map(|pipe| pipe.is_some() && events.next() == Some(true))
    }

    /// A program that closes its input early has read what it wants.
    fn write(&mut self) {
        let Some((pipe, bytes)) = &mut self.input else {
            return;
        };
        match pipe.write(bytes) {
            Ok(written) => *bytes = &bytes[written..],
            Err(error) if is_transient(&error) => return,
            Err(_) => *bytes = &[],
        }
        if bytes.is_empty() {
            self.input = None;
        }
    }
}

/// What a pipe has to give; at its end the pipe is gone.
fn read<'c>(pipe: &mut Option<impl Read>, chunk: &'c mut [u8]) -> Option<&'c [u8]> {
    match pipe.as_mut()?.read(chunk) {
        Err(error) if is_transient(&error) => return None,
        Ok(count) if count > 0 => return Some(&chunk[..count]),
        Ok(_) | Err(_) => {}
    }
    *pipe = None;
    None
}

fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests;
