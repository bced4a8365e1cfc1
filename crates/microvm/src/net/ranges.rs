//! Address ranges that no job may reach unless the operator opens them, each with the name under which
//! blocked attempts are counted. Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries
//! (RFC 6890 and updates), and the cloud providers' documented metadata addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Range {
    /// A cloud's metadata service: credentials of the machine.
    Metadata,
    /// RFC 1918, RFC 4193.
    Private,
    /// RFC 6598.
    CarrierGradeNat,
    /// RFC 1122 §3.2.1.3, RFC 4291 §2.5.3.
    Loopback,
    /// RFC 3927, RFC 4291 §2.5.6.
    LinkLocal,
    /// RFC 5771, RFC 4291 §2.7.
    Multicast,
    /// An IPv4 address inside an IPv6 one that is itself not reachable publicly, or any NAT64, 6to4 or
    /// Teredo address: a second way to spell a refused address.
    Translated,
    /// Everything else that is not globally reachable: documentation, benchmarking, future use.
    Reserved,
}

impl Range {
    /// Name in counters and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata_service",
            Self::Private => "private_network",
            Self::CarrierGradeNat => "carrier_grade_nat",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Translated => "translated_address",
            Self::Reserved => "reserved",
        }
    }
}

/// Metadata services that live inside other ranges (or, Azure's, in public space).
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// (network, prefix length, range), first match wins.
const V4: [(Ipv4Addr, u8, Range); 14] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8, Range::Private),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Range::Private),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Range::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Range::CarrierGradeNat),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Range::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Range::LinkLocal),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Range::Multicast),
    (Ipv4Addr::new(0, 0, 0, 0), 8, Range::Reserved),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Range::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Range::Reserved),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Range::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Range::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Range::Reserved),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Range::Reserved),
];

const V6: [(Ipv6Addr, u8, Range); 9] = [
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Range::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Range::LinkLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Range::Multicast),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, Range::Translated),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, Range::Translated),
    // 2001::/23 holds Teredo, ORCHID, benchmarking: no service that a build needs lives there.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Range::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Range::Reserved),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Range::Reserved),
    (Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0), 64, Range::Reserved),
];

/// The range that makes `address` unreachable by default; `None` for a public address.
pub fn refused(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(v4) => refused_v4(v4),
        IpAddr::V6(v6) => refused_v6(v6),
    }
}

fn refused_v4(address: Ipv4Addr) -> Option<Range> {
    if METADATA_V4.contains(&address) {
        return Some(Range::Metadata);
    }
    let bits = u32::from(address);
    V4.iter()
        .find(|(network, prefix, _)| (bits ^ u32::from(*network)) >> (32 - prefix) == 0)
        .map(|(_, _, range)| *range)
}

fn refused_v6(address: Ipv6Addr) -> Option<Range> {
    if address == METADATA_V6 {
        return Some(Range::Metadata);
    }
    if address == Ipv6Addr::LOCALHOST {
        return Some(Range::Loopback);
    }
    // `::ffff:a.b.c.d` and the deprecated `::a.b.c.d` are IPv4 in disguise (RFC 4291 §2.5.5).
    if address.segments()[..5] == [0; 5] {
        return Some(Range::Translated);
    }
    let bits = u128::from(address);
    if let Some((_, _, range)) =
        V6.iter().find(|(network, prefix, _)| (bits ^ u128::from(*network)) >> (128 - prefix) == 0)
    {
        return Some(*range);
    }
    // Only 2000::/3 is allocated as global unicast (RFC 4291 §2.4).
    if bits >> 125 == 0b001 { None } else { Some(Range::Reserved) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refused_range_is_named() {
        let cases = [
            ("169.254.169.254", Some(Range::Metadata)),
            ("168.63.129.16", Some(Range::Metadata)),
            ("100.100.100.200", Some(Range::Metadata)),
            ("fd00:ec2::254", Some(Range::Metadata)),
            ("10.1.2.3", Some(Range::Private)),
            ("172.31.255.255", Some(Range::Private)),
            ("172.32.0.1", None),
            ("192.168.0.1", Some(Range::Private)),
            ("fd12::1", Some(Range::Private)),
            ("100.64.0.1", Some(Range::CarrierGradeNat)),
            ("100.128.0.1", None),
            ("127.0.0.1", Some(Range::Loopback)),
            ("::1", Some(Range::Loopback)),
            ("169.254.0.1", Some(Range::LinkLocal)),
            ("fe80::1", Some(Range::LinkLocal)),
            ("224.0.0.1", Some(Range::Multicast)),
            ("ff02::1", Some(Range::Multicast)),
            ("0.0.0.0", Some(Range::Reserved)),
            ("255.255.255.255", Some(Range::Reserved)),
            ("192.0.2.1", Some(Range::Reserved)),
            ("198.18.0.1", Some(Range::Reserved)),
            ("2001:db8::1", Some(Range::Reserved)),
            ("::ffff:8.8.8.8", Some(Range::Translated)),
            ("::ffff:127.0.0.1", Some(Range::Translated)),
            ("64:ff9b::a00:1", Some(Range::Translated)),
            ("2002:a00:1::1", Some(Range::Translated)),
            ("::", Some(Range::Translated)),
            ("8.8.8.8", None),
            ("2606:4700::1111", None),
            ("4000::1", Some(Range::Reserved)),
        ];
        for (address, expected) in cases {
            assert_eq!(refused(address.parse().unwrap()), expected, "{address}");
        }
    }
}
