//! The payload: the canonical compressed form of one NAR, made, read back and re-created piece by piece.

mod describe;
mod encoder;
mod frames;
mod recreate;

pub use describe::{DescribeError, Described, PayloadBuilder, describe, describe_payload};
pub use encoder::{ENCODER_ID, Encoder, EncoderError, decode_frame, self_test};
pub use frames::{FRAME_SIZE, FrameTable, FrameTableError};
pub use recreate::{FrameMaker, NarSource, RecreateError};
