//! What a peer has asked for and has not got yet, in its order. It may take a request back (BEP 3's cancel): librqbit does
//! that when somebody else is faster.

use std::collections::VecDeque;

use crate::swarm::protocol::Request;

use super::telling::REQUEST_QUEUE;

/// Twice what it was told. What comes beyond that stays in the socket.
const MAX_WAITING: usize = 2 * REQUEST_QUEUE as usize;

#[derive(Default)]
pub struct Requests(VecDeque<Request>);

impl Requests {
    pub fn have_room(&self) -> bool {
        self.0.len() < MAX_WAITING
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, request: Request) {
        self.0.push_back(request);
    }

    pub fn pop(&mut self) -> Option<Request> {
        self.0.pop_front()
    }

    /// Returns whether it was there.
    pub fn cancel(&mut self, request: &Request) -> bool {
        let at = self.0.iter().position(|waiting| waiting == request);
        at.and_then(|at| self.0.remove(at)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(index: u32) -> Request {
        Request {
            index,
            begin: 0,
            length: 1,
        }
    }

    #[test]
    fn one_that_is_taken_back_is_not_answered() {
        let mut requests = Requests::default();
        (0..3).for_each(|index| requests.push(request(index)));
        assert!(requests.cancel(&request(1)));
        assert!(!requests.cancel(&request(1)));
        let answered: Vec<u32> = std::iter::from_fn(|| requests.pop().map(|r| r.index)).collect();
        assert_eq!(answered, [0, 2]);
    }

    #[test]
    fn they_are_bounded() {
        let mut requests = Requests::default();
        let mut index = 0;
        while requests.have_room() {
            requests.push(request(index));
            index += 1;
        }
        assert!(index >= REQUEST_QUEUE);
        assert_eq!(index as usize, MAX_WAITING);
    }
}
