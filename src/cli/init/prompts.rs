//! The five prompts. Each is answered by a flag, by a person at a terminal, or by its default.

use std::io::{BufRead, IsTerminal, stdin};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;

use super::{Connect, InitArgs, Language, Monitoring};
use tallyd_config::{Config, Origin};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answers {
    /// None: a private PostgreSQL.
    pub(super) database_url: Option<String>,
    /// Absolute, since the daemon may be started in another folder.
    pub(super) data_dir: PathBuf,
    pub(super) connect: Connect,
    /// The token of TCP clients.
    pub(super) token: Option<String>,
    pub(super) language: Language,
    pub(super) monitoring: Monitoring,
    /// The address of the daemon's API.
    pub(super) http: String,
}

impl Answers {
    /// Whether a file has a token, or a URL that may have a password.
    pub(super) fn has_secret(&self) -> bool {
        self.token.is_some() || self.database_url.is_some()
    }
}

/// Prompts for each setting without a flag.
pub(super) fn ask(args: &InitArgs, config: &Config) -> anyhow::Result<Answers> {
    let person = Person { is_there: !args.defaults && stdin().is_terminal() };
    let stated = |key: &str| matches!(config.origins.get(key), Some(Origin::Flag));
    let url = config.database.url.as_ref().map(|url| url.expose().to_owned());
    let database_url = match stated("database.url") {
        true => url,
        false => Some(person.text("PostgreSQL's URL; empty for a private one", &url.unwrap_or_default())?)
            .filter(|url| !url.is_empty()),
    };
    let folder = std::path::absolute(&args.folder)?;
    let data_dir = match stated("data_dir") {
        true => config.data_dir.clone(),
        false => person
            .text(
                "folder for the write-ahead log, and a private PostgreSQL",
                &folder.join("tallyd-data").display().to_string(),
            )?
            .into(),
    };
    let connect = person.choice("how applications connect", args.connect, Connect::Socket)?;
    let language = person.choice("the application's language", args.language, language_of(&folder))?;
    let monitoring = person.choice("monitoring", args.monitoring, Monitoring::None)?;
    let token = (connect == Connect::Tcp).then(|| hex::encode(rand::random::<[u8; 32]>()));
    let data_dir = std::path::absolute(data_dir)?;
    Ok(Answers { database_url, data_dir, connect, token, language, monitoring, http: config.http.listen.clone() })
}

/// The person at the terminal, if there is one.
struct Person {
    is_there: bool,
}

impl Person {
    fn text(&self, prompt: &str, default: &str) -> anyhow::Result<String> {
        if !self.is_there {
            return Ok(default.to_owned());
        }
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        eprint!("{prompt}{shown}: ");
        let mut line = String::new();
        if stdin().lock().read_line(&mut line)? == 0 {
            bail!("standard input has ended; nothing was written");
        }
        let line = line.trim();
        Ok(if line.is_empty() { default.to_owned() } else { line.to_owned() })
    }

    fn choice<T: ValueEnum>(&self, prompt: &str, flag: Option<T>, default: T) -> anyhow::Result<T> {
        if let Some(chosen) = flag {
            return Ok(chosen);
        }
        let name = |value: &T| value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let names: Vec<_> = T::value_variants().iter().map(name).collect();
        loop {
            let said = self.text(&format!("{prompt}: {}", names.join(", ")), &name(&default))?;
            match T::from_str(&said, true) {
                Ok(chosen) => return Ok(chosen),
                Err(_) => eprintln!("{said:?} is none of them"),
            }
        }
    }
}

/// The language, by a folder's files.
fn language_of(folder: &Path) -> Language {
    let has = |name: &str| folder.join(name).exists();
    if has("package.json") {
        Language::Node
    } else if has("pyproject.toml") || has("requirements.txt") {
        Language::Python
    } else if has("Cargo.toml") {
        Language::Rust
    } else {
        Language::Shell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_files_tell_its_language() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(language_of(folder.path()), Language::Shell);
        for (file, language) in
            [("Cargo.toml", Language::Rust), ("requirements.txt", Language::Python), ("package.json", Language::Node)]
        {
            std::fs::write(folder.path().join(file), "").unwrap();
            assert_eq!(language_of(folder.path()), language, "{file}");
        }
    }
}
