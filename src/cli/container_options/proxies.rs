//! The variables of proxies that docker's config.json gives to containers.
//!
//! Not here: reading that file (`registry`).

/// Puts proxies before what is set otherwise: each in both spellings, unless the same name is set.
pub fn with_proxies(proxies: &[(&'static str, String)], env: Vec<String>) -> Vec<String> {
    let name_of = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = env.iter().map(|entry| name_of(entry)).collect();
    let both =
        proxies.iter().flat_map(|(name, value)| [(name.to_string(), value), (name.to_lowercase(), value)]);
    let ours = both.filter(|(name, _)| !set.contains(name)).map(|(name, value)| format!("{name}={value}"));
    ours.collect::<Vec<_>>().into_iter().chain(env).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_where_nobody_says_otherwise() {
        let check = |env: &[&str], expect: &[&str]| {
            let env = env.iter().map(|&entry| entry.to_owned()).collect();
            assert_eq!(with_proxies(&[("HTTP_PROXY", "http://p".to_owned())], env), expect);
        };
        check(&[], &["HTTP_PROXY=http://p", "http_proxy=http://p"]);
        check(&["A=1"], &["HTTP_PROXY=http://p", "http_proxy=http://p", "A=1"]);
        check(&["http_proxy="], &["HTTP_PROXY=http://p", "http_proxy="]);
        check(&["HTTP_PROXY"], &["http_proxy=http://p", "HTTP_PROXY"]);
    }
}
