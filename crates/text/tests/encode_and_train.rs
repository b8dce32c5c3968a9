//! The crate from outside: training against the plain algorithm, threads against one thread, hostile and wrong input.

use groundup_text::{Encoder, MergeRule, Pattern, Spec, TrainOptions, Trained, Trainer, Vocab};
use std::collections::HashMap;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

const PATTERNS: [Pattern; 6] = [Pattern::Gpt2, Pattern::Cl100k, Pattern::Cl100kTail, Pattern::Qwen2, Pattern::O200k, Pattern::Whole];

fn random_text(random: &mut Random, length: usize) -> String {
    let pieces = [
        "a", "b", "the", "S", "T", " ", " ", "  ", "\n", "\r\n", "\t", "'", "'s", "'LL", "1", "42", ".", "/", "é", "ſ", "語", "\u{301}",
        "½", "\u{a0}", "🙂",
    ];
    (0..length).map(|_| pieces[random.below(pieces.len())]).collect()
}

fn train(text: &str, pattern: Pattern, vocab_size: usize, threads: usize) -> Trained {
    let mut trainer = Trainer::new(pattern);
    trainer.feed(text.as_bytes(), &[text.len()], threads).unwrap();
    trainer.finish(&TrainOptions { vocab_size, min_frequency: 0, specials: vec![] }).unwrap()
}

fn encoder(trained: &Trained, pattern: Pattern) -> Encoder {
    let lengths: Vec<i32> = trained.tokens.iter().map(|t| t.len() as i32).collect();
    let merges: Vec<i32> = trained.merges.iter().flatten().map(|&id| id as i32).collect();
    let spec =
        Spec { bytes: &trained.tokens.concat(), lengths: &lengths, merges: MergeRule::Listed(&merges), hidden: &[], whole_words: false };
    Encoder::new(Vocab::new(spec).unwrap(), pattern)
}

/// Algorithm 1 of Sennrich et al. as it stands in the paper: count all pairs anew for each merge.
fn plain_training(words: &HashMap<Vec<u32>, i64>, steps: usize) -> Vec<[u32; 2]> {
    let mut words: Vec<(Vec<u32>, i64)> = words.iter().map(|(w, c)| (w.clone(), *c)).collect();
    let mut merges = Vec::new();
    for step in 0..steps {
        let mut counts: HashMap<[u32; 2], i64> = HashMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                *counts.entry([pair[0], pair[1]]).or_default() += count;
            }
        }
        let Some((&pair, _)) = counts.iter().max_by_key(|(pair, count)| (**count, std::cmp::Reverse(**pair))) else { break };
        merges.push(pair);
        for (word, _) in &mut words {
            let mut i = 0;
            while i + 1 < word.len() {
                if word[i..i + 2] == pair {
                    word[i] = 256 + step as u32;
                    word.remove(i + 1);
                }
                i += 1;
            }
        }
    }
    merges
}

#[test]
fn training_equals_the_plain_algorithm() {
    let mut random = Random(3);
    for round in 0..20 {
        // Few merges of one-letter words: no string is made in two ways yet, where the two would number tokens apart.
        let text: String = (0..400).map(|_| ["ab", "abc", "bca", "cab", "aab", "cc"][random.below(6)].to_string() + " ").collect();
        let trained = train(&text, Pattern::Gpt2, 256 + 12, 1 + round % 3);
        let byte_ids: HashMap<u8, u32> = trained.tokens[..256].iter().enumerate().map(|(id, t)| (t[0], id as u32)).collect();
        let mut words: HashMap<Vec<u32>, i64> = HashMap::new();
        for (i, word) in text.trim_end().split(' ').enumerate() {
            let spelled = if i == 0 { word.to_string() } else { format!(" {word}") };
            *words.entry(spelled.bytes().map(|b| byte_ids[&b]).collect()).or_default() += 1;
        }
        let expected = plain_training(&words, trained.merges.len());
        let distinct: std::collections::HashSet<_> = trained.tokens.iter().collect();
        assert_eq!(distinct.len(), trained.tokens.len());
        if trained.tokens.len() == 256 + trained.merges.len() {
            assert_eq!(trained.merges, expected, "round {round}");
        }
    }
}

#[test]
fn ids_and_training_do_not_depend_on_threads_or_cutting() {
    let mut random = Random(8);
    let text = random_text(&mut random, 150_000) + &"word ".repeat(60_000);
    for pattern in PATTERNS {
        let trained = train(&text, pattern, 700, 1);
        assert_eq!(train(&text, pattern, 700, 3).merges, trained.merges, "{pattern:?}");
        let encoder = encoder(&trained, pattern);
        let one = encoder.encode(text.as_bytes(), &[text.len()], 1).unwrap();
        let three = encoder.encode(text.as_bytes(), &[text.len()], 3).unwrap();
        assert_eq!(one.parts.concat(), three.parts.concat(), "{pattern:?}");
        assert_eq!(one.counts, three.counts);
        assert_eq!(encoder.count(text.as_bytes(), &[text.len()], 2).unwrap(), one.counts);
        let ids: Vec<i32> = one.parts.concat().iter().map(|&id| id as i32).collect();
        assert_eq!(encoder.decode(&ids).unwrap(), text.as_bytes());
    }
}

