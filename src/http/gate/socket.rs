//! A client's socket with a deadline.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The shortest timeout that every system knows.
const SHORTEST: Duration = Duration::from_millis(1);

/// Reads and writes fail with [`ErrorKind::TimedOut`] once the deadline has passed, even if bytes come one by one.
pub struct Socket<'s> {
    stream: &'s TcpStream,
    deadline: Instant,
    /// The timeouts that are set on the socket. Setting one is a system call, so we do that only when needed.
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl<'s> Socket<'s> {
    pub fn new(stream: &'s TcpStream) -> Socket<'s> {
        Socket {
            stream,
            deadline: Instant::now(),
            read_timeout: None,
            write_timeout: None,
        }
    }

    pub fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Waits until there is something to read, or the stream has ended.
    pub fn wait(&mut self) -> io::Result<()> {
        loop {
            let left = self
                .deadline
                .checked_duration_since(Instant::now())
                .ok_or(ErrorKind::TimedOut)?;
            // `None` if the system has no number for so long a time.
            let left = Timespec::try_from(left).ok();
            let mut stream = [PollFd::new(self.stream, PollFlags::IN)];
            match poll(&mut stream, left.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                result => return result.map(drop).map_err(io::Error::from),
            }
        }
    }

    /// Sets the timeout of the next call, unless the one that is set will do. `kept` is where it is remembered.
    fn within(
        &mut self,
        kept: fn(&mut Self) -> &mut Option<Duration>,
        set: impl FnOnce(Duration) -> io::Result<()>,
    ) -> io::Result<()> {
        let left = self
            .deadline
            .checked_duration_since(Instant::now())
            .ok_or(ErrorKind::TimedOut)?
            .max(SHORTEST);
        let kept = kept(self);
        // One that is shorter than what is left is no harm: the call is made again.
        if !kept.is_some_and(|timeout| timeout <= left && timeout >= left / 2) {
            set(left)?;
            *kept = Some(left);
        }
        Ok(())
    }
}

/// The timeout of one call has passed. The deadline may not have.
fn is_again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        loop {
            self.within(
                |socket| &mut socket.read_timeout,
                |timeout| stream.set_read_timeout(Some(timeout)),
            )?;
            match stream.read(buffer) {
                Err(error) if is_again(&error) => {}
                result => return result,
            }
        }
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        loop {
            self.within(
                |socket| &mut socket.write_timeout,
                |timeout| stream.set_write_timeout(Some(timeout)),
            )?;
            match stream.write(bytes) {
                Err(error) if is_again(&error) => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
