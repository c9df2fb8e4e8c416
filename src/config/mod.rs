//! The configuration files: TOML in, checked options out. Unknown keys are refused, every error names its key.

mod address;
mod agent;
mod channel;
mod hold;
mod sections;
mod units;
mod upstreams;

pub use address::{AddressError, literal_address};
pub use agent::{Config, ConfigError, Role, state_directory};
pub use units::{Rate, Size, Span};
