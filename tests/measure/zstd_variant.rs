//! Encoders that payloads could have had: other frame sizes, other levels. Ours must be worth its parameters.

use narswarm::payload::Encoder;
use zstd::zstd_safe::{CCtx, CParameter, Strategy, compress_bound};

const MIB: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZstdVariant {
    /// What payloads are made with.
    Ours,
    /// Our parameters with the window of another frame size.
    Frames { mib: usize },
    /// One of zstd's levels, all parameters as it picks them for a frame of this size.
    Level { level: i32, mib: usize },
}

impl ZstdVariant {
    pub const ALL: [Self; 6] = [
        Self::Ours,
        Self::Frames { mib: 2 },
        Self::Frames { mib: 8 },
        Self::Level { level: 3, mib: 4 },
        Self::Level { level: 5, mib: 4 },
        Self::Level { level: 7, mib: 4 },
    ];

    pub fn name(self) -> String {
        match self {
            Self::Ours => "payloads: dfast, tables for the frame, 4 MiB".to_owned(),
            Self::Frames { mib } => format!("the same, frames of {mib} MiB"),
            Self::Level { level, mib } => format!("zstd's level {level}, frames of {mib} MiB"),
        }
    }

    /// The size of the payload that a NAR would have.
    pub fn payload_length(self, nar: &[u8]) -> u64 {
        match self {
            Self::Ours => {
                let mut encoder = Encoder::new().unwrap();
                let frames = nar.chunks(narswarm::payload::FRAME_SIZE);
                frames
                    .map(|frame| encoder.encode(frame).unwrap().len() as u64)
                    .sum()
            }
            Self::Frames { mib } => {
                let window = (mib * MIB).ilog2();
                let ours = [
                    CParameter::WindowLog(window),
                    CParameter::ChainLog(18),
                    CParameter::HashLog(19),
                    CParameter::SearchLog(1),
                    CParameter::MinMatch(5),
                    CParameter::TargetLength(0),
                    CParameter::Strategy(Strategy::ZSTD_dfast),
                ];
                frames(nar, mib, &ours)
            }
            Self::Level { level, mib } => frames(nar, mib, &[CParameter::CompressionLevel(level)]),
        }
    }
}

fn frames(nar: &[u8], mib: usize, parameters: &[CParameter]) -> u64 {
    let mut context = CCtx::create();
    for parameter in parameters {
        context.set_parameter(*parameter).unwrap();
    }
    let mut frame = |raw: &[u8]| {
        let mut out = Vec::with_capacity(compress_bound(raw.len()));
        context.compress2(&mut out, raw).unwrap() as u64
    };
    nar.chunks(mib * MIB).map(&mut frame).sum()
}
