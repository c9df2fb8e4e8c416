//! The configuration files: TOML in, checked options out. Unknown keys are refused, every error names its key.

mod address;
mod channel;
mod hold;
mod node;
mod sections;
mod swarm;
mod units;
mod upstreams;

pub use address::{AddressError, literal_address};
pub use node::{Config, ConfigError, Role, state_directory};
pub use units::{Rate, Size, Span};
