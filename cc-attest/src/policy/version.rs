//! Versions of drivers and firmware: `550.90.07`, `96.00.9F.00.01`.

/// Whether a version is older than another; nothing, where one of them is no version. Parts are read as
/// hexadecimal: those of firmware are, and the decimal ones of drivers are in the same order if read so.
pub(super) fn older(found: &str, floor: &str) -> Option<bool> {
    let parts = |text: &str| -> Option<Vec<u64>> {
        text.split('.')
            .map(|part| part.len().le(&8).then(|| u64::from_str_radix(part, 16).ok())?)
            .collect()
    };
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.');
    let (found, floor) =
        (parts(found).filter(|_| plain(found))?, parts(floor).filter(|_| plain(floor))?);
    let longest = found.len().max(floor.len());
    let part = |list: &[u64], at: usize| list.get(at).copied().unwrap_or(0);
    let (found, floor): (Vec<_>, Vec<_>) =
        (0..longest).map(|at| (part(&found, at), part(&floor, at))).unzip();
    Some(found < floor)
}

/// Whether a text is a version.
pub(super) fn is_one(text: &str) -> bool {
    older(text, "0").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_compared_as_numbers() {
        for (found, floor, expected) in [
            ("550.90.07", "550.90.07", false),
            ("550.90.06", "550.90.07", true),
            ("550.144.03", "550.90.07", false),
            ("535.86.09", "550.90.07", true),
            ("550", "550.0.0", false),
            ("550.90", "550.90.1", true),
            ("96.00.9F.00.01", "96.00.9f.00.01", false),
            ("96.00.5e.00.01", "96.00.9F.00.01", true),
        ] {
            assert_eq!(older(found, floor), Some(expected), "{found} {floor}");
        }
        for bad in ["", "550..1", "550.90-beta", "+5", "123456789", "v5"] {
            assert_eq!(older(bad, "1"), None, "{bad}");
            assert_eq!(older("1", bad), None, "{bad}");
        }
    }
}
