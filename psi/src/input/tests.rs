#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::PathBuf;

use privet_crypto::Transcript;
use proptest::collection::vec;
use proptest::prelude::*;

use privet_core::intersect::Duplicates;

use crate::flags::Flags;
use crate::input::{InputError, Items, Pipeline, Source, Step, UnknownStep};
use crate::scratch::Scratch;

fn pipeline(names: &[&str]) -> Pipeline {
    Pipeline::parse(names).unwrap()
}

fn applied(names: &[&str], field: &str) -> String {
    String::from_utf8(pipeline(names).apply(field.as_bytes()).into_owned()).unwrap()
}

/// Files of more than ten rows with keys do not fit into it.
fn scratch() -> Scratch {
    Scratch::new(&std::env::temp_dir(), 10)
}

/// The first row of each item and its digest, in the file's order.
fn firsts(items: &Items) -> Vec<(u64, [u8; 32])> {
    let mut all = of_items(items);
    all.sort_unstable();
    all.into_iter().map(|(row, _, digest)| (row, digest)).collect()
}

/// Of each item its first row, its number and its digest.
fn of_items(items: &Items) -> Vec<(u64, u64, [u8; 32])> {
    let mut all = Vec::new();
    let note = |item, first: bool, digest, row| {
        all.extend(first.then_some((row, item, digest)));
        Ok::<(), InputError>(())
    };
    items.each_row(note).unwrap();
    all
}

/// What matches, told in the file's order, as it is asked for.
fn flags(items: &Items, matching: &[bool]) -> Flags {
    let mut all = of_items(items);
    all.sort_unstable();
    let mut flags = Flags::new(matching.len() as u64);
    for ((_, item, _), _) in all.iter().zip(matching).filter(|(_, matches)| **matches) {
        flags.set(*item);
    }
    flags
}

/// A folder with one file, and what is read of it.
struct Case {
    folder: tempfile::TempDir,
    source: Source,
}

impl Case {
    fn new(name: &str, content: impl AsRef<[u8]>, columns: &[&str], steps: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        let duplicates = Duplicates::Dedupe;
        Self { folder, source: Source { path, columns, pipeline: pipeline(steps), duplicates } }
    }