#[test]
fn words_are_the_text_and_start_on_characters() {
    let mut random = Random(21);
    for _ in 0..2000 {
        let length = 1 + random.below(40);
        let text = random_text(&mut random, length);
        for pattern in PATTERNS {
            let mut at = 0;
            pattern.for_each_word(text.as_bytes(), |start, end| {
                assert!(start == at && end > start && text.is_char_boundary(end), "{pattern:?} {text:?} {start}..{end}");
                at = end;
            });
            assert_eq!(at, text.len());
        }
    }
}

#[test]
fn bytes_that_are_not_text_do_no_harm() {
    let mut random = Random(5);
    let trained = train("some text to train on, some more text", Pattern::Gpt2, 270, 1);
    for pattern in PATTERNS {
        let encoder = encoder(&trained, pattern);
        for _ in 0..500 {
            let bytes: Vec<u8> = (0..random.below(50)).map(|_| random.below(256) as u8).collect();
            let encoded = encoder.encode(&bytes, &[bytes.len()], 1).unwrap();
            let ids: Vec<i32> = encoded.parts.concat().iter().map(|&id| id as i32).collect();
            assert_eq!(encoder.decode(&ids).unwrap(), bytes);
        }
    }
}

#[test]
fn one_letter_costs_linear_time() {
    let trained = train(&"aaaaaaaaaaaaaaaa ".repeat(50), Pattern::Gpt2, 262, 1);
    let encoder = encoder(&trained, Pattern::Gpt2);
    let seconds = |n: usize| {
        let text = vec![b'a'; n];
        let start = std::time::Instant::now();
        assert!(encoder.encode(&text, &[n], 1).unwrap().total() < n);
        start.elapsed().as_secs_f64()
    };
    seconds(1 << 18);
    let (small, large) = (seconds(1 << 18), seconds(1 << 21));
    // Eight times the text; a quadratic method would take sixty-four times as long.
    assert!(large < small * 40.0 + 0.2, "{small} s, {large} s");
}

#[test]
fn wrong_vocabularies_and_arguments_are_refused() {
    let new = |bytes: &[u8], lengths: &[i32], merges: &[i32], hidden: &[i32]| {
        Vocab::new(Spec { bytes, lengths, merges: MergeRule::Listed(merges), hidden, whole_words: false })
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(new(b"ab", &[1, 2], &[], &[]).contains("token 1 has length 2"));
    assert!(new(b"ab", &[1, -1], &[], &[]).contains("length -1"));
    assert!(new(b"ab", &[1], &[], &[]).contains("add up to 1"));
    assert!(new(b"aa", &[1, 1], &[], &[]).contains("same bytes"));
    assert!(new(b"ab", &[1, 1], &[0, 1], &[]).contains("makes \"ab\""));
    assert!(new(b"ab", &[1, 1], &[0, 9], &[]).contains("names id 9"));
    assert!(new(b"ab", &[1, 1], &[0], &[]).contains("even count"));
    assert!(new(b"ab", &[1, 1], &[], &[7]).contains("id 7"));

    let trained = train("text", Pattern::Gpt2, 256, 1);
    let encoder = encoder(&trained, Pattern::Gpt2);
    assert!(encoder.decode(&[1, 256]).unwrap_err().to_string().contains("id 256 at place 1"));
    assert!(encoder.decode(&[-1]).is_err());
    assert!(encoder.encode(b"text", &[3], 1).is_err());
    assert!(encoder.encode(b"text", &[4, 3], 1).is_err());
    let trainer = Trainer::new(Pattern::Gpt2);
    assert!(trainer.finish(&TrainOptions { vocab_size: 255, min_frequency: 0, specials: vec![] }).is_err());
}

#[test]
fn hidden_tokens_are_decoded_but_never_made() {
    let spec = |hidden| Spec { bytes: b"abab", lengths: &[1, 1, 2], merges: MergeRule::Ranks, hidden, whole_words: true };
    let open = Encoder::new(Vocab::new(spec(&[])).unwrap(), Pattern::Gpt2);
    assert_eq!(open.encode(b"ab", &[2], 1).unwrap().parts.concat(), [2]);
    let closed = Encoder::new(Vocab::new(spec(&[2])).unwrap(), Pattern::Gpt2);
    assert_eq!(closed.encode(b"ab", &[2], 1).unwrap().parts.concat(), [0, 1]);
    assert_eq!(closed.decode(&[2, 0]).unwrap(), b"aba");
}
