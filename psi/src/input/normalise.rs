//! How a field becomes the bytes that are compared.
//!
//! Sites compare digests, so two spellings of one id match only if they are the same bytes here. All
//! sites must therefore do the same: [`Pipeline::digest`] says whether they do.

use std::borrow::Cow;

use privet_crypto::{Digest, Transcript};

use crate::input::error::{UnknownStep, nearest};
use crate::input::text;

/// Most times that a pipeline is gone through for one field.
const MAX_PASSES: usize = 8;

/// The name of the pipeline without steps.
const NONE: &str = "none";

/// A step of normalisation.
///
/// A field that is not UTF-8 is left as it is by all but [`Step::Trim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// White space at both ends goes: what Unicode calls so, or of a field that is not UTF-8 the
    /// ASCII part of that. Zero-width characters are none.
    Trim,
    /// Unicode's compatibility composition: `ﬁ` becomes `fi`, full-width digits become ASCII, and an
    /// accent is one character with its letter.
    Nfkc,
    /// Unicode's lower case, that of no language: `İ` becomes `i` with a dot above (U+0307), which is
    /// no `i`, and `I` becomes `i`, never the dotless `ı`. It is no folding: `ß` is not `ss`, and the
    /// `ς` that ends a word is no `σ`.
    Lower,
    /// Trims, lower-cases all of it, and takes the dot off the end of the domain.
    ///
    /// Dots and `+tags` of the mailbox stay: with most providers they make another mailbox. Names of
    /// one domain in Unicode and in ASCII (`xn--`) stay different, as do comments and quotes. What has
    /// not exactly one `@` with something on either side is trimmed and lower-cased only.
    Email,
    /// The digits of a telephone number, after a `+` if it starts with `+` or `00`. White space, dots,
    /// dashes, slashes and parentheses go, and so does a `(0)` that follows a country's one to three
    /// digits.
    ///
    /// A field with anything else, such as letters, digits that are not ASCII or a `+` further on,
    /// stays as it is. No country is assumed: `030 123` and `+49 30 123` stay different, and so does
    /// what was dialled with another prefix than `00`. A field of separators alone becomes empty.
    Phone,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 5] = [Self::Trim, Self::Nfkc, Self::Lower, Self::Email, Self::Phone];

    /// The kebab-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trim => "trim",
            Self::Nfkc => "nfkc",
            Self::Lower => "lower",
            Self::Email => "email",
            Self::Phone => "phone",
        }
    }

    /// Raised whenever a step gives other bytes than before.
    const fn version(self) -> u64 {
        match self {
            Self::Trim | Self::Nfkc | Self::Lower | Self::Email | Self::Phone => 1,
        }
    }

    /// The version of Unicode in the tables that the step reads. What is white space has not changed
    /// since 6.3.
    const fn unicode(self) -> (u8, u8, u8) {
        match self {
            Self::Nfkc => unicode_normalization::UNICODE_VERSION,
            Self::Lower | Self::Email => char::UNICODE_VERSION,
            Self::Trim | Self::Phone => (0, 0, 0),
        }
    }

    fn apply(self, field: &[u8]) -> Cow<'_, [u8]> {
        let Ok(text) = std::str::from_utf8(field) else {
            let kept = if self == Self::Trim { text::trim_bytes(field) } else { field };
            return Cow::Borrowed(kept);
        };
        let text = match self {
            Self::Trim => Cow::Borrowed(text.trim()),
            Self::Nfkc => text::nfkc(text),
            Self::Lower => text::lower(text),
            Self::Email => text::email(text),
            Self::Phone => text::phone(text),
        };
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }
    }
}

/// Steps of normalisation, in order.
///
/// They are repeated until they change nothing more, so that what is normalised already stays as it
/// is: once through `lower` and `nfkc`, a mathematical `𝐀` would become `A`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pipeline(Vec<Step>);

impl Pipeline {
    /// The pipeline of these names; of none, or of `none` alone, the one without steps.
    ///
    /// # Errors
    /// When a name is not that of a step, or `none` stands beside others.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownStep> {
        if matches!(names, [name] if name.as_ref() == NONE) {
            return Ok(Self::default());
        }
        let step = |name: &S| {
            let name = name.as_ref();
            let step = Step::ALL.into_iter().find(|step| step.name() == name);
            step.ok_or_else(|| match name {
                NONE => UnknownStep::NoneWithOthers,
                name => UnknownStep::Name {
                    name: name.to_owned(),
                    nearest: nearest(name, Step::ALL.into_iter().map(Step::name)),
                },
            })
        };
        Ok(Self(names.iter().map(step).collect::<Result<_, _>>()?))
    }

    /// Its steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The names of its steps.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|step| step.name())
    }

    /// The normalised field; borrowed if it is one already, or part of one.
    pub fn apply<'a>(&self, field: &'a [u8]) -> Cow<'a, [u8]> {
        let mut field = Cow::Borrowed(field);
        for _ in 0..MAX_PASSES {
            let mut changed = false;
            for &step in &self.0 {
                field = match field {
                    Cow::Borrowed(before) => {
                        let after = step.apply(before);
                        changed |= *after != *before;
                        after
                    }
                    Cow::Owned(before) => {
                        let after = Some(step.apply(&before)).filter(|after| **after != *before);
                        let after = after.map(Cow::into_owned);
                        changed |= after.is_some();
                        Cow::Owned(after.unwrap_or(before))
                    }
                };
            }
            if !changed {
                break;
            }
        }
        field
    }

    /// What sites must agree on to compare keys of so many columns: the steps, their order, and the
    /// versions of all that they rest on.
    pub fn digest(&self, columns: usize) -> Digest {
        let start = Transcript::new("privet/psi/normalise/v1").number(columns as u64);
        let steps = self.0.iter().fold(start, |transcript, step| {
            let (major, minor, patch) = step.unicode();
            let named = transcript.bytes(step.name().as_bytes()).number(step.version());
            named.bytes(&[major, minor, patch])
        });
        steps.finish()
    }
}

/// The names of the steps, or `none`.
impl std::fmt::Display for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(if names.is_empty() { NONE } else { "" })?;
        f.write_str(&names.join(", "))
    }
}
