//! Reads what the tests of the pages need out of Markdown: links, headings, code, and the commands in it.

use std::collections::{BTreeSet, HashMap};

/// The lines outside of code blocks.
fn prose(page: &str) -> String {
    let mut inside = false;
    let outside = page.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// What stands between backticks.
pub(super) fn quoted(page: &str) -> Vec<String> {
    prose(page).split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of links and pictures.
pub(super) fn links(page: &str) -> Vec<String> {
    // A code span may hold brackets.
    let text: String = prose(page).split('`').step_by(2).collect::<Vec<_>>().join("code");
    let pictures = text.split("src=\"").skip(1).filter_map(|rest| rest.split_once('"'));
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    links.chain(pictures).map(|(target, _)| target.to_owned()).collect()
}

/// The places of a page that a link may name: its headings, as forges and mdBook name them, and what has an id.
pub(super) fn anchors(page: &str) -> BTreeSet<String> {
    let text = prose(page);
    let mut seen = HashMap::<String, usize>::new();
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let mut found: BTreeSet<String> = headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            let name = kept.collect::<String>().to_lowercase().replace(' ', "-");
            let times = seen.entry(name.clone()).or_default();
            *times += 1;
            if *times == 1 { name } else { format!("{name}-{}", *times - 1) }
        })
        .collect();
    found.extend(text.split("id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned()));
    found
}

/// The code blocks in any of these languages.
pub(super) fn blocks(page: &str, languages: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    let mut inside = false;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            if let Some(block) = block.take() {
                found.push(block.join("\n"));
            }
            inside = !inside;
            block = (inside && languages.contains(&language.trim())).then(Vec::new);
        } else if let Some(block) = &mut block {
            block.push(line);
        }
    }
    found
}

/// The commands of natter in a shell block, in words: whatever stands before them, in them and behind them.
pub(super) fn shell_commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let console = joined.lines().any(|line| line.starts_with("$ "));
    let said = joined.lines().filter_map(|line| if console { line.strip_prefix("$ ") } else { Some(line) });
    let said = said.map(|line| line.split(" # ").next().unwrap_or_default().trim().to_owned());
    said.filter(|line| !line.starts_with('#')).flat_map(|line| commands_of(&line)).collect()
}

fn commands_of(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut line = line.to_owned();
    // What a command puts into another one; the other one gets a word that may also be a number.
    while let Some((before, rest)) = line.split_once("$(") {
        let (inner, after) = rest.split_once(')').unwrap_or((rest, ""));
        found.extend(commands_of(inner));
        line = format!("{before}1{after}");
    }
    for part in parts(&line) {
        let words = part.iter().skip_while(|word| word.contains('=') || *word == "export").cloned().collect::<Vec<_>>();
        let behind = words.iter().position(|word| word == "natter").filter(|at| {
            let runs_in = words[0] == "docker" || *at > 0 && words[at - 1] == "--";
            *at == 0 || runs_in
        });
        found.extend(behind.map(|at| words[at..].to_vec()));
    }
    found
}

/// The words of each command of a line: quotes taken off, redirections left out.
fn parts(line: &str) -> Vec<Vec<String>> {
    let mut parts = vec![vec![String::new()]];
    let (mut quote, mut ended) = (None, false);
    for c in line.chars() {
        let words = parts.last_mut().unwrap();
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('|' | '&' | ';', None) => {
                ended = false;
                parts.push(vec![String::new()]);
            }
            ('>' | '<', None) => ended = true,
            (' ', None) => words.push(String::new()),
            _ if ended => {}
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    parts.iter_mut().for_each(|words| words.retain(|word| !word.is_empty()));
    parts.into_iter().filter(|words| !words.is_empty()).collect()
}

#[test]
fn markdown_is_read() {
    let page = "# One, `two`\n[a](b.md#c) `[no](link)`\n```sh\nX=1 natter dev --json | jq . > x # natter nothing\n[no](x)\n```\n# One, `two`";
    assert_eq!(links(page), ["b.md#c"]);
    assert_eq!(anchors(page).into_iter().collect::<Vec<_>>(), ["one-two", "one-two-1"]);
    assert_eq!(quoted(page)[1], "[no](link)");
    let block = &blocks(page, &["sh"])[0];
    assert_eq!(shell_commands(block), [["natter", "dev", "--json"]]);
    assert_eq!(
        shell_commands("T=$(natter token a)\nkubectl x -- natter doctor"),
        [vec!["natter", "token", "a"], vec!["natter", "doctor"]]
    );
    assert_eq!(shell_commands("$ natter drain n1\nnatter says"), [["natter", "drain", "n1"]]);
}
