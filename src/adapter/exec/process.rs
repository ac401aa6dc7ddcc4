//! One program, from its start to its end: what goes into its standard input, what comes out of its output, how long it
//! may take, and how it is stopped. Knows nothing of what the bytes mean.
//!
//! A program runs in a process group of its own, without a shell, and inherits nothing but the three pipes. One thread
//! does it all: it waits for the pipes, and looks now and then whether the program has ended or is to be stopped. Most
//! programs end with their output, so that this is rarely needed.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

/// How long SIGKILL may take.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// How long the output of a program that has ended is waited for, while a process that it left behind keeps it open.
const DRAIN: Duration = Duration::from_millis(250);
/// How soon after the last event the program is looked at, and how seldom in the long run.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(200);
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
    /// When it is killed without a word, as if the machine went down.
    pub dies_at: Option<Instant>,
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

/// Runs a program until it has ended or was stopped: at its deadline, when it is `cancelled`, with the grace that is returned, or when the sink has
/// enough. An error means that it was never started.
pub fn run(
    program: &Program<'_>,
    input: &[u8],
    cancelled: &dyn Fn() -> Option<Duration>,
    sink: &mut dyn Sink,
) -> io::Result<Ended> {
    let (mut running, pipes) = Running::start(program)?;
    let mut pipes = Pipes::new(pipes, input)?;
    let mut stopping: Option<Stopping> = None;
    let mut drained_by = None;
    let mut look = FIRST_LOOK;
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
        } else if let Some((reason, grace)) = reason_to_stop(program, cancelled(), now) {
            stopping = Some(Stopping::begin(reason, now + grace, &running));
        }
        let next = match (&drained_by, &stopping) {
            (Some(until), _) => *until,
            (None, Some(stopping)) => stopping.until,
            (None, None) => program
                .dies_at
                .map_or(program.deadline, |at| at.min(program.deadline)),
        };
        let timeout = next.saturating_duration_since(now).min(look);
        look = match pipes.serve(timeout, sink) {
            Served::Nothing => (look * 2).min(LAST_LOOK),
            Served::Something => FIRST_LOOK,
            Served::Enough => {
                // At once: with nobody to read its output the program ends by itself, maybe before anybody looks again.
                let begin = || Stopping::begin(Stopped::Output, now + program.grace, &running);
                stopping.get_or_insert_with(begin);
                FIRST_LOOK
            }
        };
    }
    Ok(Ended {
        held_open: running.has_ended() && !pipes.are_closed(),
        status: running.finish(),
        stopped: stopping.map(|stopping| stopping.reason),
    })
}

/// Why a program is to end now, and how long it may go on after it was told.
fn reason_to_stop(
    program: &Program<'_>,
    cancelled: Option<Duration>,
    now: Instant,
) -> Option<(Stopped, Duration)> {
    if let Some(grace) = cancelled {
        Some((Stopped::Cancelled, grace))
    } else if program.dies_at.is_some_and(|at| now >= at) {
        Some((Stopped::Killed, program.grace))
    } else {
        (now >= program.deadline).then_some((Stopped::Deadline, program.grace))
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

/// A program that runs, or has ended and was not reaped yet: the id of its group is not free, so it can be signalled.
struct Running {
    group: Pid,
    child: Option<Child>,
    has_ended: bool,
}

type StdPipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

impl Running {
    fn start(program: &Program<'_>) -> io::Result<(Running, StdPipes)> {
        inherit_nothing();
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
        let running = Running {
            group: Pid::from_child(&child),
            child: Some(child),
            has_ended: false,
        };
        Ok((running, pipes))
    }

    /// Looks without reaping.
    fn has_ended(&mut self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.has_ended = self.has_ended
            // Interrupted: it is looked at again soon.
            || matches!(waitid(WaitId::Pid(self.group), options), Ok(Some(_)));
        self.has_ended
    }

    fn signal(&self, signal: Signal) {
        // Fails if nobody is left, or where the program became another user.
        let _ = kill_process_group(self.group, signal);
    }

    /// Reaps a program that has ended; one that has not is left to itself.
    fn finish(mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        if self.has_ended {
            child.wait().ok()
        } else {
            reap_some_day(child);
            None
        }
    }
}

impl Drop for Running {
    /// A panic on the way: nothing goes on working.
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            self.signal(Signal::KILL);
            reap_some_day(child);
        }
    }
}

/// Waits for the end of a program, beside everything else. Without a thread for that, a zombie is left.
fn reap_some_day(mut child: Child) {
    let wait = move || {
        let _ = child.wait();
    };
    let _ = std::thread::Builder::new()
        .stack_size(32 * 1024)
        .spawn(wait);
}

/// What the broker opens itself is closed when a program starts; what it was started with is so from here on.
fn inherit_nothing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| close_fds::set_fds_cloexec_threadsafe(3, &[]));
}

enum Served {
    Nothing,
    Something,
    /// The sink wants no more.
    Enough,
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

    /// Waits until something can be read or written, or `timeout` has passed; reads and writes it.
    fn serve(&mut self, timeout: Duration, sink: &mut dyn Sink) -> Served {
        let ready = self.wait(timeout);
        let [input, output, messages] = ready;
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
            return Served::Enough;
        }
        if ready == [false; 3] {
            Served::Nothing
        } else {
            Served::Something
        }
    }

    /// Which of the pipes are ready.
    fn wait(&self, timeout: Duration) -> [bool; 3] {
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
        let open = pipes.iter().flatten();
        let mut polled: Vec<PollFd<'_>> = open
            .map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let timeout = Timespec::try_from(timeout).ok();
        if poll(&mut polled, timeout.as_ref()).is_err() {
            // Interrupted, or short of memory: the caller looks at the clock and comes again.
            return [false; 3];
        }
        let mut events = polled.iter().map(|fd| !fd.revents().is_empty());
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
