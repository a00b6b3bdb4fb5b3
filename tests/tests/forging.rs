//! What must not compile: a message cannot be sent, a released one cannot be forged, a proof
//! cannot be made up. (`compile_fail` doctests say the same where the types are; here the
//! compiler's own words are pinned.)

#[test]
fn forgeries_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/forging/*.rs");
}