    fn read(&self) -> Result<Items, InputError> {
        self.source.read(&scratch(), &mut |_| {})
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// What is written where `matching` says so.
    fn written(&self, items: &Items, matching: &[bool]) -> Vec<u8> {
        let flags = flags(items, matching);
        let rows = self.source.write_rows(items, &flags, &self.out()).unwrap();
        assert_eq!(rows, matching.iter().filter(|matches| **matches).count() as u64);
        std::fs::read(self.out()).unwrap()
    }
}

/// The digests of a file of one or more key columns.
fn digests(content: impl AsRef<[u8]>, columns: &[&str]) -> Vec<[u8; 32]> {
    let items = Case::new("a.csv", content, columns, &[]).read().unwrap();
    firsts(&items).into_iter().map(|(_, digest)| digest).collect()
}

#[test]
fn addresses_of_one_mailbox_are_one() {
    for (field, expected) in [
        ("ann@example.com", "ann@example.com"),
        (" Ann@EXAMPLE.com\t", "ann@example.com"),
        ("ann@example.com.", "ann@example.com"),
        ("ÄNN@Exämple.COM. ", "änn@exämple.com"),
        ("a.n.n+news@example.com", "a.n.n+news@example.com"),
        // No addresses.
        ("No Mail.", "no mail."),
        ("a@b@c.", "a@b@c."),
        ("@example.com.", "@example.com."),
        ("ann@.", "ann@."),
        ("ann@", "ann@"),
        ("", ""),
    ] {
        assert_eq!(applied(&["email"], field), expected, "{field}");
    }
}

#[test]
fn numbers_of_one_telephone_are_one() {
    for (field, expected) in [
        ("+4930123456", "+4930123456"),
        ("0049 30 / 123-456", "+4930123456"),
        (" +49 (0)30 123.456 ", "+4930123456"),
        ("+49(0)(30) 123\u{2011}456", "+4930123456"),
        ("(+49) 30\u{a0}123456", "+4930123456"),
        ("0049 (0) 30 123456", "+4930123456"),
        // No country, so its 0 stays.
        ("(0)30 123456", "030123456"),
        ("030 123456", "030123456"),
        ("+4930 (0) 1", "+493001"),
        ("00", "00"),
        (" - ", ""),
        // Left as they are.
        ("+49 30 123456 ext. 7", "+49 30 123456 ext. 7"),
        (" 12 a", " 12 a"),
        ("12+3", "12+3"),
        ("++4", "++4"),
        ("+ ", "+ "),
        ("٠٣٠ 1", "٠٣٠ 1"),
    ] {
        assert_eq!(applied(&["phone"], field), expected, "{field}");
    }
    assert_eq!(applied(&["nfkc", "phone"], "＋４９（０）３０ １"), "+49301");
}

#[test]
fn text_is_normalised_as_unicode_says() {
    for (steps, field, expected) in [
        ("nfkc", "ﬁle", "file"),
        ("nfkc", "１２３", "123"),
        ("nfkc", "e\u{301}", "é"),
        ("nfkc", "Straße ②", "Straße 2"),
        ("lower", "ÉCOLE", "école"),
        // In every language alike, and no folding.
        ("lower", "İI", "i\u{307}i"),
        ("lower", "ı", "ı"),
        ("lower", "Straße", "straße"),
        ("lower", "ΟΔΟΣ", "οδος"),
        ("trim", "\u{3000}\u{a0} a b\u{2003}\r\n", "a b"),
        ("trim", "\u{200b}a", "\u{200b}a"),
        ("trim", " \t", ""),
    ] {
        assert_eq!(applied(&[steps], field), expected, "{steps} {field}");
    }
    // Steps are repeated until they change nothing: `nfkc` makes a capital, and white space.
    assert_eq!(applied(&["lower", "nfkc"], "𝐀"), "a");
    assert_eq!(applied(&["trim", "nfkc"], "´"), "\u{301}");
}

#[test]
fn of_other_bytes_only_the_ends_are_trimmed() {
    let field = b" \x0bA\xff@X. ";
    for step in Step::ALL {
        let got = Pipeline::parse(&[step.name()]).unwrap().apply(field).into_owned();
        let expected: &[u8] = if step == Step::Trim { b"A\xff@X." } else { field };
        assert_eq!(got, expected, "{step:?}");
    }
}

#[test]
fn nothing_is_allocated_for_what_stays() {
    let all = pipeline(&["trim", "nfkc", "lower", "email"]);
    for field in ["ann@example.com", "", "müller", "οδος", " a\t"] {
        assert!(matches!(all.apply(field.as_bytes()), Cow::Borrowed(_)), "{field}");
    }
    assert!(matches!(pipeline(&["phone"]).apply(b"+4930123"), Cow::Borrowed(_)));
    assert!(matches!(pipeline(&[]).apply(b" A\xff"), Cow::Borrowed(b" A\xff")));
}

#[test]
fn names_are_those_of_steps() {
    let names = ["phone", "trim", "nfkc", "lower", "email"];
    let all = pipeline(&names);
    assert!(all.names().eq(names));
    assert_eq!(all.to_string(), "phone, trim, nfkc, lower, email");
    assert_eq!(pipeline(&["none"]), pipeline(&[]));
    assert_eq!((pipeline(&[]).steps().len(), pipeline(&[]).to_string().as_str()), (0, "none"));

    for names in [&["none", "trim"], &["trim", "none"], &["none", "none"]] {
        assert_eq!(Pipeline::parse(names), Err(UnknownStep::NoneWithOthers));
    }
    let error = Pipeline::parse(&["trim", "lowr"]).unwrap_err();
    assert_eq!(error.to_string(), "there is no step `lowr`; did you mean `lower`?");
    let error = Pipeline::parse(&["stem"]).unwrap_err();
    let expected = "there is no step `stem`; there are none, trim, nfkc, lower, email, phone";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_pipelines_digest_tells_all_apart() {
    let mut seen = HashSet::new();
    for steps in [
        &[][..],
        &["trim"],
        &["nfkc"],
        &["lower"],
        &["email"],
        &["phone"],
        &["trim", "lower"],
        &["lower", "trim"],
        &["trim", "trim"],
    ] {
        for columns in 1..=3 {
            assert!(seen.insert(pipeline(steps).digest(columns)), "{steps:?} {columns}");
        }
    }
    // As another program computes it; neither step reads a table that changes.
    let start = Transcript::new("privet/psi/normalise/v1").number(2);
    let steps = ["trim", "phone"].iter().fold(start, |transcript, step| {
        transcript.bytes(step.as_bytes()).number(1).bytes(&[0, 0, 0])
    });
    assert_eq!(pipeline(&["trim", "phone"]).digest(2), steps.finish());
}

/// Characters that steps treat each in its own way.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let hard =
        "aZ@.+0019() -/\t\u{a0}\u{3000}´ﬁ１＋＠．İıßſΣσςϴ𝐀é\u{301}\u{307}\u{345}\u{323}ﷺK".chars();
    let hard = proptest::sample::select(hard.collect::<Vec<_>>());
    let text = vec(prop_oneof![9 => hard, 1 => any::<char>()], 0..12);
    let text = text.prop_map(|text| text.into_iter().collect::<String>().into_bytes());
    prop_oneof![5 => text, 1 => vec(any::<u8>(), 0..12)]
}

fn any_pipeline() -> impl Strategy<Value = Pipeline> {
    vec(proptest::sample::select(Step::ALL.map(Step::name).to_vec()), 0..5)
        .prop_map(|names| Pipeline::parse(&names).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn what_is_normalised_stays(pipeline in any_pipeline(), field in nasty()) {
        let once = pipeline.apply(&field).into_owned();
        prop_assert_eq!(&*pipeline.apply(&once), &once[..]);
    }
}

#[test]
fn every_character_normalised_stays() {
    let pipelines =
        [&["lower", "nfkc"][..], &["nfkc", "lower"], &["email", "nfkc"], &["nfkc", "phone"]];
    for pipeline in pipelines.map(pipeline) {
        // Beyond, only these have anything to normalise.
        for c in ('\0'..'\u{20000}').chain('\u{2f800}'..'\u{2fa20}') {
            for field in [format!("{c}"), format!("X{c}\u{301}\u{345}")] {
                let once = pipeline.apply(field.as_bytes()).into_owned();
                assert_eq!(&*pipeline.apply(&once), once, "{pipeline} {c:?}");
            }
        }
    }
}

#[test]
fn keys_of_other_splittings_differ() {
    let keys = digests("x,y\nab,c\na,bc\nabc,\n,abc\n", &["x", "y"]);
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), 4);
    // One column of the same bytes is another key, and so are the columns in another order.
    assert!(!keys.contains(&digests("x\nabc\n", &["x"])[0]));
    let turned = digests("x,y\nab,c\n", &["y", "x"]);
    assert_eq!(turned, digests("x,y\nc,ab\n", &["x", "y"]));
    assert!(!keys.contains(&turned[0]));
}

