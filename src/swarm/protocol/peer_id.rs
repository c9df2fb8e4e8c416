//! Peer ids (BEP 20): ours, and what the id of another one tells of its program.

/// Client and version, then random.
const OURS: &[u8; 8] = b"-NW0100-";
/// The same program on a connection that only talks: see `companion`.
const COMPANION: &[u8; 8] = b"-NW010C-";
const RQBIT: &[u8; 3] = b"-rQ";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId([u8; 20]);

/// The programs that are treated in a way of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Narswarm,
    Companion,
    Rqbit,
    Other,
}

impl PeerId {
    /// A new id of ours.
    pub fn random() -> Self {
        let mut id: [u8; 20] = rand::random();
        id[..OURS.len()].copy_from_slice(OURS);
        Self(id)
    }

    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    pub fn program(&self) -> Program {
        match &self.0 {
            id if id.starts_with(OURS) => Program::Narswarm,
            id if id.starts_with(COMPANION) => Program::Companion,
            id if id.starts_with(RQBIT) => Program::Rqbit,
            _ => Program::Other,
        }
    }

    /// The id under which this machine's downloads talk to others.
    pub fn companion(&self) -> Self {
        self.with_prefix(COMPANION)
    }

    /// One id for all connections of a machine.
    pub fn machine(&self) -> Self {
        match self.program() {
            Program::Companion => self.with_prefix(OURS),
            Program::Narswarm | Program::Rqbit | Program::Other => *self,
        }
    }

    fn with_prefix(&self, prefix: &[u8; 8]) -> Self {
        let mut id = self.0;
        id[..prefix.len()].copy_from_slice(prefix);
        Self(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_companion_belongs_to_its_machine() {
        let ours = PeerId::random();
        assert_eq!(ours.program(), Program::Narswarm);
        assert_eq!(ours.companion().program(), Program::Companion);
        assert_eq!(ours.companion().machine(), ours);
        assert_eq!(
            PeerId::from_bytes(*b"-rQ9100-123456789012").program(),
            Program::Rqbit
        );
        assert_eq!(
            PeerId::from_bytes([0; 20]).machine(),
            PeerId::from_bytes([0; 20])
        );
    }
}
