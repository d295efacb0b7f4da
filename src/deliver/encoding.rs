//! Which coding of a playlist or page a client takes (RFC 9110 §12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// The client takes gzip, and does not prefer the plain bytes to it.
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut gzip = None;
    let mut identity = None;
    let mut any = None;
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let (coding, weight) = match item.split_once(';') {
            Some((coding, parameter)) => (coding.trim(), weight(parameter)),
            None => (item.trim(), Some(1000)),
        };
        // A weight that can't be read is no permission.
        let weight = weight.unwrap_or(0);
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(gzip.unwrap_or(0).max(weight));
        } else if coding.eq_ignore_ascii_case("identity") {
            identity = Some(weight);
        } else if coding == "*" {
            any = Some(weight);
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// Thousandths from `q=0.5` (§12.4.2: up to three decimals, 0 to 1).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn takes(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        takes_gzip(&headers)
    }

    /// RFC 9110 §12.5.3, A5 (H.GZIP).
    #[test]
    fn weights_are_honoured() {
        for (value, expected) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("X-GZIP ; Q=0.001", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("*, gzip;q=0", false),
            ("*;q=0", false),
            ("identity", false),
            ("identity, gzip;q=0.5", false),
            ("identity;q=0.5, gzip;q=0.5", true),
            ("identity;q=0, gzip", true),
            ("br", false),
            ("", false),
            ("gzipped", false),
            ("gzip;q=2", false),
            ("gzip;q=0.0001", false),
            ("gzip;level=9", false),
        ] {
            assert_eq!(takes(&[value]), expected, "{value:?}");
        }
        assert!(!takes(&[]));
        assert!(takes(&["br", "gzip"]));
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "[ -~]{0,60}") {
            takes(&[&text]);
        }

        /// Among codings that are not ours, gzip decides by its own weight alone.
        #[test]
        fn others_do_not_matter(others in proptest::collection::vec("(br|deflate|zstd)(;q=0\\.[0-9])?", 0..4),
                                weight in 0u16..=1000) {
            let gzip = format!("gzip;q={}.{:03}", weight / 1000, weight % 1000);
            let mut list = others;
            list.insert(list.len() / 2, gzip);
            prop_assert_eq!(takes(&[&list.join(", ")]), weight > 0);
        }
    }
}