proptest! {
    #[test]
    fn keys_are_equal_where_fields_are(
        a in vec(vec(0u8..3, 0..4), 2), b in vec(vec(0u8..3, 0..4), 2),
    ) {
        let text = |field: &[u8]| field.iter().map(|&byte| char::from(b'a' + byte)).collect::<String>();
        let row = |row: &[Vec<u8>]| format!("{},{}\n", text(&row[0]), text(&row[1]));
        let keys = digests(format!("x,y\n{}{}", row(&a), row(&b)), &["x", "y"]);
        let some = [&a, &b].into_iter().filter(|row| row.concat() != b"").collect::<HashSet<_>>();
        prop_assert_eq!(keys.len(), some.len());
    }
}

#[test]
fn a_key_is_hashed_as_described() {
    let mut bytes = 2u64.to_le_bytes().to_vec();
    for field in ["ann@example.com", "3"] {
        bytes.extend((field.len() as u64).to_le_bytes());
        bytes.extend(field.as_bytes());
    }
    let file = "x,y,z\n Ann@example.com,a,3\n";
    let items = Case::new("a.csv", file, &["x", "z"], &["email"]).read().unwrap();
    assert_eq!(firsts(&items), [(0, blake3::derive_key("privet/psi/item/v1", &bytes))]);
}

