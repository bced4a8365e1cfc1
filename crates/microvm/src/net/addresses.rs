//! Addresses on the link between a guest and its namespace. Each VM has a namespace of its own, so all
//! VMs use the same ones; they are documentation addresses (RFC 5737, RFC 3849), which no real
//! destination has.

use std::net::{Ipv4Addr, Ipv6Addr};

use guest_wire::message::Network;

/// The guest's only address.
pub const GUEST_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The guest's gateway and resolver: our end of the link.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Prefix length of the IPv4 link.
pub const PREFIX_V4: u8 = 30;
/// The guest's IPv6 address.
pub const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The guest's IPv6 gateway.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// Prefix length of the IPv6 link.
pub const PREFIX_V6: u8 = 126;
/// The guest's hardware address (locally administered, IEEE 802-2014 §8.4).
pub const GUEST_MAC: &str = "02:00:00:00:00:02";
/// Our end's hardware address.
pub const GATEWAY_MAC: &str = "02:00:00:00:00:01";

/// How the guest sets its card up.
pub fn guest_card() -> Network {
    Network {
        address_v4: GUEST_V4,
        prefix_v4: PREFIX_V4,
        gateway_v4: GATEWAY_V4,
        address_v6: GUEST_V6,
        prefix_v6: PREFIX_V6,
        gateway_v6: GATEWAY_V6,
    }
}
