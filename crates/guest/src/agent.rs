//! The agent: answers the host's requests until the host is gone or wants the power off.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use guest_wire::message::{
    GuestMessage, Hello, HelloReply, HostMessage, Outcome, Prepare, Reply, Request, Usage, agree,
};
use guest_wire::{CONTROL_FRAME_MAX, Decoder, GENERATION, OLDEST_GENERATION, encode};

use crate::boot::Channels;
use crate::bulk::Bulk;
use crate::cgroup;
use crate::collect;
use crate::exec::{self, Running};
use crate::failure::{Context, Result, bad_request};
use crate::files;
use crate::gateway;
use crate::images::{self, Assembled};
use crate::network;
use crate::pause::pause;
use crate::power;
use crate::reaper::Reaper;

/// Where the agent lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// It is the init process of a microVM.
    Machine,
    /// It is one container of a job; steps run in others.
    Container,
}

impl Home {
    /// Ends everything that the agent is there for.
    fn leave(self) -> ! {
        match self {
            Self::Machine => power::off(),
            #[expect(
                clippy::disallowed_methods,
                reason = "nothing of a container outlives its processes"
            )]
            Self::Container => std::process::exit(0),
        }
    }
}

/// What requests share.
pub struct Agent {
    home: Home,
    control: File,
    writing: Mutex<()>,
    /// Streams to the host.
    pub bulk: Arc<Bulk>,
    /// Starts processes.
    pub reaper: Arc<Reaper>,
    assembled: OnceLock<Assembled>,
    /// Execs that run, by stream.
    pub running: Mutex<HashMap<u32, Arc<Running>>>,
    /// Counts execs.
    pub next_step: AtomicU32,
}

/// Serves until the end; returns why it came.
pub fn serve(channels: Channels, home: Home) -> Result<String> {
    let bulk = Bulk::start(channels.bulk, move |why| {
        println!("guest: {why}");
        home.leave()
    });
    let agent = Arc::new(Agent {
        home,
        control: channels.control,
        writing: Mutex::default(),
        bulk,
        reaper: Reaper::start(),
        assembled: OnceLock::new(),
        running: Mutex::default(),
        next_step: AtomicU32::new(1),
    });
    agent.answer_all()
}

impl Agent {
    /// The assembled disks.
    pub fn assembled(&self) -> Result<&Assembled> {
        self.assembled.get().ok_or_else(|| bad_request("prepare was not asked for yet"))
    }

