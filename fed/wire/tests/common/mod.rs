//! What the suites of this folder share.

use privet_wire::{Authority, Identity, Kit, Role};

/// Somebody that an authority has certified.
pub(crate) fn identity(authority: &Authority, role: Role, name: &str) -> Identity {
    let folder = tempfile::tempdir().unwrap();
    let kit = Kit {
        schema: 1,
        role,
        name: name.into(),
        server: String::new(),
        policy: None,
        job: None,
        sites: vec![],
        rounds: None,
        submitter: None,
        attest: privet_wire::KitAttest::default(),
    };
    kit.write(folder.path(), &authority.certify(role, name).unwrap()).unwrap();
    Kit::load(folder.path(), role).unwrap().1
}
