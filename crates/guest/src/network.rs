//! The network card: addresses and routes by ioctl (netdevice(7), ipv6(7)), since no image can be relied on
//! to bring the programs for it.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use guest_wire::message::{FailureKind, Network};

use crate::failure::{Context, Result, failure};
use crate::modules;
use crate::pause::pause;

/// The only card; nothing renames it.
const CARD: &str = "eth0";
const CARD_PATIENCE: Duration = Duration::from_secs(5);

/// Brings the loopback interface up.
pub fn loopback_up() -> io::Result<()> {
    interface_up(UdpSocket::bind("0.0.0.0:0")?.as_raw_fd(), "lo")
}

/// Brings the card up with the given addresses and default routes.
pub fn set_up(network: &Network) -> Result<()> {
    modules::load_later("virtio_net")?;
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(CARD);
    wait_for_card(&Path::new("/sys/class/net").join(CARD))?;
    // The address is known to be ours and the router is given: no waiting for either. Kernels without IPv6
    // have no such files.
    for name in ["accept_dad", "accept_ra"] {
        let _: io::Result<()> = fs::write(settings.join(name), "0");
    }
    let v4 = UdpSocket::bind("0.0.0.0:0").context("open a socket")?;
    let fd = v4.as_raw_fd();
    set_v4(fd, libc::SIOCSIFADDR as _, network.address_v4).context("set the IPv4 address")?;
    let mask = Ipv4Addr::from(u32::MAX << (32 - u32::from(network.prefix_v4.clamp(1, 32))));
    set_v4(fd, libc::SIOCSIFNETMASK as _, mask).context("set the IPv4 netmask")?;
    interface_up(fd, CARD).context("bring the network card up")?;
    route_v4(fd, network.gateway_v4).context("set the IPv4 route")?;
    if let Ok(v6) = UdpSocket::bind("[::]:0") {
        set_v6(v6.as_raw_fd(), network).context("set the IPv6 address and route")?;
    }
    Ok(())
}

fn wait_for_card(path: &Path) -> Result<()> {
    let deadline = Instant::now() + CARD_PATIENCE;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(failure(FailureKind::NotFound, "the microVM has no network card"));
        }
        pause(Duration::from_millis(1));
    }
    Ok(())
}

fn interface_up(socket: RawFd, name: &str) -> io::Result<()> {
    let mut request = request_for(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(socket, libc::SIOCSIFFLAGS as _, &request)
}

fn set_v4(socket: RawFd, what: libc::c_ulong, address: Ipv4Addr) -> io::Result<()> {
    let mut request = request_for(CARD);
    request.ifr_ifru.ifru_addr = socket_address(address);
    ioctl(socket, what, &request)
}

fn route_v4(socket: RawFd, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: an all-zero rtentry is a valid value of this plain C struct.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    ioctl(socket, libc::SIOCADDRT as _, &route)
}

fn set_v6(socket: RawFd, network: &Network) -> io::Result<()> {
    let mut request = request_for(CARD);
    ioctl_mut(socket, libc::SIOCGIFINDEX as _, &mut request)?;
    // SAFETY: the kernel just filled this member in.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    let address = libc::in6_ifreq {
        ifr6_addr: v6(network.address_v6),
        ifr6_prefixlen: u32::from(network.prefix_v6),
        ifr6_ifindex: index,
    };
    ioctl(socket, libc::SIOCSIFADDR as _, &address)?;
    let everywhere = v6(Ipv6Addr::UNSPECIFIED);
    let route = RouteV6 {
        destination: everywhere,
        source: everywhere,
        gateway: v6(network.gateway_v6),
        kind: 0,
        destination_length: 0,
        source_length: 0,
        metric: 1,
        info: 0,
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        interface: index,
    };
    ioctl(socket, libc::SIOCADDRT as _, &route)
}

/// `struct in6_rtmsg` of `linux/ipv6_route.h`, whose fields libc does not show.
#[repr(C)]
struct RouteV6 {
    destination: libc::in6_addr,
    source: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

fn v6(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: address.octets() }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    // SAFETY: an all-zero sockaddr is a valid value of this plain C struct.
    let mut generic: libc::sockaddr = unsafe { std::mem::zeroed() };
    generic.sa_family = libc::AF_INET as _;
    // As in sockaddr_in (ip(7)): two bytes of port, then the address.
    for (to, from) in generic.sa_data[2..].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    generic
}

fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn ioctl<T>(socket: RawFd, what: libc::c_ulong, request: &T) -> io::Result<()> {
    // SAFETY: each caller pairs a request that only reads with the structure that netdevice(7) names for it.
    let result = unsafe { libc::ioctl(socket, what as _, request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn ioctl_mut<T>(socket: RawFd, what: libc::c_ulong, request: &mut T) -> io::Result<()> {
    // SAFETY: as above; the structure is ours to be written.
    let result = unsafe { libc::ioctl(socket, what as _, request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
