//! A proxy between a broker and its database, which can lose what it likes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// How many times the answer to a commit is to be lost.
    lose: AtomicUsize,
    /// Nothing is passed on, in either direction.
    cut: AtomicBool,
}

impl Proxy {
    pub fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::<State>::default();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            state: state.clone(),
        };
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else {
                    continue;
                };
                let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let writes = Arc::new(AtomicBool::new(false));
                let (there, back) = (state.clone(), state.clone());
                let (begun, seen) = (writes.clone(), writes);
                thread::spawn(move || {
                    pass(&mut up, &server, |bytes| {
                        // The statement that writes a record, prepared or prepared before.
                        if bytes.windows(7).any(|found| found == b"\"plan_i") {
                            begun.store(true, Ordering::SeqCst);
                        }
                        !there.cut.load(Ordering::SeqCst)
                    });
                });
                thread::spawn(move || {
                    pass(&mut down, &client, |_| {
                        let loses = seen.load(Ordering::SeqCst)
                            && back
                                .lose
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                                    n.checked_sub(1)
                                })
                                .is_ok();
                        !loses && !back.cut.load(Ordering::SeqCst)
                    });
                });
            }
        });
        proxy
    }

    /// Loses the next answers to what writes a record, after the server has carried it out, and closes their connections.
    pub fn lose_answers(&self, times: usize) {
        self.state.lose.store(times, Ordering::SeqCst);
    }

    pub fn lost_all(&self) -> bool {
        self.state.lose.load(Ordering::SeqCst) == 0
    }

    /// Closes every connection at its next byte, until it is mended.
    pub fn cut(&self, cut: bool) {
        self.state.cut.store(cut, Ordering::SeqCst);
    }
}

fn pass(from: &mut TcpStream, mut to: &TcpStream, keeps: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if !keeps(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
