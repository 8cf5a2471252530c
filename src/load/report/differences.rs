//! The settings in which two plans differ.

use serde_json::Value;

use super::super::plan::Plan;

/// Each setting that differs, with both values, except settings that may differ. Their names are as in JSON:
/// `pace.rate` is the rate of an open loop.
pub(super) fn differences(one: &Plan, other: &Plan, allowed: &[&str]) -> Vec<String> {
    let (one, other) = (settings(one), settings(other));
    let names = one.iter().map(|(name, _)| name);
    let added = other.iter().map(|(name, _)| name).filter(|name| one.iter().all(|(known, _)| known != *name));
    let value = |settings: &[(String, Value)], name: &String| {
        settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_string())
    };
    let text = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    names
        .chain(added)
        .filter(|name| !allowed.contains(&name.as_str()))
        .filter_map(|name| {
            let (left, right) = (value(&one, name), value(&other, name));
            (left != right).then(|| format!("{name}: {} and {}", text(left), text(right)))
        })
        .collect()
}

/// The settings by name; the loop and its figures side by side.
fn settings(plan: &Plan) -> Vec<(String, Value)> {
    let Ok(Value::Object(settings)) = serde_json::to_value(plan) else { return Vec::new() };
    let mut flat = Vec::new();
    for (name, value) in settings {
        match (name.as_str(), value) {
            ("pace", Value::Object(pace)) => {
                for (kind, figures) in pace {
                    flat.push(("pace".into(), kind.into()));
                    let Value::Object(figures) = figures else { continue };
                    flat.extend(figures.into_iter().map(|(name, value)| (format!("pace.{name}"), value)));
                }
            }
            (_, value) => flat.push((name, value)),
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{Arrivals, Pace};
    use super::*;

    #[test]
    fn settings_that_differ_are_named_with_both_values() {
        let plan = Plan::new(vec![":7".parse().expect("an endpoint")]);
        let open = |rate| Plan { pace: Pace::Open { rate, arrivals: Arrivals::Fixed }, ..plan.clone() };
        assert_eq!(differences(&plan, &Plan { seed: 9, ..plan.clone() }, &["seed"]), [""; 0]);
        assert_eq!(differences(&plan, &Plan { depth: 4, ..plan.clone() }, &["seed"]), ["depth: 1 and 4"]);
        assert_eq!(differences(&open(1.0), &open(2.0), &["pace.rate"]), [""; 0]);
        assert_eq!(differences(&open(1.0), &open(2.0), &[]), ["pace.rate: 1.0 and 2.0"]);
        let kinds = differences(&plan, &open(2.0), &["pace.rate", "pace.arrivals", "pace.think_s"]);
        assert_eq!(kinds, ["pace: \"closed\" and \"open\""]);
    }
}
