//! Values from a file, from the environment and from flags, laid over each other. A core: it is handed texts.
//!
//! Each value is tried alone as soon as it comes, so that an error names the one line, variable or flag at fault.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;
use toml::{Table, Value};

use super::check::{check, label};
use super::{Config, ConfigError};

/// Every variable of the environment that begins like this is a setting.
pub const VARIABLE_PREFIX: &str = "GRANDSTAND_";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file, counted from 1.
    Line(PathBuf, usize),
    /// A variable of the environment.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The values given so far, the later over the earlier.
#[derive(Debug, Default)]
pub struct Layered {
    values: Table,
    /// By `section.key`.
    origins: BTreeMap<String, Origin>,
}

impl Layered {
    /// Lays a TOML file's text over what is there. `path` is only named in errors.
    pub fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let syntax = |error: &toml::de::Error| ConfigError::Value {
            origin: Origin::Line(path.to_owned(), line_at(text, error.span().map_or(0, |span| span.start))),
            problem: error.message().to_owned(),
        };
        let document: Table = text.parse().map_err(|error| syntax(&error))?;
        let spans = DeTable::parse(text).map_err(|error| syntax(&error))?;
        for (section, value) in document {
            let (line, keys) = position(text, spans.get_ref(), &section);
            let origin = |line| Origin::Line(path.to_owned(), line);
            match value {
                Value::Table(table) if !table.is_empty() => {
                    for (key, value) in table {
                        let line = keys.map_or(line, |keys| position(text, keys, &key).0);
                        self.lay(&section, Some((&key, value)), origin(line))?;
                    }
                }
                Value::Table(_) => self.lay(&section, None, origin(line))?,
                _ => {
                    let problem = format!("{section:?} is no section; settings stand under a [section]");
                    return Err(ConfigError::Value { origin: origin(line), problem });
                }
            }
        }
        Ok(())
    }

    /// Lays the environment over what is there: `GRANDSTAND_<SECTION>_<KEY>`. Other variables are ignored.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        let settings = settings();
        for (name, text) in variables.into_iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)) {
            let Some(setting) = settings.iter().find(|setting| setting.variable == name) else {
                return Err(ConfigError::UnknownVariable { name });
            };
            let origin = Origin::Variable(name);
            let value = typed(&setting.default, text);
            self.lay(&setting.section, Some((&setting.key, value)), origin)?;
        }
        Ok(())
    }

    /// Lays one flag's value over what is there. `--store-url` is `[store] url`.
    ///
    /// # Panics
    /// When no setting has this name: flags are ours.
    pub fn flag(&mut self, name: &str, text: String) -> Result<(), ConfigError> {
        let settings = settings();
        let setting = settings.iter().find(|setting| setting.flag == name).expect("a flag names a setting");
        let value = typed(&setting.default, text);
        self.lay(&setting.section, Some((&setting.key, value)), Origin::Flag(name.to_owned()))
    }

    /// The whole, if nothing in it contradicts.
    pub fn finish(self) -> Result<Config, ConfigError> {
        let config: Config =
            self.values.try_into().expect("every value was tried alone and values are independent");
        check(&config).map_err(|contradiction| ConfigError::Contradiction {
            origins: contradiction.keys.iter().filter_map(|key| self.origins.get(key)).cloned().collect(),
            problem: contradiction.text,
        })?;
        Ok(config)
    }

    fn lay(
        &mut self,
        section: &str,
        value: Option<(&str, Value)>,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let path = value.as_ref().map_or(section.to_owned(), |(key, _)| format!("{section}.{key}"));
        let table: Table = value.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let alone = Table::from_iter([(section.to_owned(), Value::Table(table.clone()))]);
        if let Err(error) = alone.try_into::<Config>() {
            let problem = format!("{}: {}", label(&path), error.message().trim_end());
            return Err(ConfigError::Value { origin, problem });
        }
        let target = self.values.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(target) = target {
            target.extend(table);
        }
        self.origins.insert(path, origin);
        Ok(())
    }
}

/// One setting that exists, found by writing the default configuration out.
struct Setting {
    section: String,
    key: String,
    variable: String,
    flag: String,
    default: Value,
}

fn settings() -> Vec<Setting> {
    let defaults = Table::try_from(Config::default()).expect("the default configuration is a TOML table");
    let mut settings = Vec::new();
    for (section, table) in defaults {
        let Value::Table(table) = table else { continue };
        for (key, default) in table {
            let words = format!("{section}_{key}");
            settings.push(Setting {
                variable: format!("{VARIABLE_PREFIX}{}", words.to_uppercase()),
                flag: format!("--{}", words.replace('_', "-")),
                section: section.clone(),
                key,
                default,
            });
        }
    }
    settings
}

/// A text from outside TOML as a value of the default's type. One that does not read as such stays text, for the
/// setting's own reader to refuse.
fn typed(default: &Value, text: String) -> Value {
    if default.is_str() {
        return Value::String(text);
    }
    match text.trim().parse::<Value>() {
        Ok(value) => value,
        Err(_) => Value::String(text),
    }
}

/// The line of `key`, and the table behind it if it is one.
fn position<'a>(text: &str, table: &'a DeTable<'_>, key: &str) -> (usize, Option<&'a DeTable<'a>>) {
    let found = table.iter().find(|(name, _)| &**name.get_ref() == key);
    found.map_or((1, None), |(name, value)| (line_at(text, name.span().start), value.get_ref().as_table()))
}

/// The line, counted from 1, that byte `at` of `text` lies on.
fn line_at(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