#[test]
fn files_of_all_makes_are_one() {
    let expected = digests("id,n\nann,1\nbob,2\n", &["id"]);
    let made: [(&str, &str); 7] = [
        ("a.csv", "\u{feff}id,n\nann,1\nbob,2\n"),
        ("a.csv", "\u{feff}\"id\",\"n\"\r\n\"ann\",1\r\n\"bob\",2"),
        ("a.csv", "\r\nid,n\r\n\r\nann,1\r\nbob,2\r\n\r\n"),
        ("a.TSV", "n\tid\n\"1\t1\"\tann\n2\tbob\n"),
        ("a.tab", "id\tn\nann\t1,1\nbob\t2\n"),
        ("a", "id,n\rann,1\rbob,2\r"),
        ("a.txt", "id,n\nann,\"one\nand \"\"a half\"\"\"\nbob,\n"),
    ];
    for (name, content) in made {
        let items = Case::new(name, content, &["id"], &[]).read().unwrap();
        assert_eq!(firsts(&items), [(0, expected[0]), (1, expected[1])], "{content:?}");
    }
    // Delimiters, quotes and line ends in a key.
    let hard = digests("id\n\"a,\"\"b\"\"\r\nc\"\n", &["id"]);
    let bytes = [&1u64.to_le_bytes()[..], &10u64.to_le_bytes(), b"a,\"b\"\r\nc"].concat();
    let short = [&1u64.to_le_bytes()[..], &8u64.to_le_bytes(), b"a,\"b\"\r\nc"].concat();
    assert_ne!(hard, [blake3::derive_key("privet/psi/item/v1", &bytes)]);
    assert_eq!(hard, [blake3::derive_key("privet/psi/item/v1", &short)]);
}

#[test]
fn duplicates_and_blanks_are_counted() {
    let content = "x,y\nA,1\na,2\n,3\nb,4\n \t,5\nA ,6\n";
    let mut case = Case::new("a.csv", content, &["x"], &["trim", "lower"]);
    let items = case.read().unwrap();
    let rows: Vec<u64> = firsts(&items).iter().map(|(row, _)| *row).collect();
    assert_eq!((items.count, &rows[..]), (2, &[0, 3][..]));
    assert_eq!((items.duplicates, items.blank), (2, 2));
    // The first row of a key stands for all.
    assert_eq!(case.written(&items, &[true, true]), b"x,y\nA,1\nb,4\n");

    case.source.duplicates = Duplicates::Refuse;
    assert_eq!(case.read().unwrap_err(), InputError::Duplicates { count: 2 });
    case.source.columns.push("y".into());
    let items = case.read().unwrap();
    // A key of which one field is there is no blank one.
    assert_eq!((items.count, items.duplicates, items.blank), (6, 0, 0));
}

