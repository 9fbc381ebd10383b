//! The frame of a page: one file, no scripts, nothing loaded, light and dark, for keyboards and screen readers.
//!
//! Its content security policy allows its own style, by hash, and nothing else, so that even a mistake in
//! escaping could run and load nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::graph;
use super::text::escape;
use crate::image::Digest;

/// The style of all pages; colours have a contrast of 4.5 to 1 at least with what is under them.
const STYLE: &str = "\
:root{color-scheme:light dark;--text:#1b1f24;--soft:#57606a;--ground:#fff;--raised:#f6f8fa;--line:#d0d7de;\
--link:#0a58b8;--good:#1a6b30;--good-ground:#dcf5e1;--bad:#a3201a;--bad-ground:#ffe3e0;--note:#7a4d00;\
--note-ground:#fff1cf;--bar:#2f6fab;--bar-cached:#1f7a37;--bar-ground:#e3e8ee}\
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--soft:#a2acb7;--ground:#0d1117;--raised:#161b22;\
--line:#30363d;--link:#79b8ff;--good:#7ee294;--good-ground:#12351f;--bad:#ffa198;--bad-ground:#4a1613;\
--note:#f2cc60;--note-ground:#3d2e00;--bar:#6cb0ee;--bar-cached:#56c271;--bar-ground:#21262d}}\
*{box-sizing:border-box}\
body{margin:0;font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;color:var(--text);\
background:var(--ground)}\
main,header,footer{max-width:75rem;margin:0 auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:1.2rem 0 .3rem;overflow-wrap:anywhere}\
h2{font-size:1.2rem;margin:2rem 0 .6rem;padding-bottom:.2rem;border-bottom:1px solid var(--line)}\
h3{font-size:1rem;margin:1rem 0 .3rem}\
a{color:var(--link)}\
:focus-visible{outline:3px solid var(--link);outline-offset:2px}\
.skip{position:absolute;left:-999rem}.skip:focus{left:1rem;top:.5rem;background:var(--ground);padding:.3rem .6rem}\
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;margin:.6rem 0}\
code,pre,.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:.86rem;\
unicode-bidi:isolate}\
code,.code{overflow-wrap:anywhere}\
pre{background:var(--raised);border:1px solid var(--line);border-radius:6px;padding:.7rem;margin:.5rem 0;\
overflow:auto;max-height:32rem;white-space:pre-wrap;overflow-wrap:anywhere}\
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.6rem 0}\
dl.facts dt{color:var(--soft)}dl.facts dd{margin:0;min-width:0;overflow-wrap:anywhere}\
.cards{display:flex;flex-wrap:wrap;gap:.7rem;padding:0;margin:1rem 0;list-style:none}\
.cards li{background:var(--raised);border:1px solid var(--line);border-radius:8px;padding:.45rem .9rem;min-width:7rem}\
.cards b{display:block;font-size:1.25rem}\
.cards span{color:var(--soft);font-size:.86rem}\
.badge{display:inline-block;border-radius:1rem;padding:0 .6rem;font-size:.8rem;font-weight:600;white-space:nowrap;\
border:1px solid var(--line);color:var(--soft);background:var(--raised)}\
.badge.good{color:var(--good);background:var(--good-ground);border-color:var(--good)}\
.badge.bad{color:var(--bad);background:var(--bad-ground);border-color:var(--bad)}\
.box{border-left:4px solid var(--line);background:var(--raised);border-radius:0 6px 6px 0;padding:.4rem .9rem;\
margin:.6rem 0;overflow-wrap:anywhere}\
.box.bad{border-color:var(--bad);background:var(--bad-ground)}\
.box.note{border-color:var(--note);background:var(--note-ground)}\
.box p{margin:.2rem 0}\
.box pre{background:var(--ground)}\
.scroll{overflow:auto;max-height:85vh;border:1px solid var(--line);border-radius:6px}\
table{border-collapse:collapse;width:100%;font-size:.9rem}\
caption{text-align:left;color:var(--soft);padding:.2rem 0 .4rem}\
th,td{text-align:left;padding:.3rem .7rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
.wide{overflow-x:auto}\
th.n,td.n{text-align:right;white-space:nowrap}\
th.code{min-width:13rem}\
td.bar{width:40%;min-width:8rem;vertical-align:middle}\
svg.bar{display:block;width:100%;height:.8rem}\
svg.bar .ground{fill:var(--bar-ground)}svg.bar .full{fill:var(--bar)}svg.bar .cached{fill:var(--bar-cached)}svg.bar .note{fill:var(--note)}\
svg.bar .bad{fill:var(--bad)}\
details{border-bottom:1px solid var(--line)}\
summary{cursor:pointer;padding:.4rem 0;display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:baseline}\
summary::before{content:'\\25b8';color:var(--soft);width:.8rem}details[open]>summary::before{content:'\\25be'}\
summary::-webkit-details-marker{display:none}\
summary .text{flex:1 1 18rem;min-width:0;overflow-wrap:anywhere}\
summary .time{color:var(--soft);font-size:.86rem;white-space:nowrap;min-width:4.6rem;text-align:right}\
summary .badge{min-width:5rem;text-align:center}\
summary svg.bar{flex:0 1 14rem}\
.inside{padding:0 0 .8rem 1.6rem}\
.soft{color:var(--soft)}\
footer{color:var(--soft);font-size:.86rem;margin-top:2rem;padding-bottom:2rem;border-top:1px solid var(--line)}\
@media(max-width:40rem){dl.facts{grid-template-columns:1fr}dl.facts dd{margin-bottom:.4rem}.inside{padding-left:0}summary .time:empty{display:none}\
td.bar{min-width:5rem}}\
@media print{.scroll,pre{max-height:none}}";

