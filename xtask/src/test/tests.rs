//! What the runners print, and what is counted of it.

use crate::test::tally::Tally;

fn check(lines: &str, passed: u64, failed: u64, ignored: u64, failures: &[&str]) {
    let mut tally = Tally::default();
    for line in lines.lines() {
        tally.read(line);
    }
    let failures = failures.iter().map(|name| (*name).to_owned()).collect();
    let wanted = Tally {
        passed,
        failed,
        ignored,
        failures,
    };
    assert_eq!(tally, wanted, "{lines}");
}

#[test]
fn cargos_own_runner_is_counted_over_all_its_binaries() {
    check(
        "running 3 tests\n\
         test id::sorts ... ok\n\
         test id::parses ... FAILED\n\
         test id::long ... ignored\n\
         failures:\n    id::parses\n\
         test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s\n\
         test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n",
        13,
        1,
        1,
        &["id::parses"],
    );
}

#[test]
fn nextest_is_counted_with_and_without_colours() {
    check(
        "        PASS [   0.005s] (1/3) proto id::sorts\n\
         \u{1b}[31;1m        FAIL\u{1b}[0m [   0.012s] (2/3) tests::it login::cross\n\
         \u{1b}[31;1m     TIMEOUT\u{1b}[0m [  60.012s] (3/3) tests::it login::slow\n\
         \u{1b}[31;1m     Summary\u{1b}[0m [  60.210s] 3 tests run: 1 passed (1 slow), 1 failed, 1 timed out, 2 skipped\n\
         \u{1b}[31;1m        FAIL\u{1b}[0m [   0.012s] (2/3) tests::it login::cross\n",
        1,
        2,
        2,
        &["tests::it login::cross", "tests::it login::slow"],
    );
}

#[test]
fn output_of_tests_counts_for_nothing() {
    check(
        "5 passed\ntest of the word FAILED\nSummary of nothing\n",
        0,
        0,
        0,
        &[],
    );
}
