//! A wish for a node: it means the same when it has been written down and read again.
#![no_main]

use wharf_plan::Expression;

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (wish, value) = input;
    let Ok(expression) = Expression::parse(wish) else { return };
    let holds = expression.holds([value].into_iter());
    let again = Expression::parse(&expression.to_string()).expect("what is written can be read");
    assert_eq!(again.holds([value].into_iter()), holds);
});
