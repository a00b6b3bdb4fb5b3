//! What the sites of an intersection were told, and what they were not.

use maud::{Markup, html};
use privet_core::intersect::{Protocol, Reveal, Wanted};

use crate::psi::Intersection;

/// The tiles; a run that was refused has found nothing.
pub(super) fn tiles(found: Option<&Intersection>) -> Markup {
    let size = found.and_then(|found| found.intersection_size);
    html! {
        div.tile {
            p.label { "Items in common" }
            p.number { (size.map_or("not told".to_owned(), |size| size.to_string())) }
            @if let Some(found) = found {
                p.note {
                    "of " (found.sites.len()) " sites"
                    @if found.noise > 0.0 { ", ± " (format!("{:.1}", found.noise)) " of noise" }
                }
            }
        }
        @if let Some(found) = found {
            div.tile {
                p.label { "Computed by" }
                p.number { (found.protocol.as_str()) }
                p.note { (assumption(found.protocol)) }
            }
        }
    }
}

fn assumption(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Vole => "an oblivious PRF from oblivious transfer and a linear code",
        _ => "an oblivious PRF on the group ristretto255 (RFC 9497)",
    }
}

/// What the job asked for.
pub(super) fn terms(wanted: &Wanted) -> String {
    let normalised = match wanted.normalise.is_empty() {
        true => "as it is written".to_owned(),
        false => format!("normalised by {}", wanted.normalise.join(", ")),
    };
    let columns = wanted.columns.join(" and ");
    format!("{columns} {normalised}, shown to {}", wanted.reveal.as_str())
}

/// Each site's file, and what it was told.
pub(super) fn section(found: &Intersection) -> Markup {
    let told = match found.reveal {
        Reveal::All => "Every site was told which of its own rows all sites have.",
        Reveal::First => {
            "The first site was told which of its own rows all sites have; the others were told nothing."
        }
        Reveal::Size => "Every site was told how many items all sites have, and not which.",
    };
    html! {
        section {
            h2 { "Who has what in common" }
            p { (told) " Nobody was told what only some of them share." }
            div.scroll tabindex="0" role="region" aria-label="Who has what in common" {
                table {
                    thead { tr {
                        th { "site" } th.right { "items" } th.right { "duplicate rows" }
                        th.right { "rows without a key" } th.right { "in common" }
                    } }
                    tbody {
                        @for site in &found.sites {
                            tr {
                                td { (site.name) }
                                td.right { (site.items) }
                                td.right { (site.duplicates) }
                                td.right { (site.blank) }
                                td.right { (site.intersection.map_or("not told".to_owned(), |size| size.to_string())) }
                            }
                        }
                    }
                }
            }
            p.note { "Matching rows are in each site's own folder, in its own order. The server carried sealed bytes between the sites and saw their lengths." }
        }
        section {
            h2 { "What is not protected" }
            ul {
                li { "A site may enter items that it does not have, and so ask whether all others have them. Limits on sizes and runs bound how often." }
                li { "Every site sees the sizes of the others' sets, padded where the job says so, and without noise." }
                li { "Sites that follow the protocol and pool what they saw afterwards may learn what they have in common with the rest." }
                li { "What a site does with its matching rows." }
            }
        }
    }
}
