//! A table of a PostgreSQL database, with vectors of pgvector or without.
//!
//! Rows come in the order and state of one moment, a portal hands out some at a
//! time. Vectors are read in their text form, which gives every digit; all other
//! columns are made JSON by the database itself, times in UTC.

use cairn_index::{SparseVector, Vector};
use postgres::config::SslMode;
use postgres::error::SqlState;
use postgres::{Client, Config, IsolationLevel, NoTls, Row as Record};
use serde_json::{Map, Value};

use super::table::{Column, Kind, Role, Row, roles, vector};
use super::{Intake, Unit};
use crate::failure::{Failure, Outcome};
use crate::progress::counting;

/// Rows that are asked for at once.
const PAGE: i32 = 500;

/// How the values of a column come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `[1,2,3]`, of `vector` and `halfvec`.
    Dense,
    /// `{1:0.5,7:2}/10`, counted from 1, of `sparsevec`.
    Sparse,
    Json,
}

/// A table, as the database describes it.
struct Table {
    /// Its name as it stands in SQL.
    name: String,
    columns: Vec<(Column, Form)>,
    key: Option<String>,
    /// Rows, as far as the database knows without counting.
    rows: usize,
}

impl Intake<'_> {
    pub(super) fn read_postgres(&mut self, url: &str) -> Outcome {
        let config: Config = url.parse().map_err(|error| failed("the database", &error))?;
        let from = shown(&config);
        self.begin(&from, Unit::Row);
        let Some(table) = self.wanted.table.clone() else {
            return Err(
                refused(&from, "name the table with --table TABLE, with its schema if need be").into()
            );
        };
        let mut client = self.connect(config, &from)?;
        let told = |error| failed(&from, &error);
        // Everything is read as of one moment.
        let transaction = client.build_transaction().read_only(true);
        let mut reading =
            transaction.isolation_level(IsolationLevel::RepeatableRead).start().map_err(told)?;
        reading.batch_execute("SET LOCAL timezone = 'UTC'").map_err(told)?;
        let table = describe(&mut reading, &table, &from)?;
        let columns: Vec<Column> = table.columns.iter().map(|(column, _)| column.clone()).collect();
        let roles = roles(&columns, &self.wanted.columns, table.key.as_deref())
            .map_err(|reason| refused(&format!("{from} {}", table.name), &reason))?;
        let portal = reading.bind(query(&table, &roles).as_str(), &[]).map_err(told)?;
        let bar = counting("importing", table.rows);
        let mut number = 0;
        loop {
            let page = reading.query_portal(&portal, PAGE).map_err(told)?;
            if page.is_empty() {
                break;
            }
            for record in &page {
                let item = row(record, &table, &roles);
                match item.and_then(|row| row.into_item(self.rows_before + number, self.strings)) {
                    Ok(item) => self.offer(Some(number + 1), Some(item))?,
                    Err(reason) => self.bad(Some(number + 1), reason)?,
                }
                number += 1;
            }
            bar.inc(page.len() as u64);
        }
        self.flush()?;
        self.rows_before += number;
        bar.finish_and_clear();
        Ok(())
    }

    fn connect(&self, mut config: Config, from: &str) -> Outcome<Client> {
        if config.get_ssl_mode() == SslMode::Require {
            return Err(refused(
                from,
                "the address asks for TLS (sslmode=require), which is not spoken here: connect to the machine \
                 itself, or through a tunnel such as `ssh -L 5432:localhost:5432 HOST`, with sslmode=disable",
            )
            .into());
        }
        let password = match &self.wanted.api_key_env {
            Some(name) => Some(std::env::var(name).map_err(|_| Failure::KeyEnv(name.clone()))?),
            None => std::env::var("PGPASSWORD").ok().filter(|_| config.get_password().is_none()),
        };
        if let Some(password) = password {
            config.password(password);
        }
        config.application_name("cairn import");
        Ok(config.connect(NoTls).map_err(|error| failed(from, &error))?)
    }
}

/// The address without its password.
fn shown(config: &Config) -> String {
    let host = config.get_hosts().first().map_or("localhost".to_owned(), |host| match host {
        postgres::config::Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        postgres::config::Host::Unix(path) => path.display().to_string(),
    });
    let port = config.get_ports().first().map_or(String::new(), |port| format!(":{port}"));
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{host}{port}/{database}")
}

fn refused(from: &str, reason: &str) -> Failure {
    Failure::Source { from: from.to_owned(), reason: reason.to_owned() }
}

