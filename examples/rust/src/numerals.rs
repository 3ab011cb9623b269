use std::fmt;

const SIGNS: [(u16, &str); 13] = [
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
];

#[derive(Debug, PartialEq)]
pub struct NotRoman;

impl fmt::Display for NotRoman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the Romans counted from 1 to 3999")
    }
}

pub fn roman(number: &str) -> Result<String, NotRoman> {
    let mut rest = number.parse::<u16>().map_err(|_| NotRoman)?;
    if !(1..4000).contains(&rest) {
        return Err(NotRoman);
    }
    let mut roman = String::new();
    for (value, sign) in SIGNS {
        while rest >= value {
            roman.push_str(sign);
            rest -= value;
        }
    }
    Ok(roman)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_romans_did() {
        for (number, wanted) in [("4", "IV"), ("1994", "MCMXCIV"), ("3999", "MMMCMXCIX")] {
            assert_eq!(roman(number).as_deref(), Ok(wanted));
        }
        for number in ["0", "4000", "-1", "four"] {
            assert_eq!(roman(number), Err(NotRoman));
        }
    }
}
