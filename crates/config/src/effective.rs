//! The configuration that is in force, as a file.

use super::Config;

impl Config {
    /// The whole configuration as TOML, secrets redacted; each value that is not a default says where it came from.
    ///
    /// # Errors
    /// If a path is not UTF-8, which TOML cannot hold.
    pub fn effective_toml(&self) -> Result<String, toml::ser::Error> {
        let plain = toml::to_string(self)?;
        let mut annotated = String::with_capacity(plain.len());
        let mut section = "";
        for line in plain.lines() {
            annotated.push_str(line);
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            }
            let key = line.split(" = ").next().unwrap_or_default();
            let key = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
            // A line inside of a text of several lines can look like a key, but does not parse alone.
            if let Some(origin) = self.origins.get(&key).filter(|_| toml::from_str::<toml::Table>(line).is_ok()) {
                annotated.push_str(&format!("  # {origin}"));
            }
            annotated.push('\n');
        }
        Ok(annotated)
    }
}