/// What the database says, with its hint.
fn failed(from: &str, error: &postgres::Error) -> Failure {
    let Some(told) = error.as_db_error() else {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            reason.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        return refused(from, &reason);
    };
    let mut reason = told.message().to_owned();
    if let Some(hint) = told.hint() {
        reason.push_str(&format!(" ({hint})"));
    }
    if *told.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION && reason.contains("no encryption") {
        reason.push_str("; the server asks for TLS, which is not spoken here: connect through a tunnel");
    }
    refused(from, &reason)
}

/// What the catalogue says of a table or view.
fn describe(reading: &mut postgres::Transaction<'_>, table: &str, from: &str) -> Outcome<Table> {
    let told = |error| failed(from, &error);
    // A name is read as SQL reads it, in lower case unless it is quoted; then as it
    // stands. What SQL cannot read as a name would end the transaction.
    let found = "SELECT c.oid, c.oid::regclass::text, greatest(c.reltuples, 0)::float8 FROM pg_class c \
                 WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
    let quoted = format!("\"{}\"", table.replace('"', "\"\""));
    let is_plain = |letter: char| letter.is_alphanumeric() || "_.$".contains(letter);
    let mut record = None;
    if table.contains('"')
        || (table.chars().all(is_plain) && !table.starts_with(|letter: char| letter.is_numeric()))
    {
        record = reading.query_opt(found, &[&table]).map_err(told)?;
    }
    if record.is_none() {
        record = reading.query_opt(found, &[&quoted]).map_err(told)?;
    }
    let Some(record) = record else {
        return Err(refused(from, &format!("there is no table `{table}`; {}", tables(reading, from)?)).into());
    };
    let (oid, name, rows): (u32, String, f64) = (record.get(0), record.get(1), record.get(2));
    let columns = "SELECT a.attname::text, t.typname::text, t.typcategory = 'S' FROM pg_attribute a \
                   JOIN pg_type t ON t.oid = a.atttypid \
                   WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let columns = reading.query(columns, &[&oid]).map_err(told)?;
    let key = "SELECT a.attname::text FROM pg_index i \
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) \
               WHERE i.indrelid = $1 AND i.indisprimary";
    let key = reading.query(key, &[&oid]).map_err(told)?;
    Ok(Table {
        name,
        columns: columns.iter().map(|one| column(one.get(0), one.get(1), one.get(2))).collect(),
        // A key of several columns is no id.
        key: match key.as_slice() {
            [only] => Some(only.get(0)),
            _ => None,
        },
        rows: rows as usize,
    })
}

/// The tables there are, those with vectors first.
fn tables(reading: &mut postgres::Transaction<'_>, from: &str) -> Outcome<String> {
    let all = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
               ORDER BY NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
               WHERE a.attrelid = c.oid AND t.typname IN ('vector', 'halfvec', 'sparsevec')), 1 LIMIT 20";
    let all = reading.query(all, &[]).map_err(|error| failed(from, &error))?;
    let names: Vec<String> = all.iter().map(|one| one.get(0)).collect();
    if names.is_empty() {
        return Ok("the database has none".to_owned());
    }
    Ok(format!("there are {}", names.join(", ")))
}

fn column(name: String, type_name: &str, is_text: bool) -> (Column, Form) {
    let (kind, form) = match type_name {
        "vector" | "halfvec" => (Kind::Vector, Form::Dense),
        "sparsevec" => (Kind::Vector, Form::Sparse),
        "_float4" | "_float8" => (Kind::Vector, Form::Json),
        _ if is_text => (Kind::Text, Form::Json),
        _ => (Kind::Other, Form::Json),
    };
    (Column { name, kind }, form)
}

/// Each column but those of the payload by itself, then the payload as one object.
fn query(table: &Table, roles: &[Role]) -> String {
    let quoted = |name: &str| format!("t.\"{}\"", name.replace('"', "\"\""));
    let (mut selected, mut payload) = (Vec::new(), Vec::new());
    for ((column, form), role) in table.columns.iter().zip(roles) {
        let name = quoted(&column.name);
        match role {
            Role::LeftOut => {}
            Role::Payload => payload.push(name),
            Role::Vector(_) if *form != Form::Json => selected.push(format!("{name}::text")),
            _ => selected.push(format!("to_json({name})::text")),
        }
    }
    selected.push(if payload.is_empty() {
        "NULL::text".to_owned()
    } else {
        format!("(SELECT row_to_json(p)::text FROM (SELECT {}) AS p)", payload.join(", "))
    });
    format!("SELECT {} FROM {} AS t", selected.join(", "), table.name)
}

