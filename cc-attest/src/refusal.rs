//! Why evidence is refused: one code for each reason, in the words that people and programs see.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident: $help:literal,)*) => {
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

            /// One thing to do.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => $help),* }
            }
        }
    };
}

codes! {
    /// More bytes than evidence of its kind has.
    TooLarge: "hand in evidence as the device gave it",
    /// Not of the format.
    Malformed: "hand in evidence as the device gave it; `privet attest show` tells where it stops being readable",
    /// Bytes after the evidence.
    TrailingData: "hand in one report and nothing after it",
    /// A device of an architecture that is not known.
    UnsupportedArch: "see docs/attestation.md for what is known; a newer version may know it",
    /// A report of another SPDM version or message.
    WrongSpdmVersion: "collect the report with the driver, as request and answer of SPDM 1.1",
    /// One field twice.
    DuplicateOpaque: "collect the evidence again: a genuine device names each field once",
    /// The report answers another challenge.
    NonceMismatch: "collect fresh evidence for this challenge; evidence of an earlier one proves nothing now",
    /// An answer to a challenge that was never posed on this connection.
    ChallengeUnknown: "ask for a challenge first, and answer it on the connection that it came on",
    /// An answer that came too late.
    ChallengeExpired: "answer within a minute",
    /// A second answer to a challenge.
    ChallengeReused: "ask for a new challenge: each is answered once",
    /// The certificates do not lead to the pinned root.
    ChainUntrusted: "hand in the certificates of this device up to its maker; keys of a service with --keys",
    /// A certificate, or a token, outside its dates.
    CertExpired: "look at the clock, or at `--at`; else renew what has run out",
    /// A revoked certificate.
    CertRevoked: "do not use the device: its maker has withdrawn the certificate",
    /// A certificate that is on hold.
    CertOnHold: "ask the maker, or use a driver or firmware whose signer is not on hold",
    /// Policy wants to know of revocation, and nothing fresh enough says.
    RevocationUnknown: "hand in fresh revocation lists or OCSP responses with --revocation, or let policy be `soft`",
    /// The evidence is not signed by its certificate.
    SignatureInvalid: "do not use the evidence: it was changed, or is another device's",
    /// The report names another firmware than the certificate.
    FwidMismatch: "do not use the device before its firmware is the one that it was certified for",
    /// The report or the certificate does not name the firmware, and policy wants it named.
    FwidAbsent: "use driver 550 or newer, or set `require-fwid = false` for older ones",
    /// No reference values for this driver or firmware.
    RimMissing: "hand in the reference file that is named with --rim",
    /// Reference values whose digest, signature or chain does not hold.
    RimSignature: "get the reference file again from the maker: this one was changed or is somebody else's",
    /// Reference values outside the dates of who signed them.
    RimExpired: "get a newer issue of the reference file, or name its SHA-256 under `rim-pins`",
    /// Reference values of another driver or firmware.
    RimVersionMismatch: "hand in the reference file of the version that the device runs",
    /// Two sets of reference values for one measurement.
    RimIndexConflict: "hand in the files of one release: two of these claim one measurement",
    /// Something in a reference file that is not signed, or not of its profile.
    RimForeignContent: "get the reference file again from the maker: something in it is not signed",
    /// A measurement that is none of its reference values.
    MeasurementMismatch: "compare driver and firmware with what you installed; where the maker explains it, `allowed-mismatches` lets it pass as a warning",
    /// The machine can be debugged.
    DebugEnabled: "start the machine without debug",
    /// The GPU is in developer mode.
    DevTools: "turn the GPU's developer mode off and collect evidence again",
    /// A device in software, where policy does not allow one.
    SimulatedNotAllowed: "use a real device, or set `allow-simulated = true` for a demonstration",
    /// A kind of evidence that policy requires is not there.
    DowngradeMissingKind: "hand in evidence of every kind that the profile wants",
    /// One device twice.
    DuplicateDevice: "hand in the evidence of each device once",
    /// Firmware or microcode older than the floor of the policy.
    TcbBelowFloor: "update firmware and microcode, or collect collateral; see the levels in the detail",
    /// Evidence of another role.
    RoleMismatch: "evidence of a server does not stand for a site, nor a site's for a server",
    /// Evidence that is bound to other keys, another connection or another job.
    KeyBindingMismatch: "collect all evidence for one challenge on this connection",
    /// A driver or firmware older than the floor of the policy.
    DriverBelowFloor: "update driver or firmware to the floor of the policy",
    /// Devices in modes that do not go together.
    MixedModes: "bring all GPUs of the machine into one mode, with evidence of all their switches",
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

    /// Evidence of a kind that this program was built without.
    #[cfg(not(all(feature = "snp", feature = "tdx")))]
    pub(crate) fn not_built(kind: &str) -> Self {
        Self::new(Code::UnsupportedArch, format!("this program was built without {kind}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}
