//! Intersections of files: read, meet the other sites, write the rows that match.

use privet_core::intersect::{Found, Intersector, Meeting, Wanted};
use privet_core::sensitivity::Prover;
use privet_core::{Code, Reason};
use privet_crypto::{Digest, Transcript};

use crate::input::{InputError, Pipeline, Source};
use crate::run::{Outcome, Site, intersect};
use crate::scratch::Scratch;
use crate::terms::Terms;
use crate::vole::params::Assurance;

/// The protocols, on the sites' own files.
#[derive(Debug, Clone, Copy)]
pub struct Files {
    prover: Option<Prover>,
}

impl Files {
    /// With leave to say how far one item moves a size; without it no size gets noise.
    pub fn new(prover: Option<Prover>) -> Self {
        Self { prover }
    }
}

impl From<InputError> for Reason {
    fn from(error: InputError) -> Self {
        let code = match &error {
            InputError::Unwritable { .. } | InputError::Scratch { .. } => Code::StorageFailed,
            _ => Code::DataUnreadable,
        };
        Reason::new(code, error.to_string())
    }
}

pub(crate) fn assurance(wanted: &Wanted) -> Assurance {
    match wanted.conservative {
        true => Assurance::Conservative,
        false => Assurance::Standard,
    }
}

fn pipeline(wanted: &Wanted) -> Result<Pipeline, Reason> {
    Pipeline::parse(&wanted.normalise)
        .map_err(|unknown| Reason::new(Code::InvalidJob, unknown.to_string()))
}

impl Intersector for Files {
    fn meet(&self, meeting: Meeting<'_>) -> Result<Found, Reason> {
        let Meeting { wanted, data, about, me, links, guard, out, rest } = meeting;
        let source = Source {
            path: data.to_path_buf(),
            columns: wanted.columns.clone(),
            pipeline: pipeline(wanted)?,
            duplicates: wanted.duplicates,
        };
        let scratch = Scratch::within(out.parent().unwrap_or(out));
        let items = source.read(&scratch, &mut |_| ())?;
        let count = items.count;
        let terms = Terms {
            about: Transcript::new("privet/psi/about/v1").bytes(&about).finish(),
            normalisation: normalisation(&source),
            protocol: wanted.protocol,
            reveal: wanted.reveal,
            malicious: wanted.malicious,
            assurance: assurance(wanted),
        };
        let declared = if wanted.pad { count.max(1024).next_power_of_two() } else { count };
        let site = Site { me, items: &items, scratch, declared, links, guard, prover: self.prover };
        let Outcome { protocol, size, noise, matching } = intersect(&terms, site)?;
        if let Some(matching) = &matching {
            source.write_rows(&items, matching, out)?;
            if wanted.rest {
                source.write_rest(&items, matching, rest)?;
            }
        }
        Ok(Found {
            items: count,
            duplicates: items.duplicates,
            blank: items.blank,
            common: size,
            noise,
            protocol,
        })
    }
}

fn normalisation(source: &Source) -> Digest {
    source.pipeline.digest(source.columns.len())
}

#[cfg(test)]
mod tests {
    use privet_core::intersect::NORMALISE;

    use crate::input::Step;

    #[test]
    fn jobs_name_the_steps_there_are() {
        assert_eq!(NORMALISE.to_vec(), Step::ALL.map(Step::name).to_vec());
    }
}
