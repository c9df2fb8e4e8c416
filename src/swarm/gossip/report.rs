//! Gossip as `status` and `doctor` tell of it.

use super::reach::Port;

/// Gossip as `status` shows it.
#[derive(Debug, Clone)]
pub struct GossipReport {
    /// Of all topics.
    pub neighbours: usize,
    pub port: Port,
    /// Machines that have something that was asked for, and that nobody could reach.
    pub unreachable: usize,
}

impl GossipReport {
    /// What a person should know of ports that cannot be reached.
    pub fn nat(&self, port: u16) -> Option<String> {
        let Port::Closed(tried) = self.port else {
            return (self.unreachable > 0).then(|| {
                format!(
                    "{} machines have what was asked for and cannot be reached (NAT or a firewall): they have to connect \
                     to this one first, or a seedbox has to hold it",
                    self.unreachable
                )
            });
        };
        let ours = format!(
            "port {port} of this machine was reached by none of {tried} neighbours (NAT or a firewall): forward or open \
             it, so that others can fetch from here"
        );
        Some(match self.unreachable {
            0 => ours,
            others => format!(
                "{ours}. {others} machines have what was asked for and are behind NAT as well: neither side can connect \
                 to the other; one of both has to open its port, or a seedbox has to hold it"
            ),
        })
    }
}
