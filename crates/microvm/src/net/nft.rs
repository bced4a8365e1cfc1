//! The rules inside a job's network namespace, as one text that `nft` applies atomically (nft(8)).
//!
//! The namespace has no way out but our own sockets, so these rules do not *allow* anything: they lead
//! TCP and DNS to us, and turn everything else away quickly and counted. A third party that flushes
//! them cuts the job off; it cannot open anything.

use super::addresses::{GATEWAY_V4, GATEWAY_V6, GUEST_MAC, GUEST_V4, GUEST_V6};

/// Names of the counters, which [`super::Counts`] reads back.
pub(super) const COUNTERS: [&str; 4] = ["spoofed", "foreign_dns", "udp_traffic", "other_protocols"];

/// The whole text: it takes the place of what was there.
fn table(counters: &[&str], chains: &str) -> String {
    let counters: String =
        counters.iter().map(|name| format!("  counter {name} {{ }}\n")).collect();
    format!(
        "table inet executors\ndelete table inet executors\ntable inet executors {{\n{counters}{chains}}}\n"
    )
}

/// The rule set of a namespace in which the job's own processes live. They have no rights over it; what they
/// send has this side's addresses, so nothing of it can be forged.
pub(super) fn rules_for_processes(proxy_port: u16) -> String {
    let chains = format!(
        "\x20 chain lead {{\n\
         \x20   type nat hook output priority -100; policy accept;\n\
         \x20   oifname lo accept\n\
         \x20   meta l4proto tcp redirect to :{proxy_port}\n\
         \x20 }}\n\
         \x20 chain refuse {{\n\
         \x20   type filter hook output priority filter; policy drop;\n\
         \x20   ct status dnat tcp dport {proxy_port} accept\n\
         \x20   tcp dport {proxy_port} reject with tcp reset\n\
         \x20   oifname lo accept\n\
         \x20   icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n\
         \x20   udp dport 53 counter name foreign_dns reject with icmpx admin-prohibited\n\
         \x20   meta l4proto udp counter name udp_traffic reject with icmpx admin-prohibited\n\
         \x20   counter name other_protocols limit rate 10/second reject with icmpx admin-prohibited\n\
         \x20   drop\n\
         \x20 }}\n"
    );
    table(&COUNTERS[1..], &chains)
}

/// The rule set of a namespace whose TAP is `tap` and whose proxy listens on `proxy_port`. The resolver
/// listens on port 53 of the gateway, as the guest expects: nothing to lead there.
pub(super) fn rules(tap: &str, proxy_port: u16) -> String {
    let chains = format!(
        "\x20 chain spoof {{\n\
         \x20   type filter hook prerouting priority raw; policy accept;\n\
         \x20   iifname != {tap} accept\n\
         \x20   ether saddr != {GUEST_MAC} counter name spoofed drop\n\
         \x20   ip saddr != {GUEST_V4} counter name spoofed drop\n\
         \x20   ip6 saddr != {{ {GUEST_V6}, fe80::/10, :: }} counter name spoofed drop\n\
         \x20 }}\n\
         \x20 chain lead {{\n\
         \x20   type nat hook prerouting priority dstnat; policy accept;\n\
         \x20   iifname != {tap} accept\n\
         \x20   ip daddr {GATEWAY_V4} tcp dport 53 accept\n\
         \x20   ip6 daddr {GATEWAY_V6} tcp dport 53 accept\n\
         \x20   meta l4proto tcp redirect to :{proxy_port}\n\
         \x20 }}\n\
         \x20 chain refuse {{\n\
         \x20   type filter hook prerouting priority filter; policy drop;\n\
         \x20   iifname lo accept\n\
         \x20   iifname != {tap} drop\n\
         \x20   ct status dnat tcp dport {proxy_port} accept\n\
         \x20   ip daddr {GATEWAY_V4} meta l4proto {{ tcp, udp }} th dport 53 accept\n\
         \x20   ip6 daddr {GATEWAY_V6} meta l4proto {{ tcp, udp }} th dport 53 accept\n\
         \x20   icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n\
         \x20   udp dport 53 counter name foreign_dns reject with icmpx admin-prohibited\n\
         \x20   meta l4proto udp counter name udp_traffic reject with icmpx admin-prohibited\n\
         \x20   counter name other_protocols limit rate 10/second reject with icmpx admin-prohibited\n\
         \x20   drop\n\
         \x20 }}\n"
    );
    table(&COUNTERS, &chains)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rules_are_what_was_reviewed() {
        insta::assert_snapshot!(super::rules("tap0", 1080));
    }

    #[test]
    fn the_rules_for_processes_are_what_was_reviewed() {
        insta::assert_snapshot!(super::rules_for_processes(1080));
    }
}