#[test]
fn a_header_alone_has_no_items() {
    for content in ["id,n", "id,n\n", "\u{feff}id,n\r\n"] {
        let case = Case::new("ids", content, &["id"], &[]);
        let items = case.read().unwrap();
        assert_eq!((items.count, items.duplicates, items.blank), (0, 0, 0));
        assert_eq!(case.written(&items, &[]), b"id,n\n");
    }
    for content in ["", "\n\r\n", "\u{feff}"] {
        let case = Case::new("ids", content, &["id"], &[]);
        assert_eq!(case.read().unwrap_err(), InputError::NoHeader, "{content:?}");
    }
}

#[test]
fn columns_are_there_once() {
    let error = |columns: &[&str]| {
        let case = Case::new("a.csv", "e-mail,n,n\na,b,c\n", columns, &[]);
        case.read().unwrap_err()
    };
    assert_eq!(error(&[]), InputError::NoColumn);
    let column = "n".to_owned();
    assert_eq!(error(&["n", "n"]), InputError::AmbiguousColumn { column });
    let column = "e-mail".to_owned();
    assert_eq!(error(&["e-mail", "e-mail"]), InputError::SameColumnTwice { column });
    let missing = error(&["Email"]);
    let said = "the data file has no column `Email` among its 3; did you mean `e-mail`?";
    assert_eq!(missing.to_string(), said);
    let said = "the data file has no column `postcode` among its 3; \
                its first line must name the columns";
    assert_eq!(error(&["postcode"]).to_string(), said);
}

#[test]
fn a_ragged_row_is_named_by_its_line() {
    for (content, line) in [
        ("a,b\n1,2\n3\n", 3),
        ("a,b\r\n1,2\r\n3,4,5\r\n", 3),
        ("a,b\r1,2\r3\r", 3),
        ("a,b\n\n\n1,2\n\n\n3", 7),
        ("a,b\n\"1\n\n\",2\n3\n", 5),
        ("\u{feff}a,b\n1\n", 2),
    ] {
        let case = Case::new("a.csv", content, &["a"], &[]);
        assert_eq!(case.read().unwrap_err(), InputError::Ragged { line }, "{content:?}");
    }
}

#[test]
fn an_open_quote_is_named_by_its_line() {
    for (content, line) in [
        ("id,n\nann,1\n\ncy,\"2\nbob,3\n", 4),
        ("id,n\r\nann,\"", 2),
        ("id,n\nann,\"1\"\"", 2),
        ("id,\"n\nann,1", 1),
    ] {
        let case = Case::new("a.csv", content, &["id"], &[]);
        assert_eq!(case.read().unwrap_err(), InputError::OpenQuote { line }, "{content:?}");
    }
    for end in ["", "\n", "\r\n", "\r", "\n\n\n"] {
        let keys = digests(format!("n,id\n1,\"a\n\n\"{end}"), &["id"]);
        assert_eq!(keys, digests("id\n\"a\n\n\"\n", &["id"]), "{end:?}");
    }
}

#[test]
fn too_many_keys_are_refused() {
    let case = Case::new("a.csv", "a\n1\n2\n2\n3\n", &["a"], &[]);
    assert_eq!(case.source.read_at_most(3, &scratch(), &mut |_| {}).unwrap().count, 3);
    let refused = case.source.read_at_most(2, &scratch(), &mut |_| {}).unwrap_err();
    assert_eq!(refused, InputError::TooMany);
}

#[test]
fn progress_ends_at_the_size_of_the_file() {
    let content = format!("a\n{}", "some words,\"to fill\"\n".replace(',', " ").repeat(200_000));
    let case = Case::new("a.csv", &content, &["a"], &[]);
    let mut told = Vec::new();
    case.source.read(&scratch(), &mut |bytes| told.push(bytes)).unwrap();
    assert!(told.is_sorted() && told.len() > content.len() >> 20, "{told:?}");
    assert_eq!(told.last(), Some(&(content.len() as u64)));
}

