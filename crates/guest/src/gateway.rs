//! `http://instance.internal`: connections of steps are carried to the host, byte for byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use guest_wire::bulk::MAX_GATEWAY_STREAMS;
use guest_wire::{BulkFrame, Tag};

use crate::agent::lock;
use crate::bulk::{Bulk, Stream};
use crate::failure::{Context, Result};

/// Where steps find it; `/etc/hosts` of each step names it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
const PORT: u16 = 80;

/// Counts open connections; more wait in the kernel's backlog.
#[derive(Default)]
struct Slots {
    open: Mutex<usize>,
    freed: Condvar,
}

/// Listens from now on.
pub fn listen(bulk: &Arc<Bulk>) -> Result<()> {
    let listener = TcpListener::bind((ADDRESS, PORT)).context("listen for the gateway")?;
    let bulk = Arc::clone(bulk);
    std::thread::spawn(move || accept_all(&listener, &bulk));
    Ok(())
}

fn accept_all(listener: &TcpListener, bulk: &Arc<Bulk>) {
    let slots = Arc::new(Slots::default());
    // Odd numbers are the guest's.
    for id in (1..u32::MAX).step_by(2) {
        let mut open = lock(&slots.open);
        while *open >= MAX_GATEWAY_STREAMS {
            open = slots.freed.wait(open).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *open += 1;
        drop(open);
        let slots = Arc::clone(&slots);
        let bulk = Arc::clone(bulk);
        let accepted = listener.accept();
        std::thread::spawn(move || {
            if let Ok((connection, _)) = accepted {
                carry(&connection, &bulk, id);
            }
            *lock(&slots.open) -= 1;
            slots.freed.notify_one();
        });
    }
}

/// Carries one connection until both directions ended or either broke.
fn carry(connection: &TcpStream, bulk: &Arc<Bulk>, id: u32) {
    let Ok(stream) = bulk.stream(id) else { return };
    bulk.write(&BulkFrame::Open { stream: id });
    stream.grant_window();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if to_step(connection, &stream).is_none() {
                stream.reset("the step closed the connection");
            }
            let _: std::io::Result<()> = connection.shutdown(Shutdown::Write);
        });
        if to_host(connection, &stream).is_none() {
            stream.reset("the step broke the connection");
            let _: std::io::Result<()> = connection.shutdown(Shutdown::Both);
        }
    });
}

fn to_host(mut connection: &TcpStream, stream: &Stream) -> Option<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => {
                stream.end();
                return Some(());
            }
            Ok(length) => stream.send(Tag::Plain, &buffer[..length]).ok()?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn to_step(mut connection: &TcpStream, stream: &Stream) -> Option<()> {
    while let Some(data) = stream.receive().ok()? {
        connection.write_all(&data).ok()?;
    }
    Some(())
}