/// A part of a page, for its table of contents.
pub struct Part {
    /// A word without blanks.
    pub id: &'static str,
    pub title: &'static str,
    pub html: String,
}

/// Makes a page of its parts; `head` is what stands above them. Parts without content are left out.
pub fn page(title: &str, head: &str, parts: &[Part]) -> String {
    let style = format!("{STYLE}{}", graph::STYLE);
    let hash = STANDARD.encode(Digest::of(&style).as_bytes());
    let parts: Vec<&Part> = parts.iter().filter(|part| !part.html.is_empty()).collect();
    let contents: String =
        parts.iter().map(|part| format!("<li><a href=\"#{}\">{}</a></li>", part.id, part.title)).collect();
    let body: String = parts
        .iter()
        .map(|part| {
            let Part { id, title, html } = part;
            format!("<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n{html}\n</section>\n")
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <header>\n{head}\n<nav aria-label=\"On this page\"><ul>{contents}</ul></nav>\n</header>\n\
         <main id=\"main\">\n{body}</main>\n\
         <footer><p>Made by rbuild {version}. This page is one file: it runs no scripts and loads nothing.</p></footer>\n\
         </body>\n</html>\n",
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Makes a number with its name, for the row of them at the top.
pub fn card(value: &str, name: &str) -> String {
    format!("<li><b>{}</b><span>{}</span></li>", escape(value), escape(name))
}

/// Makes a list of facts; `html` is markup already.
pub fn facts(rows: &[(&str, String)]) -> String {
    let row = |(name, html): &(&str, String)| format!("<dt>{}</dt><dd>{html}</dd>\n", escape(name));
    format!("<dl class=\"facts\">\n{}</dl>\n", rows.iter().map(row).collect::<String>())
}

/// Makes words of a program or a file stand out.
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_loads_and_runs_nothing() {
        let parts = [
            Part { id: "one", title: "One", html: "<p>text</p>".into() },
            Part { id: "none", title: "None", html: String::new() },
        ];
        let page = page("a <title>", "<h1>x</h1>", &parts);
        assert!(page.contains("<title>a &lt;title&gt;</title>") && page.contains("default-src 'none'"));
        assert!(page.contains("href=\"#one\"") && !page.contains("#none"));
        for nothing in [
            "<script",
            "<link",
            "<img",
            "http://",
            "https://",
            "@import",
            "url(",
            "style=\"",
            "unsafe-inline",
        ] {
            assert!(!page.contains(nothing), "{nothing}");
        }
    }

    #[test]
    fn the_style_is_the_one_that_is_allowed() {
        let page = page("", "", &[]);
        let style = page.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap();
        let hash = STANDARD.encode(Digest::of(style).as_bytes());
        assert!(page.contains(&format!("'sha256-{hash}'")));
    }
}
