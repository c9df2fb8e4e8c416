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
        let others = match self.unreachable {
            0 => None,
            1 => Some("1 machine has what was asked for".to_owned()),
            others => Some(format!("{others} machines have what was asked for")),
        };
        let ours = match self.port {
            Port::Closed(tried) => Some(format!(
                "port {port} of this machine was reached by no neighbour, {tried} tried (NAT or a firewall): forward or \
                 open it, so that others can fetch from here"
            )),
            Port::Open | Port::Unknown => None,
        };
        match (ours, others) {
            (ours, None) => ours,
            (None, Some(others)) => Some(format!(
                "{others} and cannot be reached (NAT or a firewall): a connection has to come from there first, or a \
                 seedbox has to hold it"
            )),
            (Some(ours), Some(others)) => Some(format!(
                "{ours}. {others} and cannot be reached either: neither side can connect to the other; one of both has to \
                 open its port, or a seedbox has to hold it"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_closed_ports() {
        let case = |port, unreachable, expected: Option<&str>| {
            let report = GossipReport {
                neighbours: 5,
                port,
                unreachable,
            };
            assert_eq!(report.nat(6881).as_deref(), expected);
        };
        let ours = "port 6881 of this machine was reached by no neighbour, 2 tried (NAT or a firewall): forward or open it, \
                    so that others can fetch from here";
        for port in [Port::Open, Port::Unknown] {
            case(port, 0, None);
        }
        case(Port::Closed(2), 0, Some(ours));
        for (unreachable, others) in [
            (1, "1 machine has what was asked for"),
            (3, "3 machines have what was asked for"),
        ] {
            let only_others = format!(
                "{others} and cannot be reached (NAT or a firewall): a connection has to come from there first, or a \
                 seedbox has to hold it"
            );
            for port in [Port::Open, Port::Unknown] {
                case(port, unreachable, Some(&only_others));
            }
            let both = format!(
                "{ours}. {others} and cannot be reached either: neither side can connect to the other; one of both has to \
                 open its port, or a seedbox has to hold it"
            );
            case(Port::Closed(2), unreachable, Some(&both));
        }
    }
}