#[test]
fn rows_are_written_as_they_were() {
    let content = b"\xef\xbb\xbfid\tnote\nann\t\"a\tb\"\nb\xff\t\"say \"\"so\"\"\"\ncy\t\nd,\t1\n";
    let case = Case::new("a.tsv", content, &["id"], &["trim"]);
    let items = case.read().unwrap();
    let written = case.written(&items, &[true, true, false, true]);
    assert_eq!(written, b"id\tnote\nann\t\"a\tb\"\nb\xff\t\"say \"\"so\"\"\"\nd,\t1\n");
    assert_eq!(case.written(&items, &[false; 4]), b"id\tnote\n");
    // Nothing is left beside it.
    assert_eq!(std::fs::read_dir(case.folder.path()).unwrap().count(), 2);
}

proptest! {
    #[test]
    fn what_is_written_reads_as_the_matching_items(
        rows in vec((vec(any::<u8>(), 0..4), vec(0u8..128, 0..6), any::<bool>()), 0..30), tabs: bool,
    ) {
        let name = if tabs { "a.tsv" } else { "a.csv" };
        let delimiter = if tabs { b'\t' } else { b',' };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        writer.write_record(["note", "id"]).unwrap();
        for (id, note, _) in &rows {
            writer.write_record([note, id]).unwrap();
        }
        let case = Case::new(name, writer.into_inner().unwrap(), &["id"], &["trim", "lower"]);
        let items = case.read().unwrap();
        prop_assert_eq!(
            items.count + items.duplicates + items.blank, rows.len() as u64
        );
        let firsts = firsts(&items);
        let matching: Vec<bool> = firsts.iter().map(|(row, _)| rows[*row as usize].2).collect();
        let written = case.written(&items, &matching);

        let again = Case::new(name, &written, &["id"], &["trim", "lower"]);
        let kept = firsts.iter().zip(&matching).filter(|(_, matches)| **matches);
        let again: Vec<_> =
            super::tests::firsts(&again.read().unwrap()).into_iter().map(|of| of.1).collect();
        prop_assert_eq!(again, kept.map(|kept| kept.0.1).collect::<Vec<_>>());
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).from_reader(&written[..]);
        let fields = reader.byte_records().map(|record| {
            let record = record.unwrap();
            (record[1].to_vec(), record[0].to_vec())
        });
        let matching = firsts.iter().map(|(row, _)| &rows[*row as usize]).filter(|row| row.2);
        let matching = matching.map(|(id, note, _)| (id.clone(), note.clone()));
        prop_assert_eq!(fields.collect::<Vec<_>>(), matching.collect::<Vec<_>>());
    }
}

#[test]
fn a_changed_file_is_refused() {
    let case = Case::new("a.csv", "id\nann\nbob\n", &["id"], &[]);
    let items = case.read().unwrap();
    let matching = flags(&items, &[false, true]);
    let write = || case.source.write_rows(&items, &matching, &case.out());
    std::fs::write(case.out(), "before").unwrap();
    let modified = std::fs::metadata(&case.source.path).unwrap().modified().unwrap();
    std::fs::write(&case.source.path, "id\nann\n").unwrap();
    assert_eq!(write().unwrap_err(), InputError::Changed);
    // Where nothing but the rows can tell.
    let change = |content: &str| {
        std::fs::write(&case.source.path, content).unwrap();
        let file = std::fs::File::options().write(true).open(&case.source.path).unwrap();
        file.set_modified(modified).unwrap();
    };
    for changed in ["id\nann\neve\n", "id\nbob\nann\n", "id\nbob    \n", "id\nann\n\n\n\n\n"] {
        change(changed);
        assert_eq!(write().unwrap_err(), InputError::Changed, "{changed:?}");
    }
    assert_eq!(std::fs::read(case.out()).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(case.folder.path()).unwrap().count(), 2);
    change("id\ncyn\nbob\n");
    assert_eq!(write().unwrap(), 1);
    assert_eq!(std::fs::read(case.out()).unwrap(), b"id\nbob\n");
}

