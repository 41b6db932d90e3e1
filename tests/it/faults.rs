//! Bad input and broken peers: what the gateway answers, what it closes, and what reaches nobody.
//!
//! `faults/rows.json` lists what can go wrong by number. Raw bytes stand there, and `make differential`
//! sends the same ones to other proxies; what takes more than bytes names the tests that do it.

mod machine;
mod peers;
mod recorder;
mod rows;
mod signed;

use std::collections::HashSet;

#[tokio::test]
async fn row_01_a_length_and_chunks() {
    rows::run(1).await;
}

#[tokio::test]
async fn row_02_forms_of_content_length() {
    rows::run(2).await;
}

#[tokio::test]
async fn row_03_forms_of_transfer_encoding() {
    rows::run(3).await;
}

#[tokio::test]
async fn row_04_chunks_that_are_not() {
    rows::run(4).await;
}

#[tokio::test]
async fn row_05_trailers() {
    rows::run(5).await;
}

#[tokio::test]
async fn row_06_heads_that_are_not() {
    rows::run(6).await;
}

#[tokio::test]
async fn row_07_heads_without_measure() {
    rows::run(7).await;
}

#[tokio::test]
async fn row_08_hosts() {
    rows::run(8).await;
}

#[tokio::test]
async fn row_09_paths() {
    rows::run(9).await;
}

#[tokio::test]
async fn row_10_methods() {
    rows::run(10).await;
}

#[tokio::test]
async fn row_11_an_upgrade_skips_nothing() {
    rows::run(11).await;
}

#[tokio::test]
async fn row_12_upgrades_that_carry_something() {
    rows::run(12).await;
}

#[tokio::test]
async fn row_14_what_connection_names() {
    rows::run(14).await;
}

#[tokio::test]
async fn row_15_names_of_ours_from_outside() {
    rows::run(15).await;
}

#[tokio::test]
async fn row_20_bodies_that_are_cut_or_too_long() {
    rows::run(20).await;
}

#[test]
fn every_row_has_cases_or_a_test_that_is_there_or_a_reason() {
    let tests = crate::tidy::functions();
    let rows = rows::table().rows;
    let numbers: Vec<u8> = rows.iter().map(|row| row.row).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<u8>>());
    for row in rows {
        let (number, what) = (row.row, row.what);
        let later = row.later.as_ref().is_some_and(|why| !why.is_empty());
        assert!(later || !row.cases.is_empty() || !row.held_by.is_empty(), "row {number}, {what}");
        let missing: Vec<_> = row.held_by.iter().filter(|test| !tests.contains(test.as_str())).collect();
        assert!(missing.is_empty(), "row {number} names tests that are not there: {missing:?}");
        let prefix = format!("row_{number:02}_");
        let has_test = tests.iter().any(|test| test.starts_with(&prefix));
        assert!(row.cases.is_empty() || has_test, "the cases of row {number} are never sent");
    }
}

#[test]
fn no_two_cases_of_a_row_have_one_name() {
    for row in rows::table().rows {
        let names: HashSet<&str> = row.cases.iter().map(rows::Case::name).collect();
        assert_eq!(names.len(), row.cases.len(), "row {}", row.row);
    }
}
