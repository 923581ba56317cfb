use super::*;
use crate::budgets::SCOPES_MAX;

fn scope(pairs: &[(&str, &str)]) -> Scope {
    pairs.iter().map(|(dimension, name)| ((*dimension).to_owned(), vec![(*name).to_owned()])).collect()
}

#[test]
fn a_recorders_own_values_count_where_the_call_states_none() {
    let checker = Checker::new(false, [scope(&[("tag:team", "search")]), scope(&[("app", "web")])], []);
    let own = [("team".into(), "search".into())];
    let own = Defaults { app: "cron", tags: &own };
    let refuses = |call: CallScope<'_>| !checker.check(&call, &own).is_allowed();
    let call = CallScope::default();
    assert!(refuses(call));
    assert!(!refuses(CallScope { tags: &[("team", "ads")], ..call }));
    assert!(!refuses(CallScope { tags: &[("team", "")], ..call }), "the record has the tag, without a value");
    assert!(refuses(CallScope { app: "web", tags: &[("team", "ads")], ..call }));
    assert!(!refuses(CallScope { tags: &[("team", "ads"), ("app", "web")], ..call }), "it is of cron");
}

#[test]
fn numbers_are_compared_by_all_digits_and_other_text_is_above_every_amount() {
    use Ordering::{Equal, Greater, Less};
    for (a, b, order) in [
        ("0.52", "0.5200", Some(Equal)),
        ("00.5", ".5", Some(Equal)),
        ("9", "10", Some(Less)),
        ("10.05", "10.5", Some(Less)),
        ("0.100000000000000002", "0.100000000000000001", Some(Greater)),
        ("1e-7", "1", None),
        ("-1", "1", None),
        (".", "1", None),
        ("1.2.3", "1", None),
    ] {
        assert_eq!(compare(a, b), order, "{a} {b}");
    }
    let checker = Checker::new(false, [], [(Scope::new(), "1000".to_owned())]);
    let decision = |estimate| checker.check(&CallScope { estimate, ..CallScope::default() }, &Defaults::default());
    assert!(decision("").is_allowed() && decision("1000").is_allowed());
    assert_eq!(
        decision("1e-7").into_result().unwrap_err().to_string(),
        "the budget of all spend has 1000 USD left, and the call may cost 1e-7 USD"
    );
}

#[test]
fn each_of_many_scopes_is_found_also_one_with_many_names() {
    let many: Vec<String> = (0..300).map(|n| format!("m-{n}")).collect();
    let long = Scope::from([("model".to_owned(), many), ("user".to_owned(), vec!["u".to_owned()])]);
    let pair = |n: usize| scope(&[("tag:team", &format!("t-{}", n % 10)), ("model", &format!("m-{n}"))]);
    let checker = Checker::new(false, (0..SCOPES_MAX).map(pair).chain([long]), []);
    for n in 0..SCOPES_MAX {
        let refuses = |team: usize, user_id| {
            let (model, team) = (format!("m-{n}"), format!("t-{team}"));
            let call = CallScope { model: &model, user_id, tags: &[("team", &team)], ..CallScope::default() };
            !checker.check(&call, &Defaults::default()).is_allowed()
        };
        assert!(refuses(n % 10, "") && !refuses((n + 1) % 10, ""), "{n}");
        assert_eq!(refuses(11, "u"), n < 300, "{n}");
    }
}