#[test]
fn what_cannot_be_written_is_refused() {
    let case = Case::new("a.csv", "id\nann\n", &["id"], &[]);
    let items = case.read().unwrap();
    let write = |matching: &[bool], out: PathBuf| {
        case.source.write_rows(&items, &matching.iter().copied().collect(), &out)
    };
    let same = case.folder.path().join(".").join("a.csv");
    assert_eq!(write(&[true], same).unwrap_err(), InputError::SameFile);
    let error = write(&[true, true], case.out()).unwrap_err();
    assert_eq!(error, InputError::Answers { items: 1, answers: 2 });
    let nowhere = case.folder.path().join("none").join("out");
    let kind = std::io::ErrorKind::NotFound;
    assert_eq!(write(&[true], nowhere).unwrap_err(), InputError::Unwritable { kind });
    std::fs::remove_file(&case.source.path).unwrap();
    assert_eq!(write(&[true], case.out()).unwrap_err(), InputError::Unreadable { kind });
    assert_eq!(case.read().unwrap_err(), InputError::Unreadable { kind });
}

#[test]
fn nothing_tells_a_field() {
    let id = "s3cret";
    let told = |case: &Case| {
        let error = case.read().unwrap_err();
        for text in [format!("{error}"), format!("{error:?}"), format!("{error:#?}")] {
            assert!(!text.contains(id), "{text}");
            assert!(!text.contains(case.folder.path().to_str().unwrap()), "{text}");
        }
    };
    told(&Case::new("a.csv", format!("id,n\n{id},1\n{id}\n"), &["id"], &[]));
    told(&Case::new("a.csv", format!("id,n\n{id},1\n{id},2\n"), &["no"], &[]));
    let mut twice = Case::new("a.csv", format!("id,n\n{id},1\n{id},2\n"), &["id"], &[]);
    let items = twice.read().unwrap();
    assert_eq!(format!("{items:?}"), "Items { 1 items, 1 duplicates, 0 blank }");
    twice.source.duplicates = Duplicates::Refuse;
    told(&twice);
    std::fs::remove_file(&twice.source.path).unwrap();
    told(&twice);
    let matching = [true].into_iter().collect();
    let error = twice.source.write_rows(&items, &matching, &twice.out()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(id));
}

/// `cargo test -p privet-psi input -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn reading_a_million_rows() {
    let mut content = String::from("id,n\n");
    for i in 0..1 << 20 {
        content.push_str(&format!("user{i:07}@example.com,{}\n", i % 10));
    }
    for steps in [&[][..], &["email"], &["trim", "nfkc", "lower"]] {
        let case = Case::new("a.csv", &content, &["id"], steps);
        for _ in 0..3 {
            let start = std::time::Instant::now();
            let scratch = Scratch::within(case.folder.path());
            let items = case.source.read(&scratch, &mut |_| {}).unwrap();
            println!("{steps:?}: {:?}", start.elapsed());
            assert_eq!(items.count, 1 << 20);
        }
    }
}

/// Rows are in one of both files: a common key's first row in the one, all rows of other keys in the other.
#[test]
fn other_rows_are_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "id,n\na,1\nb,2\na,3\n,4\nb,5\nc,6\n").unwrap();
    let (columns, duplicates) = (vec!["id".to_owned()], Duplicates::Dedupe);
    let source = Source { path, columns, pipeline: Pipeline::default(), duplicates };
    let items = source.read(&scratch(), &mut |_| ()).unwrap();
    let out = folder.path().join("out");
    let matching = flags(&items, &[true, false, true]);
    assert_eq!(source.write_rows(&items, &matching, &out), Ok(2));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "id,n\na,1\nc,6\n");
    assert_eq!(source.write_rest(&items, &matching, &out), Ok(3));
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "id,n\nb,2\n,4\nb,5\n");
    assert!(source.write_rest(&items, &Flags::new(2), &out).is_err());
}