    fn answer_all(self: &Arc<Self>) -> Result<String> {
        let mut decoder = Decoder::new(CONTROL_FRAME_MAX);
        let mut buffer = vec![0; 16 * 1024];
        let mut greeted = false;
        loop {
            let length = match (&self.control).read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.context("control channel")?,
            };
            // Before the host's side is known to be connected the port reads as ended.
            if length == 0 && !greeted {
                pause(Duration::from_millis(1));
                continue;
            }
            if length == 0 {
                return Ok("the host closed the control channel".into());
            }
            let mut input = &buffer[..length];
            loop {
                let frame = decoder.next_frame(&mut input);
                let Some(frame) = frame.map_err(|error| bad_request(error.to_string()))? else {
                    break;
                };
                let message = serde_json::from_slice::<HostMessage>(&frame)
                    .map_err(|error| bad_request(format!("control message: {error}")))?;
                match message {
                    HostMessage::Hello(hello) => {
                        greeted = true;
                        self.send(&GuestMessage::Hello(self.greet(&hello)));
                    }
                    HostMessage::Request { request: Request::PowerOff, .. } => {
                        return Ok("asked to power off".into());
                    }
                    HostMessage::Request { id, request } => self.answer(id, request),
                }
            }
        }
    }

    fn greet(&self, hello: &Hello) -> HelloReply {
        // In a container both are the host's.
        if self.home == Home::Machine {
            set_clock(hello.unix_time_ns);
            stir(&hello.seed);
        }
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 =
            uptime.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        HelloReply {
            generation: agree((hello.oldest_generation, hello.generation)),
            supported: (OLDEST_GENERATION, GENERATION),
            kernel: kernel.trim_end().to_owned(),
            uptime_ms: (seconds * 1000.0) as u64,
            memory_bytes: cgroup::memory_total(),
        }
    }

    /// Answers what is quick here and now, and what takes time on a thread of its own, so that a ping or
    /// a kill never waits.
    fn answer(self: &Arc<Self>, id: u64, request: Request) {
        match request {
            Request::Ping => self.reply(id, Ok(Reply::Done)),
            Request::Kill { stream } => self.reply(id, exec::kill(self, stream)),
            Request::Resize { stream, size } => self.reply(id, exec::resize(self, stream, size)),
            Request::Exec(exec) => {
                // Known before the next request is read, which may be to kill it.
                let running = exec::register(self, &exec);
                let agent = Arc::clone(self);
                std::thread::spawn(move || {
                    let result = running.and_then(|running| exec::run(&agent, &exec, &running));
                    agent.reply(id, result.map(Reply::Exec));
                });
            }
            request => {
                let agent = Arc::clone(self);
                std::thread::spawn(move || {
                    let result = agent.work(request);
                    agent.reply(id, result);
                });
            }
        }
    }

    fn work(self: &Arc<Self>, request: Request) -> Result<Reply> {
        match request {
            Request::Prepare(prepare) => {
                self.assembled
                    .set(self.assemble(&prepare)?)
                    .map_err(|_| bad_request("prepare was asked for already"))?;
                gateway::listen(&self.bulk)?;
                Ok(Reply::Done)
            }
            Request::WriteFile(write) => {
                let stream = self.bulk.stream(write.stream)?;
                let result = self.assembled().and_then(|_| files::write(&write, &stream));
                if let Err(failure) = &result {
                    stream.reset(&failure.message);
                }
                result.map(Reply::Bytes)
            }
            Request::ReadFile(read) => {
                let stream = self.bulk.stream(read.stream)?;
                let result = self.assembled().and_then(|_| files::read(&read, &stream));
                stream.end();
                result.map(Reply::Bytes)
            }
            Request::RemoveFile { path } => {
                self.assembled().and_then(|_| files::remove(&path)).map(|()| Reply::Done)
            }
            Request::Collect(collect) => {
                let stream = self.bulk.stream(collect.stream)?;
                let result = self.assembled().and_then(|_| collect::run(&collect, &stream));
                stream.end();
                result.map(Reply::Collected)
            }
            Request::Usage => {
                let (cpu_ms, peak_memory_bytes) = cgroup::usage();
                let space = images::space();
                let (disk_bytes, disk_free_bytes) = (space.used, space.free);
                Ok(Reply::Usage(Usage { cpu_ms, peak_memory_bytes, disk_bytes, disk_free_bytes }))
            }
            Request::Ping
            | Request::Kill { .. }
            | Request::Resize { .. }
            | Request::Exec(_)
            | Request::PowerOff => Err(bad_request("answered elsewhere")),
        }
    }

    fn assemble(&self, prepare: &Prepare) -> Result<Assembled> {
        if self.home == Home::Container {
            return Ok(Assembled::default());
        }
        if let Some(now) = prepare.unix_time_ns {
            set_clock(now);
        }
        let mut assembled = images::assemble(prepare)?;
        if let Some(card) = &prepare.network {
            network::set_up(card)?;
            assembled.nameserver = Some(card.gateway_v4.into());
        }
        Ok(assembled)
    }

    fn reply(&self, id: u64, result: Result<Reply>) {
        let result = match result {
            Ok(reply) => Outcome::Ok(reply),
            Err(failure) => Outcome::Failed(failure),
        };
        self.send(&GuestMessage::Reply { id, result });
    }

    fn send(&self, message: &GuestMessage) {
        let json = serde_json::to_vec(message).expect("messages have only string keys");
        let mut frame = Vec::new();
        if let Err(error) = encode(&[&json], CONTROL_FRAME_MAX, &mut frame) {
            println!("guest: reply not sent: {error}");
            return;
        }
        let _turn = lock(&self.writing);
        if let Err(error) = (&self.control).write_all(&frame) {
            println!("guest: control channel: {error}");
        }
    }
}

/// A job must not run in 1970; a failure only costs that.
fn set_clock(unix_time_ns: u64) {
    let since_epoch = Duration::from_nanos(unix_time_ns);
    let time = nix::sys::time::TimeSpec::from_duration(since_epoch);
    let clock = nix::time::ClockId::CLOCK_REALTIME;
    if let Err(errno) = nix::time::clock_settime(clock, time) {
        println!("guest: clock not set: {errno}");
    }
}

/// Mixes the host's randomness into the pool, as worth its length: a guest has few sources of its own.
fn stir(seed: &str) {
    let mut bytes = seed.as_bytes().to_vec();
    bytes.truncate(POOL_INFO_MAX);
    // Two hexadecimal digits are a byte.
    let info = PoolInfo::new(bytes.len() * 4, &bytes);
    let result = std::fs::File::open("/dev/urandom").map(|device| {
        // SAFETY: the structure is of the layout that the kernel documents and outlives the call.
        unsafe { libc::ioctl(device.as_raw_fd(), RNDADDENTROPY as _, &raw const info) }
    });
    if !matches!(result, Ok(0)) {
        println!("guest: randomness not stirred: {result:?}");
    }
}

/// `_IOW('R', 3, int[2])` of `linux/random.h`.
const RNDADDENTROPY: u32 = 0x4008_5203;
const POOL_INFO_MAX: usize = 64;

/// `struct rand_pool_info` of `linux/random.h`.
#[repr(C)]
struct PoolInfo {
    entropy_bits: i32,
    length: i32,
    bytes: [u8; POOL_INFO_MAX],
}

impl PoolInfo {
    fn new(bits: usize, data: &[u8]) -> Self {
        let mut bytes = [0; POOL_INFO_MAX];
        bytes[..data.len()].copy_from_slice(data);
        Self { entropy_bits: bits as i32, length: data.len() as i32, bytes }
    }
}

/// Locks, whether or not another thread panicked meanwhile.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
