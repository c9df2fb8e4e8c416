//! A wire with a delay, for kernels without netem: takes every frame from one interface and sends it on the other a
//! fixed time later. Rates and queues are tbf's, on the interfaces around it; their offloads must be off, because a frame
//! that the kernel would still have cut or summed up cannot be sent again.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket,
};

use crate::started::READY;

/// The argument that makes this program a delay line.
pub const DELAY_LINE: &str = "delay-line";

/// PACKET_OUTGOING of linux/if_packet.h: what the interface itself sends.
const OUTGOING: u8 = 4;
/// Frames that arrive while this thread does not run.
const BUFFER: usize = 16 << 20;
/// An Ethernet frame with some room.
const FRAME: usize = 4096;

type Frame = (Instant, Vec<u8>);

pub fn run(one: &str, other: &str, delay_ms: &str) -> ExitCode {
    let delay = Duration::from_secs_f64(delay_ms.parse::<f64>().unwrap() / 1e3);
    let (one, other) = (open(one), open(other));
    println!("{READY}");
    thread::scope(|threads| {
        for (from, to) in [(&one, &other), (&other, &one)] {
            let (sender, receiver) = channel();
            threads.spawn(move || take(from, delay, &sender));
            threads.spawn(move || give(to, &receiver));
        }
    });
    ExitCode::SUCCESS
}

fn open(interface: &str) -> OwnedFd {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::empty(),
        SockProtocol::EthAll,
    );
    let socket = socket.unwrap();
    setsockopt(&socket, RcvBufForce, &BUFFER).unwrap();
    let link = getifaddrs().unwrap().find_map(|found| {
        let address = found
            .address
            .filter(|_| found.interface_name == interface)?;
        address.as_link_addr().copied()
    });
    let link = link.unwrap_or_else(|| panic!("there is no interface {interface}"));
    bind(socket.as_raw_fd(), &link).unwrap();
    socket
}

fn take(from: &OwnedFd, delay: Duration, frames: &Sender<Frame>) {
    let mut buffer = [0; FRAME];
    loop {
        let (length, sender) = match recvfrom::<LinkAddr>(from.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("reading frames: {error}"),
        };
        if sender.is_some_and(|sender| sender.pkttype() == OUTGOING) {
            continue;
        }
        assert!(length < FRAME, "a frame of {length} bytes: offloads are on");
        if frames
            .send((Instant::now() + delay, buffer[..length].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn give(to: &OwnedFd, frames: &Receiver<Frame>) {
    while let Ok((due, frame)) = frames.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match send(to.as_raw_fd(), &frame, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS) => {}
            Err(error) => panic!("sending a frame: {error}"),
        }
    }
}
