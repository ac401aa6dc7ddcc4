//! Statements with their parameters, and the rows that come back: all in binary form, so that nothing has to be quoted.

use super::error::Error;

use bytes::BytesMut;
use postgres_protocol::IsNull;

/// A parameter. Everything goes in binary form, so nothing has to be quoted.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
    Int(i64),
    Bool(bool),
    Null,
}

impl Value<'_> {
    /// The OID of its type. A NULL takes the type that the server finds for it.
    pub(super) fn oid(self) -> u32 {
        match self {
            Value::Text(_) => 25,
            Value::Bytes(_) => 17,
            Value::Int(_) => 20,
            Value::Bool(_) => 16,
            Value::Null => 0,
        }
    }
}

/// A statement with its parameters.
pub struct Statement<'a> {
    pub sql: &'a str,
    pub values: Vec<Value<'a>>,
}

impl<'a> Statement<'a> {
    pub fn new(sql: &'a str, values: impl Into<Vec<Value<'a>>>) -> Statement<'a> {
        let values = values.into();
        Statement { sql, values }
    }
}

/// What a statement has come to.
#[derive(Debug, Default)]
pub struct Done {
    pub rows: Vec<Row>,
    /// How many rows it changed or returned.
    pub count: u64,
}

/// A row, its columns in binary form.
#[derive(Debug)]
pub struct Row(pub(super) Vec<Option<Vec<u8>>>);

impl Row {
    fn column(&self, at: usize) -> Result<&[u8], Error> {
        let column = self.0.get(at).and_then(Option::as_deref);
        column.ok_or_else(|| Error::unexpected("a row with another column"))
    }

    pub fn is_null(&self, at: usize) -> bool {
        self.0.get(at).is_none_or(Option::is_none)
    }

    pub fn text(&self, at: usize) -> Result<&str, Error> {
        std::str::from_utf8(self.column(at)?)
            .map_err(|_| Error::unexpected("a text that is not UTF-8"))
    }

    pub fn int(&self, at: usize) -> Result<i64, Error> {
        let bytes = self.column(at)?;
        match bytes.len() {
            8 => Ok(bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | i64::from(*byte))),
            4 => {
                let sum = bytes
                    .iter()
                    .fold(0, |sum: u32, byte| sum << 8 | u32::from(*byte));
                Ok(i64::from(sum.cast_signed()))
            }
            _ => Err(Error::unexpected("a number of another size")),
        }
    }

    pub fn bool(&self, at: usize) -> Result<bool, Error> {
        Ok(self.column(at)? == [1])
    }

    /// Takes a column out of the row.
    pub fn take_bytes(&mut self, at: usize) -> Result<Vec<u8>, Error> {
        let column = self.0.get_mut(at).and_then(Option::take);
        column.ok_or_else(|| Error::unexpected("a row with another column"))
    }
}

pub(super) fn write_value(
    value: &Value<'_>,
    buffer: &mut BytesMut,
) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
    match value {
        Value::Text(text) => buffer.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => buffer.extend_from_slice(bytes),
        Value::Int(number) => buffer.extend_from_slice(&number.to_be_bytes()),
        Value::Bool(value) => buffer.extend_from_slice(&[u8::from(*value)]),
        Value::Null => return Ok(IsNull::Yes),
    }
    Ok(IsNull::No)
}
