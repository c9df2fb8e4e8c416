//! One quantity measured several times: its median counts, its spread tells how quiet the machine was.

use std::fmt;

#[derive(Debug, Clone, Default)]
pub struct Runs(Vec<f64>);

impl Runs {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        }
    }

    pub fn largest(&self) -> f64 {
        self.sorted()[self.0.len() - 1]
    }

    fn sorted(&self) -> Vec<f64> {
        assert!(!self.0.is_empty(), "nothing was measured");
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Runs {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// `median (smallest to largest)`; the precision is that of each.
impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, sorted) = (f.precision().unwrap_or(2), self.sorted());
        let (first, last) = (sorted[0], sorted[sorted.len() - 1]);
        let text = format!(
            "{:.digits$} ({first:.digits$} to {last:.digits$})",
            self.median()
        );
        f.pad_integral(true, "", &text)
    }
}

/// For the JSON line: as many digits as mean something.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}