/// Reads a row in the order of [`query`].
fn row(record: &Record, table: &Table, roles: &[Role]) -> Result<Row, String> {
    let mut row = Row::default();
    let text = |at: usize| record.try_get::<_, Option<&str>>(at).map_err(|error| error.to_string());
    let json = |at: usize| match text(at)? {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
    };
    let mut at = 0;
    for ((column, form), role) in table.columns.iter().zip(roles) {
        match role {
            Role::LeftOut | Role::Payload => continue,
            Role::Id => row.id = Some(json(at)?),
            Role::Text => row.text = Some(json(at)?),
            Role::Title => row.title = Some(json(at)?),
            Role::Vector(called) => {
                let value = text(at)?.ok_or_else(|| format!("its `{}` is empty", column.name))?;
                let vector = match form {
                    Form::Dense | Form::Json => dense(value),
                    Form::Sparse => sparse(value),
                };
                let vector = vector.map_err(|reason| format!("its `{}` {reason}", column.name))?;
                // Sparse vectors are always named.
                let called = if *form == Form::Sparse { &column.name } else { called };
                row.vectors.insert(called.clone(), vector);
            }
        }
        at += 1;
    }
    if let Value::Object(payload) = json(at)? {
        row.payload = payload;
    } else {
        row.payload = Map::new();
    }
    Ok(row)
}

fn dense(text: &str) -> Result<Vector, String> {
    // A list of numbers alone, which is most of what comes.
    if let Ok(values) = serde_json::from_str::<Vec<f32>>(text) {
        return Ok(Vector::Dense(values));
    }
    vector(&serde_json::from_str(text).map_err(|_| "is not a list of numbers".to_owned())?)
}

fn sparse(text: &str) -> Result<Vector, String> {
    let wrong = || format!("is no sparse vector: {text}");
    let (entries, _) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')).ok_or_else(wrong)?;
    let entry = |entry: &str| {
        let (position, value) = entry.split_once(':')?;
        let position = position.trim().parse::<u32>().ok()?.checked_sub(1)?;
        Some((position, value.trim().parse::<f32>().ok()?))
    };
    let entries = entries.split(',').filter(|entry| !entry.trim().is_empty()).map(entry);
    let entries = entries.collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    SparseVector::new(entries).map(Vector::Sparse).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_read_from_their_text() {
        assert_eq!(dense("[1,2.5,-3e-05]"), Ok(Vector::Dense(vec![1.0, 2.5, -3e-5])));
        assert!(dense("[[1,2],[3,4]]").unwrap().as_multi().is_some());
        assert!(dense("[1,null]").is_err() && dense("x").is_err());
        let read = sparse("{1:0.5,7:2}/10").unwrap();
        let read = read.as_sparse().unwrap();
        assert_eq!((read.indices(), read.values()), ([0, 6].as_slice(), [0.5, 2.0].as_slice()));
        assert!(sparse("{}/10").unwrap().as_sparse().unwrap().indices().is_empty());
        for wrong in ["", "{1:0.5", "{0:1}/3", "{a:1}/3"] {
            assert!(sparse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_quoted_and_the_rest_is_one_object() {
        let columns =
            [("Id", "int8", false), ("a\"b", "vector", false), ("n", "int4", false), ("m", "text", true)];
        let columns = columns.map(|(name, of, is_text)| column(name.to_owned(), of, is_text));
        let table = Table {
            name: "s.\"T\"".to_owned(),
            columns: columns.to_vec(),
            key: Some("Id".to_owned()),
            rows: 0,
        };
        let roles = [Role::Id, Role::Vector(String::new()), Role::Payload, Role::LeftOut];
        assert_eq!(
            query(&table, &roles),
            "SELECT to_json(t.\"Id\")::text, t.\"a\"\"b\"::text, (SELECT row_to_json(p)::text FROM \
             (SELECT t.\"n\") AS p) FROM s.\"T\" AS t"
        );
        let only = [Role::Id, Role::LeftOut, Role::LeftOut, Role::LeftOut];
        assert_eq!(query(&table, &only), "SELECT to_json(t.\"Id\")::text, NULL::text FROM s.\"T\" AS t");
    }

    #[test]
    fn an_address_is_told_without_its_password() {
        let config: Config = "postgres://me:secret@db.example:5433/stones".parse().unwrap();
        assert_eq!(shown(&config), "postgres://db.example:5433/stones");
    }
}
