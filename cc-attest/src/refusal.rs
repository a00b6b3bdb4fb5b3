//! Why evidence is refused: one code for each reason, in the words that people and programs see.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it is written, in CamelCase.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

codes! {
    /// More bytes than evidence of its kind has.
    TooLarge,
    /// Not of the format.
    Malformed,
    /// Bytes after the evidence.
    TrailingData,
    /// A device of an architecture that is not known.
    UnsupportedArch,
    /// A report of another SPDM version or message.
    WrongSpdmVersion,
    /// One field twice.
    DuplicateOpaque,
    /// The report answers another challenge.
    NonceMismatch,
    /// An answer to a challenge that was never posed on this connection.
    ChallengeUnknown,
    /// An answer that came too late.
    ChallengeExpired,
    /// A second answer to a challenge.
    ChallengeReused,
    /// The certificates do not lead to the pinned root.
    ChainUntrusted,
    /// A certificate, or a token, outside its dates.
    CertExpired,
    /// A revoked certificate.
    CertRevoked,
    /// A certificate that is on hold.
    CertOnHold,
    /// Policy wants to know of revocation, and nothing fresh enough says.
    RevocationUnknown,
    /// The evidence is not signed by its certificate.
    SignatureInvalid,
    /// The report names another firmware than the certificate.
    FwidMismatch,
    /// The report or the certificate does not name the firmware, and policy wants it named.
    FwidAbsent,
    /// No reference values for this driver or firmware.
    RimMissing,
    /// Reference values whose digest, signature or chain does not hold.
    RimSignature,
    /// Reference values outside the dates of who signed them.
    RimExpired,
    /// Reference values of another driver or firmware.
    RimVersionMismatch,
    /// Two sets of reference values for one measurement.
    RimIndexConflict,
    /// Something in a reference file that is not signed, or not of its profile.
    RimForeignContent,
    /// A measurement that is none of its reference values.
    MeasurementMismatch,
    /// The machine can be debugged.
    DebugEnabled,
    /// The GPU is in developer mode.
    DevTools,
    /// A device in software, where policy does not allow one.
    SimulatedNotAllowed,
    /// A kind of evidence that policy requires is not there.
    DowngradeMissingKind,
    /// One device twice.
    DuplicateDevice,
    /// Firmware or microcode older than the floor of the policy.
    TcbBelowFloor,
    /// Evidence of another role.
    RoleMismatch,
    /// Evidence that is bound to other keys, another connection or another job.
    KeyBindingMismatch,
    /// A driver or firmware older than the floor of the policy.
    DriverBelowFloor,
    /// Devices in modes that do not go together.
    MixedModes,
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A refusal of evidence: a value, not a failure of this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The reason.
    pub code: Code,
    /// What was found and what was wanted.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}
